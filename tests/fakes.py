"""Stand-ins for the seams of the runner and the outbox, each doing one thing that a test needs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from datetime import datetime

from fetchd.body import Body
from fetchd.clock import FakeClock
from fetchd.errors import Reason, StoreError
from fetchd.job import Job
from fetchd.run import Delivery, Fetched, Progress, Run, Validators
from fetchd.sinks import Sink
from fetchd.store import Lane, Memory, Owed
from fetchd.store.memory import MemoryStore
from fetchd.targets import Sinks, Target


def fetched(content: bytes = b"{}", etag: str | None = None) -> Fetched:
    """Return a result of ``content``."""
    return Fetched(
        status=200,
        url="http://upstream.test/",
        content_type="application/json",
        headers={},
        body=Body.of(content),
        validators=Validators(etag),
    )


def targets(sinks: Mapping[str, Mapping[str, Sink]], deadline: float = 5.0) -> Sinks:
    """Return ``sinks``, by job and name, each of which may take ``deadline`` seconds for a further try."""
    return {job: {name: Target(sink, deadline) for name, sink in own.items()} for job, own in sinks.items()}


class FakeFetcher:
    """Brings what its function returns, and notes which validators it was given."""

    def __init__(self, act: Callable[[Job, Progress], Awaitable[Fetched | None]]) -> None:
        self._act = act
        self.validators: list[Validators] = []

    def held(self, job: Job) -> Reason | None:
        """Hold nothing back."""
        return None

    def refusal(self, job: Job) -> str:
        """Refuse nothing."""
        return ""

    def turn(self, job: Job) -> None:
        """Let nobody wait."""

    async def results(self, job: Job, run: Run, progress: Progress, memory: Memory) -> AsyncIterator[Fetched]:
        """Yield what the test's function returns."""
        self.validators.append(memory.validators)
        progress.attempts += 1
        progress.phase = "headers"
        result = await self._act(job, progress)
        if result is not None:
            yield result


class FakeSink:
    """Keeps what it takes; fails with ``error`` for as long as there is one, or hangs."""

    def __init__(self, error: Exception | None = None, *, hang: bool = False) -> None:
        self.taken: list[Delivery] = []
        self.tries = 0
        self.error = error
        self.hang = hang

    async def deliver(self, delivery: Delivery) -> None:
        """Take ``delivery``, or fail, or hang."""
        self.tries += 1
        if self.hang:
            await asyncio.Event().wait()
        if self.error is not None:
            raise self.error
        self.taken.append(delivery)

    async def aclose(self) -> None:
        """Nothing is held."""


class FailingStore(MemoryStore):
    """A store whose disk is full for as long as ``full`` says so."""

    def __init__(self) -> None:
        super().__init__()
        self.full = False

    def _check(self) -> None:
        if self.full:
            raise StoreError("the disk is full")

    async def claim(self, run: Run) -> bool:
        """Take the slot, unless the disk is full."""
        self._check()
        return await super().claim(run)

    async def commit(self, run: Run, fetched: Fetched, sinks: Sequence[str], now: datetime) -> Sequence[Delivery]:
        """Keep the result, unless the disk is full."""
        self._check()
        return await super().commit(run, fetched, sinks, now)

    async def lanes(self) -> Sequence[Lane]:
        """Return the lanes, unless the disk is full."""
        self._check()
        return await super().lanes()

    async def first_owed(self, job: str, sink: str) -> Owed | None:
        """Return the delivery, unless the disk is full."""
        self._check()
        return await super().first_owed(job, sink)


class FakeTime:
    """Time that passes only while everybody waits: `wait` is what an outbox waits with.

    It goes on up to ``until`` by the monotonic clock; there it stands still, and `reached` is set.
    """

    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock
        self.until = clock.monotonic()
        self.reached = asyncio.Event()
        self._moved = asyncio.Event()

    async def wait(self, event: asyncio.Event, seconds: float) -> None:
        """Wait for ``event``, or for ``seconds`` to pass; first everything else does what it can do now."""
        for _ in range(20):
            await asyncio.sleep(0)
            if event.is_set():
                return
        due = self.clock.monotonic() + seconds
        if due > self.until:
            self.clock.advance(max(0.0, self.until - self.clock.monotonic()))
            self.reached.set()
            await _first(event, self._moved)
            return
        self.clock.advance(seconds)

    async def pass_by(self, seconds: float) -> None:
        """Let ``seconds`` pass."""
        self.reached.clear()
        self.until = self.clock.monotonic() + seconds
        self._moved.set()
        self._moved = asyncio.Event()
        await self.reached.wait()


async def _first(*events: asyncio.Event) -> None:
    """Wait for any of ``events``."""
    waiting = [asyncio.create_task(event.wait()) for event in events]
    try:
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in waiting:
            task.cancel()
