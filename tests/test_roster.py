"""The jobs in force and their sinks: none is closed under a Run or a try, and a Run keeps those it began with."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import pytest

from fetchd.errors import SinkError
from fetchd.job import Job
from fetchd.roster import Roster, Runs
from fetchd.run import Delivery, Report, Run, deliveries_of
from fetchd.sinks import Sink
from fetchd.targets import Target
from tests.fakes import FakeSink, fetched

SLOT = datetime(2026, 3, 1, tzinfo=UTC)


class Closing(FakeSink):
    """A sink that hangs until it is let go, and tells when it was closed."""

    def __init__(self) -> None:
        super().__init__()
        self.go = asyncio.Event()
        self.entered = asyncio.Event()
        self.closed = asyncio.Event()

    async def deliver(self, delivery: Delivery) -> None:
        """Take ``delivery`` once it may."""
        assert not self.closed.is_set()
        self.entered.set()
        await self.go.wait()
        self.taken.append(delivery)

    async def aclose(self) -> None:
        """Close."""
        self.closed.set()


def job(retries: int = 0) -> Job:
    """Return a definition of the one job."""
    return Job.model_validate({"name": "a", "url": "http://upstream.test/", "retries": retries})


def roster(*sinks: Sink) -> Roster:
    """Return a roster that opens ``sinks`` one after the other, the first of them in force."""
    row = iter(sinks)
    made = Roster(lambda _job: {"sink": Target(next(row), 1.0)})
    made.put(made.open(job()))
    return made


def delivery() -> Delivery:
    """Return something to deliver."""
    return deliveries_of(Run("1", "a", SLOT), fetched(), ["sink"])[0]


async def test_a_run_keeps_the_definition_that_it_began_with() -> None:
    """It ends by it, sinks included; what comes after it finds the new one, and then the old sinks are closed."""
    old, new = Closing(), Closing()
    kept = roster(old, new)
    before = kept["a"]
    with kept.held("a") as first:
        replaced = kept.put(kept.open(job(5)))
        assert replaced is not None
        kept.retire(replaced)
        assert (first, kept["a"], kept.jobs["a"].retries) == (job(), before, 5)
        with kept.held("a") as second:
            assert second == job(5)
        assert kept["a"] is before
        await asyncio.sleep(0)
        assert not old.closed.is_set()
    assert kept["a"] is not before
    await asyncio.wait_for(old.closed.wait(), 1)
    assert not new.closed.is_set()
    await kept.aclose()
    assert new.closed.is_set()


async def test_a_sink_is_not_closed_under_a_try() -> None:
    """Nor is it tried after that: the delivery stays owed, for the sink of the new definition."""
    old, new = Closing(), Closing()
    kept = roster(old, new)
    target = kept["a"]["sink"]
    trying = asyncio.create_task(target.sink.deliver(delivery()))
    await old.entered.wait()
    replaced = kept.put(kept.open(job(5)))
    assert replaced is not None
    kept.retire(replaced)
    await asyncio.sleep(0)
    assert not old.closed.is_set()
    old.go.set()
    await trying
    await asyncio.wait_for(old.closed.wait(), 1)
    with pytest.raises(SinkError, match="replaced"):
        await target.sink.deliver(delivery())
    assert len(old.taken) == 1


async def test_runs_begin_by_the_definition_in_force() -> None:
    """A slot may be fired for a definition that has just given way; of a job that is gone there is no Run."""
    kept = roster(Closing(), Closing())
    seen: list[Job] = []

    async def act(one: Job, slot: datetime, *, by_hand: bool = False) -> Report | None:
        seen.append(one)
        return None

    runs = Runs(kept, act)
    before = kept.put(kept.open(job(5)))
    assert before is not None
    await runs.run(before.job, SLOT)
    assert seen == [job(5)]
    kept.retire(kept.remove("a"))
    assert await runs.run(before.job, SLOT) is None
    assert len(seen) == 1
    assert "a" not in kept


async def test_waiting_for_the_end_of_a_run() -> None:
    """Whoever wants to run a job by hand waits for the Run under way."""
    kept = roster(Closing())
    await kept.idle("a")
    with kept.held("a"):
        waiting = asyncio.create_task(kept.idle("a"))
        await asyncio.sleep(0)
        assert not waiting.done()
    await asyncio.wait_for(waiting, 1)
