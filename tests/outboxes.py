"""What the tests of the outbox share: one whose time is in the test's hand, and sinks that tell on it."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any, Final

from fetchd.clock import FakeClock
from fetchd.errors import SinkError
from fetchd.outbox import Outbox
from fetchd.run import Delivery, Fetched, Progress, Run
from fetchd.sinks import Sink
from fetchd.store.memory import MemoryStore
from fetchd.targets import Sinks
from tests.fakes import FakeSink, FakeTime, fetched, targets

NOW: Final = datetime(2026, 3, 1, tzinfo=UTC)
DOWN: Final = SinkError("the receiver is down")


def run_of(number: int, job: str = "rates") -> Run:
    """Return a Run whose id sorts by its number."""
    return Run(f"{number:05}", job, NOW)


class Room:
    """An outbox whose time is in the test's hand."""

    def __init__(
        self, sinks: Sinks, store: MemoryStore | None = None, *, now: datetime = NOW, jitter: float = 1.0
    ) -> None:
        self.clock = FakeClock(now)
        self.time = FakeTime(self.clock)
        self.store = MemoryStore() if store is None else store
        self.outbox = Outbox(self.store, sinks, self.clock, jitter=lambda: jitter, wait=self.time.wait)

    async def hand_over(self, number: int, job: str = "rates", content: Fetched | None = None) -> str:
        """Hand a result over; return what went wrong."""
        try:
            await self.outbox.hand_over(run_of(number, job), content or fetched(), Progress())
        except SinkError as error:
            return str(error)
        return ""

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Let the outbox try what is owed."""
        task = asyncio.create_task(self.outbox.run())
        try:
            yield
        finally:
            await self.outbox.drain(0.0)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


def room(store: MemoryStore | None = None, **sinks: Sink) -> Room:
    """Return a room with ``sinks`` for the job rates."""
    return Room(targets({"rates": sinks}), store)


def runs(sink: FakeSink) -> list[str]:
    """Return the Runs whose results ``sink`` has taken."""
    return [delivery.run for delivery in sink.taken]


def events(lines: list[Any], event: str) -> list[Mapping[str, Any]]:
    """Return the log lines of ``event``."""
    return [line for line in lines if line["event"] == event]


async def turns(count: int) -> None:
    """Let the loop turn."""
    for _ in range(count):
        await asyncio.sleep(0)


class TimedSink(FakeSink):
    """Notes when it takes each delivery."""

    def __init__(self) -> None:
        super().__init__(DOWN)
        self.clock: FakeClock | None = None
        self.times: list[float] = []

    async def deliver(self, delivery: Delivery) -> None:
        """Take it, and note the time."""
        await super().deliver(delivery)
        assert self.clock is not None
        self.times.append(self.clock.monotonic())


class GatedSink(FakeSink):
    """Lets each delivery wait until it is opened."""

    def __init__(self) -> None:
        super().__init__()
        self.opened = asyncio.Event()

    async def deliver(self, delivery: Delivery) -> None:
        """Take it, or fail, once it is opened."""
        await self.opened.wait()
        await super().deliver(delivery)


class AloneSink(FakeSink):
    """Fails now and then, takes its time, and does not bear two at once."""

    def __init__(self, chance: random.Random, *, fails: float = 0.4, turns: int = 4) -> None:
        super().__init__()
        self._chance = chance
        self._fails = fails
        self._turns = turns
        self._busy = False
        self._seen: set[str] = set()

    async def deliver(self, delivery: Delivery) -> None:
        """Take it, or not."""
        assert not self._busy
        assert delivery.attempt > 1 or delivery.id not in self._seen
        self._busy = True
        self._seen.add(delivery.id)
        try:
            await turns(self._chance.randrange(self._turns))
            if self._chance.random() < self._fails:
                raise DOWN
            self.taken.append(delivery)
        finally:
            self._busy = False
