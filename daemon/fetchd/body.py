"""Bodies, and the memory that all of them together may take: small ones in memory, the others spooled to a file."""

from __future__ import annotations

import asyncio
import hashlib
import io
import os
import secrets
from collections import deque
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import BinaryIO, Final, TypeVar

import anyio
import structlog

T = TypeVar("T")

log = structlog.get_logger()

CHUNK: Final = 64 * 1024
UNWRITTEN: Final = 2 * CHUNK
"""What a spooled body gathers in memory before it is written; whoever reads a body reserves it."""


async def on_disk(act: Callable[[], T]) -> T:
    """Run ``act``, which touches a file system, in a thread: a disk that stalls must not stall the loop.

    A cancelled caller goes on at once; the thread is left to end by itself, so ``act`` must own what it touches.
    """
    return await anyio.to_thread.run_sync(act, abandon_on_cancel=True)


class MemoryBudget:
    """The body bytes that all Runs together may hold in memory. Waiters are served in order."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.used = 0
        self._waiters: deque[tuple[int, asyncio.Future[None]]] = deque()

    def try_take(self, size: int) -> bool:
        """Take ``size`` bytes if they are free and nobody waits; return whether they were taken."""
        if self._waiters or self.used + size > self.limit:
            return False
        self.used += size
        return True

    async def take(self, size: int) -> None:
        """Take ``size`` bytes, waiting until they are free. More than the whole budget counts as the whole."""
        size = min(size, self.limit)
        if self.try_take(size):
            return
        waiter = asyncio.get_running_loop().create_future()
        self._waiters.append((size, waiter))
        try:
            await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled():
                self.give(size)
            else:
                self._waiters = deque(entry for entry in self._waiters if entry[1] is not waiter)
                self._serve()
            raise

    def give(self, size: int) -> None:
        """Return ``size`` bytes that were taken."""
        self.used -= min(size, self.limit)
        self._serve()

    def _serve(self) -> None:
        while self._waiters:
            size, waiter = self._waiters[0]
            if self.used + size > self.limit:
                return
            self._waiters.popleft()
            if not waiter.done():
                self.used += size
                waiter.set_result(None)


class Body:
    """What was fetched: in memory, or in a file. Closing it gives back the memory, or the disk's.

    A file that is ``kept`` belongs to whoever keeps it: closing the body leaves it where it is.
    """

    def __init__(
        self,
        content: bytes | Path,
        *,
        size: int,
        sha256: str,
        release: Callable[[], None] | None = None,
        kept: bool = False,
    ) -> None:
        self._content: bytes | Path | None = content
        self._release = release
        self._kept = kept
        self.size = size
        self.sha256 = sha256

    @classmethod
    def of(cls, content: bytes) -> Body:
        """Return a body of ``content`` that no budget counts."""
        return cls(content, size=len(content), sha256=hashlib.sha256(content).hexdigest())

    @property
    def path(self) -> Path | None:
        """The file, where the body is in one."""
        return self._content if isinstance(self._content, Path) else None

    @property
    def content(self) -> bytes | None:
        """The bytes, where the body is in memory."""
        return self._content if isinstance(self._content, bytes) else None

    def keep(self) -> Body:
        """Return the same content as a body that outlives this one.

        It shares the bytes, which no budget counts once this one is closed. A file is the caller's to remove from
        now on: closing either of the two leaves it.
        """
        content, self._kept = self._there(), True
        return Body(content, size=self.size, sha256=self.sha256, kept=True)

    def open(self) -> BinaryIO:
        """Return the body as a file to read from; for threads, since it may be on a disk."""
        content = self._there()
        return io.BytesIO(content) if isinstance(content, bytes) else content.open("rb")

    async def read(self) -> bytes:
        """Return the whole body. A spooled one takes its size in memory for as long as the caller keeps it."""
        content = self._there()
        return content if isinstance(content, bytes) else await on_disk(content.read_bytes)

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yield the body in pieces of at most 64 KiB. No file stays open in between: a reader may give up."""
        content, start = self._there(), 0
        while chunk := await self._piece(content, start):
            yield chunk
            start += len(chunk)

    def close(self) -> None:
        """Let go of the memory or the file; a second call does nothing."""
        content, self._content = self._content, None
        release, self._release = self._release, None
        if isinstance(content, Path) and not self._kept:
            _remove(content)
        if release is not None:
            release()

    def _there(self) -> bytes | Path:
        if self._content is None:
            raise RuntimeError("the body is closed")  # an empty one instead would be delivered as if it were the result
        return self._content

    @staticmethod
    async def _piece(content: bytes | Path, start: int) -> bytes:
        if isinstance(content, bytes):
            return content[start : start + CHUNK]

        def read() -> bytes:
            with content.open("rb") as file:
                file.seek(start)
                return file.read(CHUNK)

        return await on_disk(read)


