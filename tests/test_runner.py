"""The act: every ending becomes one Outcome, whatever the code inside does."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import pytest
from structlog.testing import capture_logs

from fetchd.clock import SystemClock
from fetchd.errors import FetchError, Reason, SinkError, UserCodeError
from fetchd.job import Job
from fetchd.run import Fetched, Outcome, Progress, Report
from fetchd.runner import Runner, Sinks, TooManyStuckError
from fetchd.store.memory import MemoryStore
from tests.fakes import FakeFetcher, FakeSink, fetched
from tests.processes import until

SLOT = datetime(2026, 3, 1, tzinfo=UTC)


def job(name: str = "rates", deadline: str = "200ms") -> Job:
    """Return a job with a short deadline."""
    return Job.model_validate({"name": name, "url": "http://upstream.test/", "deadline": deadline})


def runner_of(
    fetcher: FakeFetcher, sinks: Sinks | None = None, *, max_concurrent: int = 10
) -> tuple[Runner, MemoryStore]:
    """Return a runner over ``fetcher`` and the store that it reports to."""
    store = MemoryStore()
    return Runner(fetcher, sinks or {}, store, SystemClock(), max_concurrent=max_concurrent), store


@asynccontextmanager
async def backstopped(runner: Runner) -> AsyncIterator[asyncio.Task[None]]:
    """Keep the backstop running."""
    task = asyncio.create_task(runner.backstop())
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def one(runner: Runner, a_job: Job | None = None) -> Report:
    """Run once and return the report."""
    report = await asyncio.create_task(runner.run(a_job or job(), SLOT))
    assert report is not None
    return report


async def hang(_job: Job, _progress: Progress) -> Fetched:
    """Never return."""
    await asyncio.Event().wait()
    raise AssertionError


async def succeed(_job: Job, progress: Progress) -> Fetched:
    """Return a result."""
    progress.status, progress.bytes = 200, 2
    return fetched()


async def test_a_result_reaches_every_sink_in_order() -> None:
    """The happy way: fetched, committed, delivered, reported, in one canonical line."""
    first, second = FakeSink(), FakeSink()
    runner, store = runner_of(FakeFetcher(succeed), {"rates": [("first", first), ("second", second)]})
    with capture_logs() as lines:
        report = await one(runner)
    assert (report.outcome, report.status, report.attempts, report.bytes) == (Outcome.SUCCEEDED, 200, 1, 2)
    assert first.taken[0].id == f"{report.run.id}-first"
    assert second.taken[0].slot == SLOT
    assert not store.owed
    (line,) = lines
    assert line["event"] == "run_finished"
    assert {
        "job",
        "run",
        "slot",
        "outcome",
        "reason",
        "status",
        "bytes",
        "attempts",
        "duration_s",
        "lateness_s",
    } <= set(line)


@pytest.mark.parametrize(
    ("error", "outcome", "reason"),
    [
        (FetchError(Reason.HTTP_5XX, "the server answered 500", transient=True), Outcome.FETCH_FAILED, Reason.HTTP_5XX),
        (UserCodeError("boom"), Outcome.FETCH_FAILED, Reason.COLLECT),
        (ZeroDivisionError("boom"), Outcome.FETCH_FAILED, Reason.INTERNAL),
    ],
)
async def test_every_failure_of_the_fetch_has_its_reason(error: Exception, outcome: Outcome, reason: Reason) -> None:
    """An error that no one expected is an outcome as well, never a dead job."""

    async def fail(_job: Job, _progress: Progress) -> Fetched:
        raise error

    with capture_logs():  # drawing a traceback for a person takes longer than the deadline is
        report = await one(runner_of(FakeFetcher(fail))[0])
    assert (report.outcome, report.reason) == (outcome, reason)
    assert str(error) in report.message


async def test_nothing_new_is_a_good_outcome() -> None:
    """A function that returns None has nothing to deliver, and no sink is bothered."""

    async def nothing(_job: Job, _progress: Progress) -> None:
        return None

    sink = FakeSink()
    report = await one(runner_of(FakeFetcher(nothing), {"rates": [("file", sink)]})[0])
    assert report.outcome is Outcome.UNCHANGED
    assert not sink.taken


async def test_the_first_failing_sink_ends_the_run() -> None:
    """Sinks are served in order: what comes after a failure must not overtake it."""
    before, after = FakeSink(), FakeSink()
    failing = FakeSink(SinkError("the disk is full"))
    runner, _ = runner_of(FakeFetcher(succeed), {"rates": [("a", before), ("b", failing), ("c", after)]})
    report = await one(runner)
    assert (report.outcome, report.reason) == (Outcome.DELIVERY_FAILED, Reason.SINK)
    assert report.message == "b: the disk is full"
    assert (len(before.taken), len(after.taken)) == (1, 0)


async def test_the_deadline_ends_a_hung_fetch() -> None:
    """The reason is the phase in which the time ran out."""
    report = await one(runner_of(FakeFetcher(hang))[0])
    assert (report.outcome, report.reason) == (Outcome.DEADLINE_EXCEEDED, Reason.TIMEOUT_READ)
    assert "headers" in report.message


async def test_the_deadline_covers_the_deliveries() -> None:
    """A sink that hangs must not hold the Run longer than an upstream may."""
    runner, _ = runner_of(FakeFetcher(succeed), {"rates": [("command", FakeSink(hang=True))]})
    report = await one(runner)
    assert (report.outcome, report.reason) == (Outcome.DEADLINE_EXCEEDED, Reason.SINK)
    assert report.phase == "deliver:command"


async def test_time_spent_without_giving_way_counts() -> None:
    """Code that blocks past the deadline and then returns in peace was late all the same."""

    async def burn(_job: Job, _progress: Progress) -> Fetched:
        time.sleep(0.06)
        return fetched()

    report = await one(runner_of(FakeFetcher(burn))[0], job(deadline="50ms"))
    assert report.outcome is Outcome.DEADLINE_EXCEEDED


async def test_swallowing_the_cancellation_once_does_not_help() -> None:
    """The backstop cancels again, and the outcome is not what the swallowing code pretends."""

    async def swallow(_job: Job, _progress: Progress) -> Fetched:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            await asyncio.Event().wait()
        return fetched()

    runner, _ = runner_of(FakeFetcher(swallow))
    async with backstopped(runner):
        report = await one(runner)
    assert (report.outcome, report.duration < 0.6) == (Outcome.DEADLINE_EXCEEDED, True)


async def test_a_run_that_cannot_be_cancelled_is_given_up() -> None:
    """It is reported as stuck, its place goes to others, its job is not started again, and it may still end later."""
    release = asyncio.Event()

    async def stubborn(a_job: Job, _progress: Progress) -> Fetched:
        while a_job.name == "rates" and not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                continue
        return fetched()

    runner, store = runner_of(FakeFetcher(stubborn), max_concurrent=1)
    async with backstopped(runner):
        task = asyncio.create_task(runner.run(job(), SLOT))
        await until(lambda: store.reports)
        report = store.reports["rates"][0]
        assert (report.outcome, report.reason) == (Outcome.DEADLINE_EXCEEDED, Reason.STUCK)
        assert await runner.run(job(), SLOT) is None
        assert store.skipped["rates", Reason.STUCK] == 1
        assert (await one(runner, job("other"))).outcome is Outcome.SUCCEEDED
        release.set()
        assert await task is None
        again = await runner.run(job(), SLOT.replace(hour=1))
        assert again is not None
        assert again.outcome is Outcome.SUCCEEDED


async def test_too_many_stuck_runs_end_the_process() -> None:
    """Eleven runs that ignore cancellation are a leak that only a new process can mend."""

    async def stubborn(_job: Job, _progress: Progress) -> Fetched:
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                continue
        return fetched()

    release = asyncio.Event()
    runner, _ = runner_of(FakeFetcher(stubborn), max_concurrent=20)
    tasks = [asyncio.create_task(runner.run(job(f"job-{number}", "20ms"), SLOT)) for number in range(11)]
    with pytest.raises(TooManyStuckError):
        await runner.backstop()
    release.set()
    await asyncio.gather(*tasks)


async def test_a_slot_that_finds_its_run_alive_is_skipped_and_counted() -> None:
    """At most one Run of a job exists at any time; the log is told once, not a thousand times."""
    runner, store = runner_of(FakeFetcher(hang))
    with capture_logs() as lines:
        task = asyncio.create_task(runner.run(job(), SLOT))
        await asyncio.sleep(0)
        for _ in range(999):
            assert await runner.run(job(), SLOT) is None
        assert runner.in_flight == 1
        await task
    assert store.skipped["rates", Reason.OVERLAP] == 999
    skips = [line["count"] for line in lines if line["event"] == "slot_skipped"]
    assert skips == [1, 998]


async def test_the_deadline_begins_when_a_place_is_free() -> None:
    """A job that had to wait for others must not pay for it with its own time."""

    async def half(_job: Job, _progress: Progress) -> Fetched:
        await asyncio.sleep(0.12)
        return fetched()

    runner, store = runner_of(FakeFetcher(half), max_concurrent=1)
    first, second = asyncio.create_task(runner.run(job("a"), SLOT)), asyncio.create_task(runner.run(job("b"), SLOT))
    await asyncio.sleep(0.01)
    assert await runner.run(job("b"), SLOT) is None
    reports = await asyncio.gather(first, second)
    assert [report.outcome for report in reports if report] == [Outcome.SUCCEEDED] * 2
    assert reports[1] is not None
    assert reports[1].waited > 0.1
    assert store.skipped["b", Reason.STARVED] == 1


async def test_draining_waits_then_cancels() -> None:
    """What can end in time ends well; the rest is cancelled, and said to be."""

    async def by_name(a_job: Job, progress: Progress) -> Fetched:
        if a_job.name == "quick":
            await asyncio.sleep(0.02)
            return fetched()
        return await hang(a_job, progress)

    runner, store = runner_of(FakeFetcher(by_name))
    tasks = [asyncio.create_task(runner.run(job(name, "10s"), SLOT)) for name in ("quick", "hung")]
    await asyncio.sleep(0)
    await runner.drain(0.1)
    await asyncio.gather(*tasks)
    assert store.reports["quick"][0].outcome is Outcome.SUCCEEDED
    assert (store.reports["hung"][0].outcome, store.reports["hung"][0].reason) == (Outcome.CANCELLED, Reason.SHUTDOWN)
    assert runner.in_flight == 0


async def test_random_cancellations_leave_nothing_behind() -> None:
    """Places are given back and no job stays marked as alive, wherever the cancellation lands."""

    async def steps(_job: Job, _progress: Progress) -> Fetched:
        for _ in range(6):
            await asyncio.sleep(0)
        return fetched()

    runner, _ = runner_of(FakeFetcher(steps), {"rates": [("a", FakeSink())]}, max_concurrent=1)
    for turns in range(12):
        task = asyncio.create_task(runner.run(job(), SLOT))
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert runner.in_flight == 0
        store_slot = datetime(2026, 3, 2, tzinfo=UTC)
        assert await runner.run(job(), store_slot.replace(hour=turns)) is not None
