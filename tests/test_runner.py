"""The act: every ending becomes one Outcome, whatever the code inside does."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import pytest
from structlog.testing import capture_logs

from fetchd.clock import SystemClock
from fetchd.errors import FetchError, Reason, SinkError, UserCodeError
from fetchd.job import Job
from fetchd.live import TooManyStuckError
from fetchd.outbox import Outbox
from fetchd.run import Delivery, Fetched, Outcome, Progress, Report, Run, Validators
from fetchd.runner import Runner
from fetchd.sinks import Sink
from fetchd.store.memory import MemoryStore
from tests.fakes import FailingStore, FakeFetcher, FakeSink, fetched, targets
from tests.processes import until

SLOT = datetime(2026, 3, 1, tzinfo=UTC)


def job(name: str = "rates", deadline: str = "200ms", **keys: object) -> Job:
    """Return a job with a short deadline."""
    return Job.model_validate({"name": name, "url": "http://upstream.test/", "deadline": deadline, **keys})


def runner_of(
    fetcher: FakeFetcher,
    sinks: Mapping[str, Sink] | None = None,
    *,
    max_concurrent: int = 10,
    store: MemoryStore | None = None,
) -> tuple[Runner, MemoryStore]:
    """Return a runner over ``fetcher``, with ``sinks`` for the job rates, and the store that it reports to."""
    store = MemoryStore() if store is None else store
    outbox = Outbox(store, targets({"rates": sinks or {}}), SystemClock())
    return Runner(fetcher, outbox, store, SystemClock(), max_concurrent=max_concurrent), store


@asynccontextmanager
async def backstopped(runner: Runner) -> AsyncIterator[asyncio.Task[None]]:
    """Keep the backstop running."""
    task = asyncio.create_task(runner.backstop())
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def one(runner: Runner, a_job: Job | None = None, *, hour: int = 0) -> Report:
    """Run once and return the report."""
    report = await asyncio.create_task(runner.run(a_job or job(), SLOT.replace(hour=hour)))
    assert report is not None
    return report


def bringing(*results: Fetched) -> FakeFetcher:
    """Return a fetcher that brings ``results``, one after the other."""
    left = list(results)

    async def bring(_job: Job, _progress: Progress) -> Fetched:
        return left.pop(0)

    return FakeFetcher(bring)


async def hang(_job: Job, _progress: Progress) -> Fetched:
    """Never return."""
    await asyncio.Event().wait()
    raise AssertionError


async def succeed(_job: Job, progress: Progress) -> Fetched:
    """Return a result."""
    progress.status, progress.bytes = 200, 2
    return fetched()


async def test_a_run_sorts_behind_those_of_earlier_processes() -> None:
    """Also where the clock was set back while nothing ran: sinks tell by the ids which result is the newer one."""

    class Restarted(MemoryStore):
        last_run = "ffffffffff000000000.7"

    runner, _ = runner_of(FakeFetcher(succeed), store=Restarted())
    runs = [(await one(runner, hour=hour)).run.id for hour in range(2)]
    assert [Restarted.last_run, *runs] == sorted([Restarted.last_run, *runs])


async def test_a_result_reaches_every_sink_in_order() -> None:
    """The happy way: fetched, committed, delivered, reported, in one canonical line."""
    first, second = FakeSink(), FakeSink()
    runner, store = runner_of(FakeFetcher(succeed), {"first": first, "second": second})
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
    report = await one(runner_of(FakeFetcher(nothing), {"file": sink})[0])
    assert report.outcome is Outcome.UNCHANGED
    assert not sink.taken


async def test_the_first_failing_sink_ends_the_run() -> None:
    """Sinks are served in order: what comes after a failure must not overtake it."""
    before, after = FakeSink(), FakeSink()
    failing = FakeSink(SinkError("the disk is full"))
    runner, _ = runner_of(FakeFetcher(succeed), {"a": before, "b": failing, "c": after})
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
    runner, _ = runner_of(FakeFetcher(succeed), {"command": FakeSink(hang=True)})
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
        assert again.outcome is Outcome.UNCHANGED  # what came late was kept and delivered all the same


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

    runner, _ = runner_of(FakeFetcher(steps), {"a": FakeSink()}, max_concurrent=1)
    for turns in range(12):
        task = asyncio.create_task(runner.run(job(), SLOT))
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert runner.in_flight == 0
        store_slot = datetime(2026, 3, 2, tzinfo=UTC)
        assert await runner.run(job(), store_slot.replace(hour=turns)) is not None


class SlowStore(MemoryStore):
    """A store whose disk stalls until it is ``released``."""

    def __init__(self) -> None:
        super().__init__()
        self.released = asyncio.Event()

    async def commit(self, run: Run, fetched: Fetched, sinks: Sequence[str], now: datetime) -> Sequence[Delivery]:
        """Keep the result once the disk goes on."""
        await self.released.wait()
        return await super().commit(run, fetched, sinks, now)


class TestBacklog:
    """A job whose sinks take nothing must not fetch for ever."""

    @pytest.mark.parametrize("limit", [{"backlog": 2}, {"backlog_size": "2B"}])
    async def test_a_full_backlog_skips_the_slot(self, limit: dict[str, object]) -> None:
        """Before anything is fetched; it is counted and said like every skip, and ends with the backlog."""
        sink = FakeSink(SinkError("down"))
        fetcher = bringing(fetched(b"1"), fetched(b"2"), fetched(b"3"))
        runner, store = runner_of(fetcher, {"file": sink})
        for hour in (0, 1):
            assert (await one(runner, job(**limit), hour=hour)).outcome is Outcome.DELIVERY_FAILED
        with capture_logs() as lines:
            assert await runner.run(job(**limit), SLOT.replace(hour=2)) is None
        assert store.skipped["rates", Reason.BACKLOG] == 1
        assert [(line["event"], line["reason"]) for line in lines] == [("slot_skipped", "backlog")]
        assert len(fetcher.validators) == 2
        for owed in list(store.owed.values()):
            store.delivered(owed.delivery)
        assert await runner.run(job(**limit), SLOT.replace(hour=3)) is not None

    async def test_dead_letters_count_as_well(self) -> None:
        """They are kept until somebody looks: a receiver that refuses everything must not fill the disk."""
        runner, store = runner_of(FakeFetcher(succeed), {"file": FakeSink(SinkError("no", permanent=True))})
        for hour in (0, 1):
            await one(runner, job(backlog=2), hour=hour)
        assert await runner.run(job(backlog=2), SLOT.replace(hour=2)) is None
        assert (len(store.dead), store.skipped["rates", Reason.BACKLOG]) == (2, 1)


class TestUnchanged:
    """Nothing new is nothing to deliver, as long as what was last has arrived or will."""

    async def test_the_same_content_is_not_delivered_again(self) -> None:
        """Servers without validators send it each time; so do functions."""
        sink = FakeSink()
        runner, _ = runner_of(bringing(fetched(b"1"), fetched(b"1"), fetched(b"2")), {"file": sink})
        outcomes = [(await one(runner, hour=hour)).outcome for hour in range(3)]
        assert outcomes == [Outcome.SUCCEEDED, Outcome.UNCHANGED, Outcome.SUCCEEDED]
        assert len(sink.taken) == 2

    async def test_the_last_validators_are_sent(self) -> None:
        """Those of the same content too: a file that was written anew is asked for with its new date."""
        fetcher = bringing(fetched(b"1", '"a"'), fetched(b"1", '"b"'), fetched(b"2"), fetched(b"3"))
        runner, _ = runner_of(fetcher, {"file": FakeSink()})
        for hour in range(4):
            await one(runner, hour=hour)
        assert [validators.etag for validators in fetcher.validators] == [None, '"a"', '"b"', None]

    async def test_a_result_that_is_owed_counts(self) -> None:
        """It will arrive: fetching it again would deliver it twice."""
        runner, store = runner_of(bringing(fetched(b"1"), fetched(b"1")), {"file": FakeSink(SinkError("down"))})
        await one(runner)
        assert (await one(runner, hour=1)).outcome is Outcome.UNCHANGED
        assert len(store.owed) == 1

    async def test_a_dead_letter_makes_the_job_fetch_in_full(self) -> None:
        """Else the sink that has given the result up would never see it, as long as it stays the same."""
        sink = FakeSink(SinkError("no", permanent=True))
        fetcher = bringing(fetched(b"1", '"a"'), fetched(b"1", '"a"'))
        runner, _ = runner_of(fetcher, {"file": sink})
        await one(runner)
        sink.error = None
        assert (await one(runner, hour=1)).outcome is Outcome.SUCCEEDED
        assert fetcher.validators[1] == Validators()
        assert len(sink.taken) == 1

    async def test_a_result_that_could_not_be_kept_does_not_count(self) -> None:
        """What is remembered is an older one: if that comes back, the sink has to be told."""
        store, sink = FailingStore(), FakeSink()
        fetcher = bringing(fetched(b"old", '"old"'), fetched(b"new"), fetched(b"old"), fetched(b"old"))
        runner, _ = runner_of(fetcher, {"file": sink}, store=store)
        await one(runner)
        store.full = True
        assert (await one(runner, hour=1)).outcome is Outcome.SUCCEEDED
        store.full = False
        assert (await one(runner, hour=2)).outcome is Outcome.SUCCEEDED
        assert fetcher.validators[2] == Validators()
        assert (await one(runner, hour=3)).outcome is Outcome.UNCHANGED
        assert [await delivery.fetched.body.read() for delivery in sink.taken[::2]] == [b"old", b"old"]

    @pytest.mark.parametrize("keys", [{"url": "http://other.test/"}, {"headers": {"Accept": "text/csv"}}])
    async def test_another_definition_is_another_result(self, keys: dict[str, object]) -> None:
        """The date of the old address would make the server of the new one say "not modified", for ever."""
        fetcher = bringing(fetched(b"1", '"a"'), fetched(b"1", '"a"'))
        runner, _ = runner_of(fetcher, {"file": FakeSink()})
        first = job()
        await one(runner, first)
        second = job(**{"url": "http://upstream.test/", **keys})
        assert (await one(runner, second, hour=1)).outcome is Outcome.SUCCEEDED
        assert fetcher.validators[1] == Validators()

    @pytest.mark.parametrize(
        ("keys", "sent"),
        [({"on_unchanged": "deliver"}, None), ({"method": "POST"}, None), ({"method": "HEAD"}, '"a"')],
    )
    async def test_where_the_content_says_nothing(self, keys: dict[str, object], sent: str | None) -> None:
        """Who wants each result gets it; a POST is answered, not fetched; a HEAD has no content to compare."""
        fetcher = bringing(fetched(b"", '"a"'), fetched(b"", '"a"'))
        runner, _ = runner_of(fetcher, {"file": FakeSink()})
        outcomes = [(await one(runner, job(**keys), hour=hour)).outcome for hour in (0, 1)]
        assert outcomes == [Outcome.SUCCEEDED, Outcome.SUCCEEDED]
        assert fetcher.validators[1].etag == sent


class TestStore:
    """What the store does, and does not do, to a Run."""

    async def test_a_full_disk_does_not_stop_the_fetching(self) -> None:
        """The slot is run though it cannot be claimed, and delivered though it cannot be kept."""
        store, sink = FailingStore(), FakeSink()
        store.full = True
        runner, _ = runner_of(FakeFetcher(succeed), {"file": sink}, store=store)
        assert (await one(runner)).outcome is Outcome.SUCCEEDED
        sink.error = SinkError("down")
        report = await one(runner, hour=1)
        assert (report.outcome, report.reason) == (Outcome.DELIVERY_FAILED, Reason.SINK)
        assert "could not be kept" in report.message

    async def test_a_commit_that_outlasts_the_deadline_is_seen_to_its_end(self) -> None:
        """The Run ends in time and blames the disk; the result is kept, and delivered by the outbox."""
        store, sink = SlowStore(), FakeSink()
        outbox = Outbox(store, targets({"rates": {"file": sink}}), SystemClock())
        runner = Runner(FakeFetcher(succeed), outbox, store, SystemClock(), max_concurrent=1)
        report = await one(runner, job(deadline="50ms"))
        assert (report.outcome, report.reason) == (Outcome.DEADLINE_EXCEEDED, Reason.LOCAL_RESOURCE)
        task = asyncio.create_task(outbox.run())
        store.released.set()
        await until(lambda: sink.taken)
        await outbox.drain(0.0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    async def test_the_next_run_waits_for_a_commit_that_its_predecessor_could_not_wait_for(self) -> None:
        """Else it would fetch what is being kept, from the cursor before it, and deliver it twice."""
        store = SlowStore()
        fetcher = bringing(fetched(b"1", '"1"'), fetched(b"2", '"2"'))
        runner, _ = runner_of(fetcher, {"file": FakeSink()}, store=store)
        for hour in (0, 1):
            report = await one(runner, job(deadline="50ms"), hour=hour)
            assert (report.outcome, report.reason) == (Outcome.DEADLINE_EXCEEDED, Reason.LOCAL_RESOURCE)
        assert len(fetcher.validators) == 1
        store.released.set()
        assert "queued behind" in (await one(runner, job(deadline="5s"), hour=2)).message
        assert [validators.etag for validators in fetcher.validators] == [None, '"1"']

    async def test_a_slot_that_is_taken_is_not_run(self) -> None:
        """Two slots of one name are one, whoever fires them."""
        fetcher = FakeFetcher(succeed)
        runner, _ = runner_of(fetcher)
        await one(runner)
        assert await runner.run(job(), SLOT) is None
        assert len(fetcher.validators) == 1

    @pytest.mark.parametrize("turns", range(10))
    async def test_a_run_that_is_cancelled_at_any_step_keeps_its_report(self, turns: int) -> None:
        """Once it has begun, it ends in the history, however it ends."""
        runner, store = runner_of(FakeFetcher(succeed), {"file": FakeSink()})
        task = asyncio.create_task(runner.run(job(), SLOT))
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        (report,) = await asyncio.gather(task, return_exceptions=True)
        if turns:
            assert list(store.reports["rates"]) == [report]
