"""What the service manager is told, by sd_notify(3): one datagram each, never waited for, never an error."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping
from typing import Final

import structlog

log = structlog.get_logger()

_LONGEST_STATUS: Final = 512


class Notifier:
    """Speaks to the service manager at ``address``; to nobody, if that is None.

    ``watchdog_usec`` is how long the manager waits for a sign of life; ``failures`` counts what could not be sent.
    """

    def __init__(self, address: str | None, watchdog_usec: int | None = None) -> None:
        self.failures = 0
        # A leading @ is how the environment spells the leading zero byte of a name outside the file system.
        self._address = "\0" + address[1:] if address and address.startswith("@") else address
        self._watchdog_usec = watchdog_usec
        self._socket: socket.socket | None = None
        self._shown = ""

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Notifier:
        """Return what ``NOTIFY_SOCKET``, ``WATCHDOG_USEC`` and ``WATCHDOG_PID`` ask for."""
        usec = environment.get("WATCHDOG_USEC", "")
        ours = environment.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        valid = ours and usec.isascii() and usec.isdigit() and int(usec) > 0
        return cls(environment.get("NOTIFY_SOCKET") or None, int(usec) if valid else None)

    @property
    def heard(self) -> bool:
        """Whether there is anybody to be told."""
        return self._address is not None

    @property
    def watchdog_interval(self) -> float | None:
        """Seconds within which `watchdog` is to be called again; None if nobody waits for it."""
        if self._address is None or self._watchdog_usec is None:
            return None
        return self._watchdog_usec / 2_000_000

    def ready(self, status: str) -> None:
        """Say that the start, or a reload, is complete."""
        self._shown = status
        self._send("READY=1", _status(status))

    def status(self, text: str) -> None:
        """Say in a few words how things are; what it shows already is not sent."""
        if text != self._shown:
            self._shown = text
            self._send(_status(text))

    def reloading(self) -> None:
        """Say that a reload begins; `ready` ends it."""
        self._send("RELOADING=1", f"MONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")

    def stopping(self) -> None:
        """Say that the stop has begun."""
        self._send("STOPPING=1")

    def watchdog(self) -> None:
        """Give a sign of life."""
        if self._watchdog_usec is not None:
            self._send("WATCHDOG=1")

    def close(self) -> None:
        """Let go of the socket."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _send(self, *assignments: str) -> None:
        if self._address is None:
            return
        try:
            # The socket is kept: a process that has run out of descriptors is still alive and must be able to say so.
            if self._socket is None:
                kind = socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
                self._socket = socket.socket(socket.AF_UNIX, kind)
            self._socket.sendto("\n".join(assignments).encode("utf-8", "replace"), self._address)
        except OSError as error:
            self.failures += 1
            self._shown = ""
            if self.failures == 1:
                log.warning("systemd_notify_failed", assignment=assignments[0], error=error)


def _status(text: str) -> str:
    """Return ``text`` as one assignment: a line break in it would begin another."""
    return "STATUS=" + "".join(c if c.isprintable() else " " for c in text[:_LONGEST_STATUS])
