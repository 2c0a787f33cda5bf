"""The bounded queue of lines and the one thread that writes them: a stalled reader holds nobody up."""

from __future__ import annotations

import os
import select
import threading
import time
from collections import deque
from collections.abc import Callable
from queue import SimpleQueue
from typing import Final

MAX_LINES: Final = 10_000
MAX_BYTES: Final = 8 * 2**20

_BATCH: Final = 64 * 2**10
_GATHER: Final = 0.01  # seconds the writer lets lines gather: a wake-up for each would cost the loop more than the line
_REPORT_EVERY: Final = 1.0


def journalled(fd: int, journal: str) -> bool:
    """Return whether ``fd`` leads to journald; ``journal`` is which file does, as $JOURNAL_STREAM says it.

    The variable alone says little: whatever a service starts inherits it, also where its stderr leads elsewhere.
    """
    stream = os.fstat(fd)
    return journal == f"{stream.st_dev}:{stream.st_ino}"


class LogWriter:
    """A bounded queue of lines and the one thread that writes them; ``dropped`` counts what did not fit."""

    def __init__(
        self, fd: int, report: Callable[[int], bytes], *, max_lines: int = MAX_LINES, max_bytes: int = MAX_BYTES
    ) -> None:
        self.dropped = 0
        self._fd = fd
        self._report = report
        self._max_lines = max_lines
        self._max_bytes = max_bytes
        self._lines: deque[bytes] = deque()
        self._bytes = 0
        # A destructor may log while its thread is in `put`: lock and wake-up must both let it in again.
        self._guard = threading.RLock()
        self._wake: SimpleQueue[None] = SimpleQueue()
        self._asleep = False
        self._closing = threading.Event()
        self._closed = False
        self._torn = False
        self._reported = 0
        self._report_due = 0.0
        self._thread = threading.Thread(target=self._write_all, name="log", daemon=True)

    def start(self) -> None:
        """Let the thread begin."""
        self._thread.start()

    def put(self, line: bytes) -> None:
        """Queue ``line``, which ends in a line end; or drop and count it. Never waits for the reader."""
        with self._guard:
            if self._closed or len(self._lines) >= self._max_lines or self._bytes + len(line) > self._max_bytes:
                self.dropped += 1
                return
            self._lines.append(line)
            self._bytes += len(line)
            wake, self._asleep = self._asleep, False
        if wake:
            self._wake.put(None)

    def close(self, timeout: float = 2.0) -> bool:
        """Write what is queued, for at most ``timeout`` seconds; return whether all of it was written."""
        self._closing.set()
        self._wake.put(None)
        self._thread.join(timeout)
        with self._guard:
            self._closed = True
            self.dropped += len(self._lines)
            self._lines.clear()
            self._bytes = 0
        return not self._thread.is_alive()

    def _write_all(self) -> None:
        while (batch := self._take()) is not None:
            if batch:
                if self._write(batch):
                    self._say_dropped()
                self._closing.wait(_GATHER)
            else:
                self._wake.get()
        self._report_due = 0.0
        self._say_dropped()

    def _take(self) -> bytes | None:
        """Return the next lines, empty if there are none yet, None if there will be none."""
        with self._guard:
            batch, size = [], 0
            while self._lines and size < _BATCH:
                line = self._lines.popleft()
                batch.append(line)
                size += len(line)
            self._bytes -= size
            self._asleep = not batch
            if not batch and self._closing.is_set():
                self._closed = True
                return None
        return b"".join(batch)

    def _write(self, data: bytes) -> bool:
        rest = memoryview(b"\n" + data if self._torn else data)
        while rest:
            try:
                rest = rest[os.write(self._fd, rest) :]
            except BlockingIOError:
                # Whoever shares the descriptor may have set it non-blocking.
                poll = select.poll()
                poll.register(self._fd, select.POLLOUT)
                poll.poll(1000)
            except OSError:
                # The reader is gone or its disk full, and this was the place to say so: count, tell when it flows.
                self._torn = self._torn or len(rest) < len(data)
                with self._guard:
                    self.dropped += bytes(rest[-len(data) :]).count(b"\n")
                return False
        self._torn = False
        return True

    def _say_dropped(self) -> None:
        count, now = self.dropped - self._reported, time.monotonic()
        if count and now >= self._report_due:
            self._report_due = now + _REPORT_EVERY
            if self._write(self._report(count)):
                self._reported += count
