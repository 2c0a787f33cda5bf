"""Bodies, and the memory that all of them together may take: small ones in memory, the others spooled to a file."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import tempfile
from collections import deque
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import BinaryIO, Final, TypeVar

import anyio

T = TypeVar("T")

CHUNK: Final = 64 * 1024


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
    """What was fetched: in memory, or in a spool file of its own. Closing it gives the memory back, or removes the file."""

    def __init__(self, content: bytes | Path, *, size: int, sha256: str, release: Callable[[], None] | None = None) -> None:
        self._content = content
        self._release = release
        self.size = size
        self.sha256 = sha256

    @classmethod
    def of(cls, content: bytes) -> Body:
        """Return a body of ``content`` that no budget counts."""
        return cls(content, size=len(content), sha256=hashlib.sha256(content).hexdigest())

    @property
    def path(self) -> Path | None:
        """The spool file, where the body is in one."""
        return self._content if isinstance(self._content, Path) else None

    async def read(self) -> bytes:
        """Return the whole body. A spooled one takes its size in memory for as long as the caller keeps it."""
        content = self._content
        return content if isinstance(content, bytes) else await on_disk(content.read_bytes)

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yield the body in pieces of at most 64 KiB."""
        content = self._content
        if isinstance(content, bytes):
            for start in range(0, len(content), CHUNK):
                yield content[start : start + CHUNK]
            return
        with await on_disk(lambda: content.open("rb")) as file:
            while chunk := await on_disk(lambda: file.read(CHUNK)):
                yield chunk

    def close(self) -> None:
        """Let go of the memory or the file; a second call does nothing."""
        if isinstance(self._content, Path):
            self._content.unlink(missing_ok=True)
        self._content = b""
        if self._release is not None:
            release, self._release = self._release, None
            release()


class BodyWriter:
    """Collects a body as it arrives: in memory as far as the threshold and the budget allow, else in a spool file."""

    def __init__(self, budget: MemoryBudget, spool: Path, *, spool_above: int) -> None:
        self._budget = budget
        self._spool = spool
        self._spool_above = spool_above
        self._pieces: list[bytes] = []
        self._held = 0
        self._digest = hashlib.sha256()
        self._file: BinaryIO | None = None
        self._path: Path | None = None
        self.size = 0

    async def write(self, chunk: bytes) -> None:
        """Add ``chunk``.

        Raises:
            OSError: the spool file cannot be written.
        """
        self.size += len(chunk)
        self._digest.update(chunk)
        self._pieces.append(chunk)
        if self._file is None and self.size <= self._spool_above and self._budget.try_take(len(chunk)):
            self._held += len(chunk)
            return
        if self._file is None or len(self._pieces) * CHUNK >= 16 * CHUNK:
            await self._flush()

    async def finish(self) -> Body:
        """Return the body; the writer holds nothing afterwards."""
        digest = self._digest.hexdigest()
        if self._file is None:
            held, self._held = self._held, 0
            content = b"".join(self._pieces)
            self._pieces = []
            return Body(content, size=self.size, sha256=digest, release=lambda: self._budget.give(held))
        await self._flush()
        file, path = self._file, self._path
        assert path is not None
        await on_disk(file.close)
        self._file = self._path = None
        return Body(path, size=self.size, sha256=digest)

    def abort(self) -> None:
        """Throw away what has been collected; after `finish` it does nothing."""
        self._pieces = []
        held, self._held = self._held, 0
        if held:
            self._budget.give(held)
        if self._file is not None:
            with contextlib.suppress(OSError):
                self._file.close()
        if self._path is not None:
            self._path.unlink(missing_ok=True)
        self._file = self._path = None

    async def _flush(self) -> None:
        pieces, self._pieces = self._pieces, []
        if self._file is None:
            self._path, self._file = self._create()
        file = self._file
        await on_disk(lambda: file.writelines(pieces))
        held, self._held = self._held, 0
        if held:
            self._budget.give(held)

    def _create(self) -> tuple[Path, BinaryIO]:
        descriptor, name = tempfile.mkstemp(prefix="body-", dir=self._spool)
        return Path(name), os.fdopen(descriptor, "wb", buffering=0)
