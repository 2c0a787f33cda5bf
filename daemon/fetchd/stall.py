"""Is the loop alive? A heartbeat in it, a thread that notices when it stops, a timer that ends the process."""

from __future__ import annotations

import asyncio
import faulthandler
import os
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from io import FileIO
from pathlib import Path
from types import FrameType
from typing import Final

import structlog

from fetchd.errors import StateError

log = structlog.get_logger()

BEAT_EVERY: Final = 0.5
NOTICE_AFTER: Final = 1.0
STALL_TIMEOUT: Final = 20.0
"""Shorter than the unit's WatchdogSec=, which ends the process too but leaves no stacks."""

_WINDOW: Final = 60.0
_LONGEST_DUMP: Final = 64 * 2**10
_LONGEST_STACK: Final = 4000
_DEEPEST_STACK: Final = 20


class Heartbeat:
    """Measures how late the loop is, and sees to it that a loop which turns no more is seen and replaced.

    ``stall_timeout`` are the seconds after which the process exits with status 1, its stacks in ``state_dir``;
    ``on_beat`` is called in the loop at each beat.
    """

    def __init__(
        self,
        state_dir: Path,
        on_beat: Callable[[], None],
        *,
        stall_timeout: float = STALL_TIMEOUT,
        notice_after: float = NOTICE_AFTER,
        beat_every: float = BEAT_EVERY,
    ) -> None:
        self._dump = _dump_path(state_dir)
        self._on_beat = on_beat
        self._stall_timeout = stall_timeout
        self._notice_after = notice_after
        self._beat_every = beat_every
        self._due: float | None = None
        self._lags: deque[tuple[float, float]] = deque()
        """When a beat was late, and by how much; none that a later one has exceeded, so the first is the longest."""

    @property
    def lag(self) -> float:
        """The longest that a beat was late within the last minute, in seconds; one that is late now included."""
        now = time.monotonic()
        longest = next((lag for at, lag in self._lags if at > now - _WINDOW), 0.0)
        return max(longest, now - self._due) if self._due is not None else longest

    async def run(self) -> None:
        """Beat until cancelled.

        Raises:
            StateError: the file for the stacks cannot be opened.
        """
        with self._dump_file() as file, self._watch(threading.get_ident()):
            try:
                while True:
                    # Its own C thread needs neither the loop nor the interpreter's lock; each call replaces the last.
                    faulthandler.dump_traceback_later(self._stall_timeout, exit=True, file=file)
                    self._due = due = time.monotonic() + self._beat_every
                    self._on_beat()
                    await asyncio.sleep(self._beat_every)
                    self.beaten(due, time.monotonic())
            finally:
                self._due = None
                faulthandler.cancel_dump_traceback_later()

    def beaten(self, due: float, now: float) -> None:
        """Note that the beat that was ``due`` has come."""
        lag = max(0.0, now - due)
        while self._lags and (self._lags[0][0] <= now - _WINDOW):
            self._lags.popleft()
        while self._lags and self._lags[-1][1] <= lag:
            self._lags.pop()
        self._lags.append((now, lag))
        if lag > self._notice_after:
            log.warning("loop_stalled", state="ended", stalled_s=round(lag, 3))

    @contextmanager
    def _dump_file(self) -> Iterator[FileIO]:
        """Open the file for the stacks. It is a real one: a stalled reader of stderr would hold up even the exit."""
        try:
            file = self._dump.open("ab", buffering=0)
        except OSError as error:
            raise StateError(f"cannot write {self._dump}: {error.strerror}") from None
        try:
            yield file
        finally:
            with suppress(OSError):  # a file system gone read-only is no reason to end otherwise than in order
                if not os.fstat(file.fileno()).st_size:
                    self._dump.unlink(missing_ok=True)
            file.close()

    @contextmanager
    def _watch(self, loop_thread: int) -> Iterator[None]:
        stop = threading.Event()
        watcher = threading.Thread(target=self._notice, args=(stop, loop_thread), name="stall", daemon=True)
        watcher.start()
        try:
            yield
        finally:
            stop.set()
            watcher.join(1.0)

    def _notice(self, stop: threading.Event, loop_thread: int) -> None:
        """Say once, and from outside the loop, that it stands and where. A beat of its own says when it turns again."""
        noticed: float | None = None
        while not stop.wait(self._notice_after / 4):
            due, now = self._due, time.monotonic()
            if due is not None and due != noticed and now - due > self._notice_after:
                noticed = due
                stack = _stack(sys._current_frames().get(loop_thread))
                log.warning("loop_stalled", state="began", stalled_s=round(now - due, 3), stack=stack)


def last_stall(state_dir: Path) -> str | None:
    """Return where the previous process stood when it was ended for a stall, and forget it; None if it was not.

    Raises:
        StateError: the file cannot be read or removed.
    """
    path = _dump_path(state_dir)
    try:
        with path.open("rb") as file:
            dump = file.read(_LONGEST_DUMP).decode("utf-8", "replace").strip()
            at = datetime.fromtimestamp(os.fstat(file.fileno()).st_mtime, UTC)
        path.unlink()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StateError(f"cannot read {path}: {error.strerror}") from None
    return f"{at.isoformat(timespec='seconds')}\n{dump}" if dump else None


def _dump_path(state_dir: Path) -> Path:
    return state_dir / "stall.txt"


def _stack(frame: FrameType | None) -> str:
    """Return the innermost calls of ``frame``, without local values."""
    return "".join(traceback.format_stack(frame, _DEEPEST_STACK))[-_LONGEST_STACK:] if frame else ""
