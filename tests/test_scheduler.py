"""When Runs start: APScheduler behind its fence, with the wall's clock in the test's hand."""

from __future__ import annotations

import asyncio
import contextvars
import tracemalloc
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
import time_machine
from structlog.testing import capture_logs

from fetchd import scheduler as room
from fetchd.clock import FakeClock, SystemClock
from fetchd.errors import Reason
from fetchd.job import Job
from fetchd.outbox import Outbox
from fetchd.run import Outcome, Progress
from fetchd.runner import Runner
from fetchd.schedule import schedule_of
from fetchd.scheduler import CATCH_UP_WITHIN, Scheduler, catch_up_after, missed_slot
from fetchd.store.memory import MemoryStore
from tests.fakes import FakeFetcher
from tests.processes import until

HOUR = 3600.0


def job(name: str, interval: str = "50ms", **more: object) -> Job:
    """Return a job that is due often."""
    return Job.model_validate({"name": name, "url": "http://upstream.test/", "interval": interval, **more})


class Starts:
    """Notes each start, and waits for as many as a test wants."""

    def __init__(self, act: Callable[[], Awaitable[object]] | None = None) -> None:
        self.slots: list[tuple[str, datetime]] = []
        self.skipped: Counter[str] = Counter()
        self.missed: Counter[str] = Counter()
        self._act = act
        self._changed = asyncio.Event()

    async def start(self, a_job: Job, slot: datetime) -> None:
        """Begin a Run."""
        self.slots.append((a_job.name, slot))
        self._changed.set()
        if self._act:
            await self._act()

    def skip(self, a_job: Job, _slot: datetime) -> None:
        """Count a skipped slot."""
        self.skipped[a_job.name] += 1
        self._changed.set()

    def miss(self, a_job: Job, count: int) -> None:
        """Count the slots that were passed over."""
        self.missed[a_job.name] += count

    async def until(self, reached: Callable[[], bool]) -> None:
        """Wait for starts and skips until ``reached`` says so."""
        async with asyncio.timeout(10):
            while not reached():
                self._changed.clear()
                await self._changed.wait()


@asynccontextmanager
async def running(starts: Starts, *jobs: Job) -> AsyncIterator[Scheduler]:
    """Run a scheduler with its guard."""
    scheduler = Scheduler(starts.start, starts.skip, SystemClock(), starts.miss)
    scheduler.start(jobs)
    guard = asyncio.create_task(scheduler.guard())
    try:
        yield scheduler
    finally:
        guard.cancel()
        await asyncio.gather(guard, return_exceptions=True)
        await scheduler.close()


async def test_each_slot_starts_a_run() -> None:
    """Slots are one interval apart and none is left out."""
    starts = Starts()
    async with running(starts, job("a")):
        await starts.until(lambda: len(starts.slots) >= 6)
    slots = [slot for _, slot in starts.slots]
    assert {later - earlier for earlier, later in pairwise(slots)} == {timedelta(milliseconds=50)}


async def test_a_thousand_slots_against_a_hung_upstream() -> None:
    """With the real runner: one Run is alive at any time, and each of the other slots is counted."""
    alive = peak = 0

    async def hang(_job: Job, _progress: Progress) -> None:
        nonlocal alive, peak
        alive += 1
        peak = max(peak, alive)
        await asyncio.Event().wait()

    store = MemoryStore()
    runner = Runner(FakeFetcher(hang), Outbox(store, {}, SystemClock()), store, SystemClock(), max_concurrent=10)
    # Shorter than a configuration may have it, so that a thousand slots take seconds.
    hung = job("hung").model_copy(update={"interval": 0.003, "deadline": 60.0})
    scheduler = Scheduler(runner.run, runner.skip, SystemClock())
    scheduler.start([hung])
    async with asyncio.timeout(25):
        await until(lambda: store.skipped["hung", Reason.OVERLAP] >= 999)
    scheduler.pause()
    await runner.drain(0.0)
    await scheduler.close()
    assert peak == 1
    assert [report.outcome for report in store.reports["hung"]] == [Outcome.CANCELLED]
    assert set(store.skipped) == {("hung", Reason.OVERLAP)}