class BodyWriter:
    """Collects a body as it arrives: in memory as far as the threshold and the budget allow, else in a spool file."""

    def __init__(self, budget: MemoryBudget, spool: Path, *, spool_above: int) -> None:
        self._budget = budget
        self._folder = spool
        self._spool_above = spool_above
        self._unwritten = bytearray()  # one block of memory, however small the pieces that an upstream sends
        self._held = 0
        self._digest = hashlib.sha256()
        self._file: _SpoolFile | None = None
        self.size = 0

    async def write(self, chunk: bytes) -> None:
        """Add ``chunk``.

        Raises:
            OSError: the spool file cannot be written.
        """
        if not chunk:
            return
        self.size += len(chunk)
        self._digest.update(chunk)
        self._unwritten += chunk
        if self._file is None and self.size <= self._spool_above and self._budget.try_take(len(chunk)):
            self._held += len(chunk)
        elif self._file is None or len(self._unwritten) >= UNWRITTEN:
            await self._flush()

    async def settle(self) -> None:
        """Write out what a spooled body has gathered: before a pause in which nobody reserves memory for it.

        Raises:
            OSError: the spool file cannot be written.
        """
        if self._file is not None and self._unwritten:
            await self._flush()

    async def finish(self) -> Body:
        """Return the body; the writer holds nothing afterwards.

        Raises:
            OSError: the spool file cannot be written.
        """
        digest = self._digest.hexdigest()
        if self._file is not None:
            await self._flush()
            path, self._file = self._file.path, None
            return Body(path, size=self.size, sha256=digest)
        held, self._held = self._held, 0
        content, self._unwritten = bytes(self._unwritten), bytearray()
        return Body(content, size=self.size, sha256=digest, release=lambda: self._budget.give(held))

    def abort(self) -> None:
        """Throw away what has been collected; after `finish` it does nothing."""
        self._unwritten = bytearray()
        held, self._held = self._held, 0
        if held:
            self._budget.give(held)
        file, self._file = self._file, None
        if file is not None:
            file.drop()

    async def _flush(self) -> None:
        data, self._unwritten = self._unwritten, bytearray()
        if self._file is None:
            self._file = _SpoolFile(self._folder)
        file = self._file
        await on_disk(lambda: file.append(data))
        held, self._held = self._held, 0
        if held:
            self._budget.give(held)


class _SpoolFile:
    """A file that grows in threads and is dropped from the loop, while a thread that nobody waits for may still write.

    It is open only while it is written, so the last of the two to come by removes it.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / f"body-{secrets.token_hex(16)}"
        self._made = False
        self._dropped = False

    def append(self, data: bytes | bytearray) -> None:
        """Add ``data``; for threads.

        Raises:
            OSError: it cannot be written, or what was written before is gone.
        """
        try:
            with open(self.path, "r+b" if self._made else "ab", opener=_private) as file:
                self._made = True
                file.seek(0, os.SEEK_END)
                file.write(data)
        finally:
            if self._dropped:
                _remove(self.path)

    def drop(self) -> None:
        """Remove the file, now or as soon as the thread that writes to it is done."""
        self._dropped = True
        _remove(self.path)


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:  # whoever lets go of a body is on its way out: there is nobody who could do better
        log.warning("spool_file_left", path=str(path), error=error.strerror)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
