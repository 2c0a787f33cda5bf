"""Slots that are not run: each with its reason, counted, said, and never in the way of a hand."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from structlog.testing import capture_logs

from fetchd.clock import SystemClock
from fetchd.errors import FetchError, Reason, SinkError
from fetchd.job import Job
from fetchd.outbox import Outbox
from fetchd.run import Carried, Fetched, Outcome, Progress, Report, Run
from fetchd.runner import Runner
from fetchd.store import NOTHING, Memory
from fetchd.store.memory import MemoryStore
from fetchd.watch import Unwatched
from tests.fakes import FakeSink, fetched, targets
from tests.processes import until

SLOT = datetime(2026, 3, 1, tzinfo=UTC)


class Turn:
    """A host's turn that comes when the test says so."""

    def __init__(self) -> None:
        self.come = asyncio.Event()
        self.released = 0

    async def taken(self) -> None:
        """Wait for the test."""
        await self.come.wait()

    def release(self) -> None:
        """Count."""
        self.released += 1


class Source:
    """Yields what it was given, and then fails if it was told to."""

    def __init__(self, *results: Fetched, error: Exception | None = None) -> None:
        self.given = results
        self.error = error
        self.holds: Reason | None = None
        self.refuses = ""
        self.turns: Turn | None = None
        self.memories: list[Memory] = []
        self.begun = 0

    def held(self, job: Job) -> Reason | None:
        """Hold back as the test says."""
        return self.holds

    def refusal(self, job: Job) -> str:
        """Refuse as the test says."""
        return self.refuses

    def turn(self, job: Job) -> Turn | None:
        """Return the test's turn."""
        return self.turns

    async def results(self, job: Job, run: Run, progress: Progress, memory: Memory) -> AsyncGenerator[Fetched, None]:
        """Yield each result."""
        self.begun += 1
        self.memories.append(memory)
        for result in self.given:
            yield result
        if self.error is not None:
            raise self.error


class Watching(Unwatched):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.told: list[object] = []

    def started(self, run: Run) -> None:
        """Note the start."""
        self.told.append("started")

    def finished(self, report: Report) -> None:
        """Note the end."""
        self.told.append(report.outcome)

    def skipped(self, job: str, slot: datetime, reason: Reason) -> None:
        """Note the reason."""
        self.told.append(reason)


def job(**keys: object) -> Job:
    """Return a job of a minute."""
    return Job.model_validate({"name": "rates", "url": "http://upstream.test/", "interval": "1m", **keys})


class Stage:
    """A runner, and all that it stands between."""

    def __init__(self, source: Source, sink: FakeSink | None = None, *, max_concurrent: int = 10) -> None:
        self.store = MemoryStore()
        self.watcher = Watching()
        self.sink = sink or FakeSink()
        outbox = Outbox(self.store, targets({"rates": {"sink": self.sink}}), SystemClock())
        self.runner = Runner(
            source, outbox, self.store, SystemClock(), max_concurrent=max_concurrent, watcher=self.watcher
        )

    async def run(self, a_job: Job, minute: int = 0, *, by_hand: bool = False) -> Report | None:
        """Run the slot of ``minute`` in a task of its own."""
        slot = SLOT + timedelta(minutes=minute)
        return await asyncio.create_task(self.runner.run(a_job, slot, by_hand=by_hand))


async def test_a_paused_job_runs_by_hand_alone() -> None:
    """Whoever pauses a job wants its slots left out, and may still try it."""
    source = Source(fetched())
    stage = Stage(source)
    stage.store.pause("rates", True)
    with capture_logs() as logs:
        assert await stage.run(job()) is None
    assert logs == [
        {"event": "slot_skipped", "log_level": "warning", "job": "rates", "reason": "paused", "count": 1, "total": 1}
    ]
    assert stage.store.skipped["rates", Reason.PAUSED] == 1
    report = await stage.run(job(), by_hand=True)
    assert report is not None
    assert report.outcome is Outcome.SUCCEEDED
    assert stage.watcher.told == [Reason.PAUSED, "started", Outcome.SUCCEEDED]


@pytest.mark.parametrize("reason", [Reason.RETRY_AFTER, Reason.FRESH])
async def test_a_held_host_is_not_asked(reason: Reason) -> None:
    """What the host has asked for is kept to at the slot, before anything is begun."""
    source = Source(fetched())
    source.holds = reason
    stage = Stage(source)
    assert await stage.run(job()) is None
    assert source.begun == 0
    assert stage.store.skipped["rates", reason] == 1


@pytest.mark.parametrize("late", [False, True])
async def test_a_hand_that_asks_for_a_held_host_moves_nothing(late: bool) -> None:
    """A button is no evidence: no failure, no slot, no backoff, no alert and no ping comes of it."""
    source, turn = Source(fetched()), Turn()
    stage = Stage(source)
    source.turns = turn if late else None  # its host names a time while it waits for its turn
    source.refuses = "" if late else "not before noon"
    running = asyncio.create_task(stage.run(job(), by_hand=True))
    await until(lambda: stage.runner.in_flight == 1 or running.done())
    source.refuses = "not before noon"
    turn.come.set()
    report = await running
    assert report is not None
    assert (report.outcome, report.reason) == (Outcome.SKIPPED, Reason.RETRY_AFTER)
    assert report.message == "not before noon"
    assert (source.begun, turn.released, stage.runner.in_flight) == (0, int(late), 0)
    assert stage.watcher.told == []
    assert stage.store.skipped == {}
    assert stage.store.reports == {}
    assert stage.store.recall("rates") == NOTHING