@pytest.mark.parametrize("step", [-HOUR, 30 * 24 * HOUR, -30 * 24 * HOUR])
async def test_a_stepped_clock_stops_nothing(step: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Set back or forward, the next Run comes within the guard's second, one slot for any gap, without memory."""
    starts = Starts()
    with time_machine.travel(datetime.now(UTC), tick=True) as traveller:
        async with running(starts, job("often", "50ms"), job("seldom", "1h")) as scheduler:
            await starts.until(lambda: len(starts.slots) >= 2)
            tracemalloc.start()
            with capture_logs() as lines:
                traveller.shift(step)
                before = len(starts.slots)
                await starts.until(lambda: len(starts.slots) >= before + 5 and any(lines))
            _, peak = tracemalloc.get_traced_memory()
            tracemalloc.stop()
            assert [line["event"] for line in lines] == ["clock_stepped"]
            assert peak < 1_000_000
            assert starts.missed["often"] < 100  # those of a busy machine, not the millions of the month
            seldom = sum(name == "seldom" for name, _ in starts.slots)
            assert seldom <= 1
            due = scheduler.next_slot()
            assert due is not None
            assert abs((due - datetime.now(UTC)).total_seconds()) < 1
            following = scheduler.next_slots()["seldom"]
            assert timedelta(0) < following - datetime.now(UTC) <= timedelta(hours=1)


async def test_a_blocked_loop_drops_no_job() -> None:
    """APScheduler would drop a slot that is a second late; here it runs late, once."""
    starts = Starts()
    async with running(starts, job("a", "100ms")):
        await starts.until(lambda: len(starts.slots) == 1)
        asyncio.get_running_loop().call_soon(lambda: __import__("time").sleep(1.2))
        await starts.until(lambda: len(starts.slots) == 3)
    first, late, following = (slot for _, slot in starts.slots)
    assert late - first >= timedelta(seconds=1)
    assert following - late == timedelta(milliseconds=100)
    assert starts.missed["a"] == (late - first) // timedelta(milliseconds=100) - 1


async def test_slots_that_were_passed_over_are_said_unless_the_clock_was_set() -> None:
    """What a stalled loop did not run is counted; what a clock leapt over was never due."""
    starts = Starts()
    clock = FakeClock(datetime.now(UTC))
    scheduler = Scheduler(starts.start, starts.skip, clock)
    scheduler.start([job("a", "1h")])
    trigger = scheduler._slots.lookup_job("a").trigger
    slot = scheduler.next_slots()["a"]
    late = slot + timedelta(hours=3)
    with capture_logs() as lines:
        assert trigger.get_next_fire_time(slot, late) == late
        assert trigger.get_next_fire_time(late, late) == late + timedelta(hours=1)
        assert [(line["event"], line["job"], line["count"]) for line in lines] == [("slots_missed", "a", 3)]
        clock.step(HOUR)
        assert trigger.get_next_fire_time(slot, late) == late
        assert len(lines) == 1
    await scheduler.close()


class Astray:
    """A schedule that names no later slot."""

    def after(self, moment: datetime) -> datetime:
        """Return what is not later."""
        return moment - timedelta(hours=1)

    def latest(self, moment: datetime) -> datetime:
        """Return what has long passed."""
        return moment - timedelta(days=1)

    def between(self, _earlier: datetime, _later: datetime) -> int:
        """Return nothing of interest."""
        return 0


def test_a_schedule_gone_astray_does_not_hang_the_loop() -> None:
    """APScheduler asks for slots until one lies ahead: each must be later than the last, whatever the schedule says."""
    trigger = room._DueSlots(Astray(), lambda _earlier, _later: None)
    now = datetime(2026, 10, 25, 1, 13, tzinfo=UTC)
    with capture_logs() as lines:
        for previous in (None, now, now + timedelta(minutes=1), now - timedelta(minutes=1)):
            following = trigger.get_next_fire_time(previous, now)
            assert following is not None
            assert following > max(now, previous or now)
    assert {line["event"] for line in lines} == {"schedule_astray"}


async def test_no_context_leaks_into_runs() -> None:
    """What the caller had bound when it added the job must not show in the job's log lines."""
    leaked = contextvars.ContextVar("leaked", default="clean")
    seen: list[str] = []

    async def look() -> None:
        seen.append(leaked.get())

    leaked.set("request 42")
    starts = Starts(look)
    async with running(starts, job("a")):
        await starts.until(lambda: len(starts.slots) >= 2)
    assert set(seen) == {"clean"}


async def test_a_herd_is_admitted_in_small_groups() -> None:
    """Five hundred cron jobs due at one instant must not hold up the loop: others get their turn in between."""
    turns: list[int] = []
    starts = Starts()
    due = datetime.now(UTC) + timedelta(seconds=3)  # by then all of them are there
    jobs = [job(f"job-{number}", cron=f"{due.second} * * * * *") for number in range(500)]

    async def watch() -> None:
        before = 0
        while True:
            await asyncio.sleep(0)
            if len(starts.slots) != before:
                turns.append(len(starts.slots) - before)
                before = len(starts.slots)

    async with running(starts, *jobs):
        watcher = asyncio.create_task(watch())
        await starts.until(lambda: len(starts.slots) >= 500)
        watcher.cancel()
    assert max(turns) <= 2 * room.STARTS_A_TURN
    assert len({slot for _, slot in starts.slots[:500]}) == 1


async def test_a_lost_timer_is_noticed_and_mended() -> None:
    """Should APScheduler ever lose its wake-up, the daemon would go silent: the guard wakes it and says so."""
    starts = Starts()
    async with running(starts, job("a", "100ms")) as scheduler:
        await starts.until(lambda: len(starts.slots) >= 1)
        with capture_logs() as lines:
            scheduler._scheduler._stop_timer()
            before = len(starts.slots)
            await starts.until(lambda: len(starts.slots) >= before + 2)
        assert "scheduler_stalled" in {line["event"] for line in lines}


async def test_pausing_starts_nothing_more() -> None:
    """The first thing that a stop does."""
    starts = Starts()
    async with running(starts, job("a", "20ms")) as scheduler:
        await starts.until(lambda: len(starts.slots) >= 2)
        scheduler.pause()
        before = len(starts.slots)
        await asyncio.sleep(0.1)
        assert len(starts.slots) == before


async def test_nothing_is_late_while_pausing() -> None:
    """A drain takes up to a minute: the guard must not cry each second that slots are not dispatched."""
    starts = Starts()
    clock = FakeClock(datetime.now(UTC))
    scheduler = Scheduler(starts.start, starts.skip, clock)
    scheduler.start([job("a", "1h")])
    clock.advance(2 * HOUR)
    assert scheduler.late() >= HOUR
    scheduler.pause()
    assert scheduler.late() == 0.0
    await scheduler.close()
    assert scheduler.late() == 0.0


async def test_a_crash_in_a_run_is_said_and_the_job_goes_on() -> None:
    """A defect of ours must not turn a job silent."""

    async def crash() -> None:
        raise RuntimeError("boom")

    starts = Starts(crash)
    with capture_logs() as lines:
        async with running(starts, job("a")):
            await starts.until(lambda: len(starts.slots) >= 3)
    assert [line["event"] for line in lines][:2] == ["run_crashed"] * 2


async def test_ten_thousand_jobs_are_armed_quickly() -> None:
    """Arming is linear: the first slot of each is computed, nothing is enumerated."""
    starts = Starts()
    async with running(starts, *(job(f"job-{number}", "1h") for number in range(10_000))) as scheduler:
        assert scheduler.next_slot() is not None
        assert len(scheduler.next_slots()) == 10_000


async def test_what_was_due_but_not_started_does_not_count_as_alive() -> None:
    """Pausing takes it back; were it left counted as running, the job would never run again."""
    starts = Starts()
    jobs = [job(f"job-{number}", cron="* * * * * *") for number in range(500)]
    async with running(starts, *jobs) as scheduler:
        await starts.until(lambda: len(starts.slots) > 0)
        scheduler.pause()
        await asyncio.sleep(0)
        scheduler._scheduler.resume()
        await starts.until(lambda: len({name for name, _ in starts.slots}) == 500)
        assert not starts.skipped


class TestReload:
    """Jobs that come, change and go while others run."""

    async def test_a_job_that_comes_is_run(self) -> None:
        """From its next slot on, and the others as before."""
        starts = Starts()
        async with running(starts, job("a")) as scheduler:
            scheduler.add(job("b"))
            await starts.until(lambda: len({name for name, _ in starts.slots}) == 2)
        slots = [slot for name, slot in starts.slots if name == "a"]
        assert {later - earlier for earlier, later in pairwise(slots)} <= {timedelta(milliseconds=50)}

    async def test_a_job_that_goes_is_not_run_any_more(self) -> None:
        """Not even if it is due already; the Run under way is others' business, and it may come back meanwhile."""
        release = asyncio.Event()
        starts = Starts(release.wait)
        many = [job(f"job-{number}", cron="* * * * * *") for number in range(100)]
        async with running(starts, *many) as scheduler:
            await starts.until(lambda: len(starts.slots) > 0)
            begun = {name for name, _ in starts.slots}
            for one in many:
                scheduler.remove(one.name)
            assert scheduler.next_slots() == {}
            for _ in range(10):
                await asyncio.sleep(0)
            # Tasks that exist already begin; whether there is such a job they ask themselves.
            assert len({name for name, _ in starts.slots} - begun) <= room.STARTS_A_TURN
            back = next(one for one in many if one.name in begun)
            scheduler.add(back)
            await starts.until(lambda: starts.skipped[back.name] >= 1)
            release.set()
            await starts.until(lambda: [name for name, _ in starts.slots].count(back.name) == 2)

    async def test_a_change_that_leaves_the_schedule_does_not_put_it_off(self) -> None:
        """However often it comes: a job that is armed anew at each reload would never be run."""
        starts = Starts()
        async with running(starts, job("a", "100ms")) as scheduler:
            for retries in range(60):
                scheduler.replace(job("a", "100ms", retries=retries % 3))
                await asyncio.sleep(0.01)
            await starts.until(lambda: len(starts.slots) >= 4)
        slots = [slot for _, slot in starts.slots]
        assert {later - earlier for earlier, later in pairwise(slots)} == {timedelta(milliseconds=100)}

    async def test_another_schedule_counts_at_once(self) -> None:
        """A job that was due tomorrow is due in a moment, by its new definition; and the other way round."""
        seen: list[Job] = []

        async def start(one: Job, _slot: datetime) -> None:
            seen.append(one)

        scheduler = Scheduler(start, Starts().skip, SystemClock())
        scheduler.start([job("a", "1d")])
        changed = job("a", "50ms")
        scheduler.replace(changed)
        await until(lambda: len(seen) >= 2)
        assert seen[0] is changed
        scheduler.replace(job("a", "1d"))
        await asyncio.sleep(0)
        before = len(seen)
        due = scheduler.next_slots()["a"]
        assert due - datetime.now(UTC) > timedelta(seconds=1)
        await asyncio.sleep(0.12)
        assert len(seen) <= before + 1
        await scheduler.close()

    async def test_a_step_of_the_clock_is_told(self) -> None:
        """Once, to whoever counts them."""
        told: list[str] = []
        clock = FakeClock(datetime.now(UTC))
        starts = Starts()
        scheduler = Scheduler(starts.start, starts.skip, clock, starts.miss, lambda: told.append("stepped"))
        scheduler.start([job("a", "1h")])
        guard = asyncio.create_task(scheduler.guard())
        await asyncio.sleep(0)
        clock.step(HOUR)
        with capture_logs():
            await until(lambda: told)
        guard.cancel()
        await asyncio.gather(guard, return_exceptions=True)
        await scheduler.close()
        assert told == ["stepped"]


class TornClock(FakeClock):
    """A clock on a machine so busy that a second passes between the first two looks."""

    looks = 0

    def monotonic(self) -> float:
        """Return seconds, late ones at first."""
        self.looks += 1
        if self.looks == 2:
            self.advance(1.0)
        return super().monotonic()


async def test_a_busy_machine_is_no_step_of_the_clock() -> None:
    """Were it taken for one, slots would be passed over that nobody counts."""
    torn = TornClock(datetime.now(UTC))
    plain = FakeClock(torn.now())
    offsets = [Scheduler(Starts().start, Starts().skip, clock)._known_offset for clock in (torn, plain)]
    assert offsets[0] == pytest.approx(offsets[1], abs=0.01)


class TestCatchUp:
    """A slot that passed while the daemon was down."""

    NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)

    def test_the_latest_of_the_missed_slots_is_run(self) -> None:
        """However many there were: the result of now is the same for all of them."""
        daily = job("a", "1h", catch_up=True)
        latest = schedule_of(daily).latest(self.NOW)
        assert latest is not None
        assert missed_slot(daily, self.NOW - timedelta(days=3), self.NOW) == latest
        assert missed_slot(daily, latest, self.NOW) is None

    @pytest.mark.parametrize(
        ("keys", "last"),
        [
            ({}, NOW - timedelta(days=3)),
            ({"catch_up": True}, None),
            ({"catch_up": True}, NOW + timedelta(days=3)),
            ({"catch_up": True, "interval": "10ms"}, NOW - timedelta(days=3)),
        ],
    )
    def test_there_is_nothing_to_catch_up_with(self, keys: dict[str, object], last: datetime | None) -> None:
        """Not asked for; never run before; a clock that was ahead; the next slot comes first anyway."""
        assert missed_slot(job("a", **{"interval": "1h", **keys}), last, self.NOW) is None

    def test_jobs_are_spread(self) -> None:
        """A thousand jobs that catch up at once would be the herd that their phases avoid."""
        delays = [catch_up_after(f"job-{number}") for number in range(1000)]
        assert 0.0 <= min(delays) < 0.1 * CATCH_UP_WITHIN < 0.9 * CATCH_UP_WITHIN < max(delays) <= CATCH_UP_WITHIN

    async def test_it_is_run_once_beside_the_schedule(self) -> None:
        """With the slot that was missed, and not while a Run of the job is alive."""
        release = asyncio.Event()
        starts = Starts(release.wait)
        name = min((f"job-{number}" for number in range(2000)), key=catch_up_after)  # at once, as good as
        scheduler = Scheduler(starts.start, starts.skip, SystemClock())
        scheduler.start([job(name, "1h")], {name: self.NOW})
        await starts.until(lambda: bool(starts.slots))
        scheduler._catch_up(name, self.NOW)
        assert starts.skipped == {name: 1}
        release.set()
        assert starts.slots == [(name, self.NOW)]
        await scheduler.close()

    async def test_a_stop_comes_first(self) -> None:
        """Nothing begins once the daemon stops."""
        starts = Starts()
        scheduler = Scheduler(starts.start, starts.skip, SystemClock())
        scheduler.start([job("a", "1h")], {"a": self.NOW})
        timers = list(scheduler._missed)
        await scheduler.close()
        assert [timer.cancelled() for timer in timers] == [True]