async def test_a_failing_target_is_probed_until_it_is_back() -> None:
    """The rhythm slows down while the target fails, and one success brings it back."""
    source = Source(error=FetchError(Reason.CONNECT, "refused", transient=True))
    stage = Stage(source)
    a_job = job(backoff={"after": 2, "longest": "4m"})
    for minute in range(12):
        await stage.run(a_job, minute)
    probes = source.begun
    assert probes == 5  # at the minutes 0 and 1, then 3, 7 and 11
    assert stage.store.skipped["rates", Reason.BACKING_OFF] == 12 - probes
    source.error, source.given = None, (fetched(),)
    assert await stage.run(a_job, 15) is not None
    assert await stage.run(a_job, 16) is not None
    assert stage.store.recall("rates").failures == 0


async def test_those_who_wait_for_a_host_leave_the_places_to_others() -> None:
    """A Run whose host lets it wait has neither begun nor taken a place, and its next slot says starved."""
    source, turn = Source(fetched()), Turn()
    source.turns = turn
    stage = Stage(source, max_concurrent=1)
    waiting = asyncio.create_task(stage.runner.run(job(deadline="50ms"), SLOT))
    await until(lambda: stage.runner.in_flight == 1)
    source.turns = None
    other = job(name="other")
    assert await asyncio.create_task(stage.runner.run(other, SLOT)) is not None
    await stage.run(job(), 1)
    assert stage.store.skipped["rates", Reason.STARVED] == 1
    source.given = (fetched(),)
    turn.come.set()
    report = await waiting
    assert report is not None
    assert report.outcome is Outcome.SUCCEEDED
    assert report.waited > 0
    assert turn.released == 1


async def test_who_waits_for_a_host_can_be_cancelled() -> None:
    """A turn that never comes does not keep the daemon from stopping, and is given back."""
    source, turn = Source(fetched()), Turn()
    source.turns = turn
    stage = Stage(source)
    waiting = asyncio.create_task(stage.runner.run(job(), SLOT))
    await until(lambda: stage.runner.in_flight == 1)
    await stage.runner.drain(5)
    report = await waiting
    assert report is not None
    assert report.outcome is Outcome.CANCELLED
    assert turn.released == 1


async def test_the_run_of_a_removed_job_is_ended() -> None:
    """Its report says why, and whoever removes it learns when it is gone."""

    class Hanging(Source):
        async def results(
            self, job: Job, run: Run, progress: Progress, memory: Memory
        ) -> AsyncGenerator[Fetched, None]:
            self.begun += 1
            await asyncio.Event().wait()
            yield fetched()

    source = Hanging()
    stage = Stage(source)
    running = asyncio.create_task(stage.runner.run(job(), SLOT))
    await until(lambda: source.begun == 1)
    assert await stage.runner.cancel(["rates", "unknown"]) == []
    report = await running
    assert report is not None
    assert (report.outcome, report.message) == (Outcome.CANCELLED, "cancelled while its job was removed")


async def test_each_result_is_a_delivery_of_its_own() -> None:
    """Pages are handed over as they come, under ids that differ."""
    stage = Stage(Source(fetched(b"1"), fetched(b"2"), fetched(b"3")))
    report = await stage.run(job())
    assert report is not None
    assert report.outcome is Outcome.SUCCEEDED
    assert [await taken.fetched.body.read() for taken in stage.sink.taken] == [b"1", b"2", b"3"]
    ids = [taken.id for taken in stage.sink.taken]
    assert ids == [f"{report.run.id}-sink", f"{report.run.id}.2-sink", f"{report.run.id}.3-sink"]


async def test_a_sink_that_fails_keeps_no_page_from_being_kept() -> None:
    """What comes after the page that was not taken is fetched and owed as well."""
    sink = FakeSink(SinkError("full"))
    stage = Stage(Source(fetched(b"1"), fetched(b"2"), fetched(b"3")), sink)
    report = await stage.run(job())
    assert report is not None
    assert (report.outcome, report.message) == (Outcome.DELIVERY_FAILED, "sink: full")
    assert stage.store.recall("rates").owed == 3


async def test_what_came_before_a_failure_is_delivered() -> None:
    """The second page fails: the first one has reached its sink."""
    stage = Stage(Source(fetched(b"1"), error=FetchError(Reason.HTTP_5XX, "broken", transient=True)))
    report = await stage.run(job())
    assert report is not None
    assert (report.outcome, report.reason) == (Outcome.FETCH_FAILED, Reason.HTTP_5XX)
    assert len(stage.sink.taken) == 1


async def test_what_is_carried_is_kept_without_a_delivery() -> None:
    """A result that is not to be delivered still moves the cursor, and what is carried beside it."""
    source = Source(replace(fetched(), carried=Carried("1")))
    stage = Stage(source)
    await stage.run(job())
    source.given = (replace(fetched(), carried=Carried("1", page="2")),)
    again = await stage.run(job(), 1)
    source.given = (replace(fetched(b""), carried=Carried("3"), delivered=False),)
    empty = await stage.run(job(), 2)
    assert again is not None
    assert empty is not None
    assert again.outcome is empty.outcome is Outcome.UNCHANGED
    assert len(stage.sink.taken) == 1
    assert [memory.carried for memory in source.memories] == [Carried(), Carried("1"), Carried("1", page="2")]
    assert stage.store.recall("rates").carried == Carried("3")


async def test_the_same_content_behind_another_cursor_is_new() -> None:
    """Two windows may well hold the same: each is asked for once only, so each is handed over."""
    source = Source(replace(fetched(), carried=Carried("1")))
    stage = Stage(source)
    await stage.run(job())
    source.given = (replace(fetched(), carried=Carried("2")),)
    again = await stage.run(job(), 1)
    assert again is not None
    assert again.outcome is Outcome.SUCCEEDED
    assert len(stage.sink.taken) == 2
