"""When Runs start: APScheduler, fenced. The only room that knows it.

What the fence keeps out, each found on a running scheduler: a clock that is set back silences every job until it has
caught up; one that is set forward enumerates each missed slot; a late loop drops slots; contexts leak from whoever
adds a job into every later run; a herd of due jobs starts within one turn of the loop; a shutdown cancels runs
without waiting for them.
"""

from __future__ import annotations

import asyncio
import contextvars
import hashlib
from collections import deque
from collections.abc import Callable, Coroutine, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, Final

import structlog
from apscheduler.events import EVENT_JOB_MAX_INSTANCES, JobSubmissionEvent
from apscheduler.executors.base import BaseExecutor, MaxInstancesReachedError
from apscheduler.jobstores.memory import MemoryJobStore
from apscheduler.schedulers.asyncio import AsyncIOScheduler
from apscheduler.schedulers.base import STATE_RUNNING
from apscheduler.triggers.base import BaseTrigger

from fetchd.clock import Clock
from fetchd.job import Job
from fetchd.schedule import Schedule, schedule_of

log = structlog.get_logger()

GUARD_EVERY: Final = 1.0
STEP: Final = 0.5
"""Seconds by which the wall's clock may leave the monotonic one between two looks; more is a step."""
CLOSE: Final = 0.01
READINGS: Final = 5
"""Seconds within which both clocks are to be read, and how often that is tried: a process that had to wait for its turn
between the two would take that for a step.
"""
LATE: Final = 2.0
"""Seconds after which a slot that is still not dispatched means that the scheduler has lost its timer."""
STARTS_A_TURN: Final = 20
"""Runs started within one turn of the loop."""
REARMS_A_TURN: Final = 100
ASTRAY: Final = timedelta(hours=1)
"""How long a job waits whose schedule names no later slot than the last one."""
CATCH_UP_WITHIN: Final = 10.0
"""Seconds over which the slots that passed while the daemon was down are spread."""

Start = Callable[[Job, datetime], Coroutine[Any, Any, object]]
"""Begins a Run of a job for a slot."""
Skip = Callable[[Job, datetime], None]
"""Is told of a slot that found the job's Run alive."""
Stepped = Callable[[], None]
"""Is told that the wall's clock was stepped."""
Missed = Callable[[Job, int], None]
"""Is told how many due slots of a job were passed over because the loop was late."""


def say_missed(job: Job, count: int) -> None:
    """Tell the log alone."""
    log.warning("slots_missed", job=job.name, count=count)


def _nobody() -> None:
    """Tell nobody."""


class Scheduler:
    """Starts a Run of each job at each of its slots, at most one at a time."""

    def __init__(
        self, start: Start, skip: Skip, clock: Clock, missed: Missed = say_missed, stepped: Stepped = _nobody
    ) -> None:
        self._jobs: dict[str, Job] = {}
        self._skip = skip
        self._clock = clock
        self._tell_missed = missed
        self._tell_stepped = stepped
        self._known_offset = self._offset()
        self._starts = _Starts(lambda name, slot: start(self._jobs[name], slot))
        self._slots = _Slots()
        self._scheduler = AsyncIOScheduler(
            timezone=UTC, executors={"default": self._starts}, jobstores={"default": self._slots}
        )
        self._scheduler.add_listener(self._overlapped, EVENT_JOB_MAX_INSTANCES)
        self._missed: list[asyncio.TimerHandle] = []

    def start(self, jobs: Iterable[Job], missed: Mapping[str, datetime] | None = None) -> None:
        """Arm the slots of ``jobs`` and begin to dispatch; ``missed`` slots, by job, are run within a few seconds."""
        for job in jobs:
            self.add(job)
        self._scheduler.start()
        loop = asyncio.get_running_loop()
        for name, slot in (missed or {}).items():
            self._missed.append(loop.call_later(catch_up_after(name), self._catch_up, name, slot))

    def add(self, job: Job) -> None:
        """Arm a job that is not there yet, from its next slot on."""
        self._jobs[job.name] = job
        self._scheduler.add_job(
            _never_called,
            trigger=self._trigger(job),
            id=job.name,
            name=job.name,
            max_instances=1,
            coalesce=True,
            misfire_grace_time=None,
        )

    def replace(self, job: Job) -> None:
        """Let ``job`` take the place of the one of its name, from the next slot on.

        A job whose schedule is the same keeps its entry: to arm it anew at each reload would put off a slot that is
        due, for ever if reloads come often.
        """
        before, self._jobs[job.name] = self._jobs[job.name], job
        if _when(before) == _when(job):
            return
        trigger = self._trigger(job)
        following = trigger.get_next_fire_time(None, self._clock.now())
        self._scheduler.modify_job(job.name, trigger=trigger, next_run_time=following)

    def remove(self, name: str) -> None:
        """Dispatch no further slot of a job. Its Run, if one is alive, is not touched."""
        self._scheduler.remove_job(name)
        self._starts.forget(name)
        del self._jobs[name]

    def pause(self) -> None:
        """Dispatch no further slots."""
        self._scheduler.pause()
        for timer in self._missed:
            timer.cancel()
        self._missed.clear()
        self._starts.forget()

    async def guard(self) -> None:
        """Watch the clock and the timer for as long as the daemon runs; re-arm every job when the clock was stepped."""
        self._known_offset = self._offset()
        while True:
            await asyncio.sleep(GUARD_EVERY)
            offset = self._offset()
            stepped = offset - self._known_offset
            if abs(stepped) > STEP:
                log.warning("clock_stepped", seconds=round(stepped, 3), jobs=len(self._jobs))
                self._tell_stepped()
                await self._rearm()
            elif (late := self.late()) > LATE:
                log.error("scheduler_stalled", late_s=round(late, 3))
                self._scheduler.wakeup()
            self._known_offset = offset  # not before all are re-armed: until then no slot counts as missed

    def late(self) -> float:
        """Return for how many seconds the earliest slot has been due without being dispatched.

        It is 0 if none is, and while nothing shall be dispatched.
        """
        due = self.next_slot() if self._scheduler.state == STATE_RUNNING else None
        return max(0.0, (self._clock.now() - due).total_seconds()) if due else 0.0

    def next_slot(self) -> datetime | None:
        """Return the earliest slot of all jobs; None without jobs."""
        due: datetime | None = self._slots.get_next_run_time()
        return due

    def next_slots(self) -> Mapping[str, datetime]:
        """Return the next slot of each job, by its name, as it is at each moment."""
        return self._slots.times

    @property
    def changed(self) -> set[str]:
        """The jobs whose next slot is another one than before; the one who shows them takes them out."""
        return self._slots.changed

    async def close(self) -> None:
        """Stop dispatching for good. Runs are not touched: who started them lets them drain."""
        self.pause()
        self._scheduler.shutdown(wait=False)
        await asyncio.sleep(0)  # the shutdown happens in the loop's next turn

    def _trigger(self, job: Job) -> _DueSlots:
        schedule = schedule_of(job)
        return _DueSlots(schedule, partial(self._passed_over, job.name, schedule))

    def _offset(self) -> float:
        """Return by how much the wall's clock is ahead of the monotonic one."""
        nearest, found = float("inf"), 0.0
        for _ in range(READINGS):
            before = self._clock.monotonic()
            now = self._clock.now().timestamp()
            between = self._clock.monotonic() - before
            if between < nearest:
                nearest, found = between, now - before
            if nearest < CLOSE:
                break
        return found

    def _passed_over(self, name: str, schedule: Schedule, slot: datetime, given: datetime) -> None:
        # After a step of the clock nothing was missed: the slots between were never lived through.
        if abs(self._offset() - self._known_offset) <= STEP:
            self._tell_missed(self._jobs[name], 1 + schedule.between(slot, given))

    async def _rearm(self) -> None:
        """Give each job its next slot by the clock as it is now."""
        for count, armed in enumerate(self._slots.get_all_jobs(), start=1):
            slot = armed.trigger.get_next_fire_time(None, self._clock.now())
            # Between two turns of the loop a reload may have taken the job away.
            if slot is not None and self._slots.lookup_job(armed.id) is armed:
                armed.modify(next_run_time=slot)
            if count % REARMS_A_TURN == 0:
                await asyncio.sleep(0)

    def _catch_up(self, name: str, slot: datetime) -> None:
        armed = self._slots.lookup_job(name)
        if armed is None:
            return
        try:
            self._starts.submit_job(armed, [slot])
        except MaxInstancesReachedError:
            self._skip(self._jobs[name], slot)

    def _overlapped(self, event: JobSubmissionEvent) -> None:
        self._skip(self._jobs[event.job_id], event.scheduled_run_times[-1])


class _Slots(MemoryJobStore):  # type: ignore[misc]
    """Knows at each moment when each job is due, and of which that has changed: to ask them all takes its time."""

    def __init__(self) -> None:
        super().__init__()
        self.times: dict[str, datetime] = {}
        self.changed: set[str] = set()

    def add_job(self, job: Any) -> None:
        """Take a job."""
        super().add_job(job)
        self._note(job.id, job.next_run_time)

    def update_job(self, job: Any) -> None:
        """Take a job whose slot may be another one."""
        super().update_job(job)
        self._note(job.id, job.next_run_time)

    def remove_job(self, job_id: str) -> None:
        """Let go of a job."""
        super().remove_job(job_id)
        self.times.pop(job_id, None)
        self.changed.add(job_id)

    def remove_all_jobs(self) -> None:
        """Let go of all jobs."""
        super().remove_all_jobs()
        self.changed.update(self.times)
        self.times.clear()

    def _note(self, name: str, slot: datetime) -> None:
        self.times[name] = slot
        self.changed.add(name)


class _DueSlots(BaseTrigger):  # type: ignore[misc]
    """Gives APScheduler one due slot, the latest, however long the gap: coalescing a month costs what a second does."""

    def __init__(self, schedule: Schedule, passed_over: Callable[[datetime, datetime], None]) -> None:
        """Tell ``passed_over`` of a due slot that gives way to a later one, and of that one."""
        self._schedule = schedule
        self._passed_over = passed_over

    def get_next_fire_time(self, previous_fire_time: datetime | None, now: datetime) -> datetime | None:
        """Return the latest due slot if the previous one is older than it, else the next slot that is not due yet."""
        if previous_fire_time is None:
            return self._following(now)
        latest = self._schedule.latest(now)
        if latest is not None and latest > previous_fire_time:
            self._passed_over(previous_fire_time, latest)
            return latest
        return self._following(max(now, previous_fire_time))

    def _following(self, moment: datetime) -> datetime | None:
        """Return the next slot, and never one that is not later: APScheduler would ask for the next one for ever."""
        slot = self._schedule.after(moment)
        if slot is None or slot > moment:
            return slot
        log.error("schedule_astray", after=moment.isoformat(), slot=slot.isoformat())
        return moment + ASTRAY


class _Starts(BaseExecutor):  # type: ignore[misc]
    """Starts Runs as tasks: a few in each turn of the loop, each in a context of its own."""

    def __init__(self, start: Callable[[str, datetime], Coroutine[Any, Any, object]]) -> None:
        super().__init__()
        self._start_run = start
        self._due: deque[tuple[str, datetime]] = deque()
        self._tasks: set[asyncio.Task[object]] = set()
        self._loop: asyncio.AbstractEventLoop | None = None

    def forget(self, job: str | None = None) -> None:
        """Start none of the Runs that are due but not started, of one job or of all."""
        due, self._due = self._due, deque[tuple[str, datetime]]()
        for name, slot in due:
            if job in (None, name):
                self._run_job_success(name, [])
            else:
                self._due.append((name, slot))

    def _do_submit_job(self, job: Any, run_times: list[datetime]) -> None:
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
        if not self._due:
            self._loop.call_soon(self._admit)
        self._due.append((job.id, run_times[-1]))

    def _admit(self) -> None:
        assert self._loop is not None
        for _ in range(min(STARTS_A_TURN, len(self._due))):
            name, slot = self._due.popleft()
            # An empty context: what the caller of add_job had bound must not show in every later Run.
            task = self._loop.create_task(
                self._start_run(name, slot), name=f"run {name}", context=contextvars.Context()
            )
            self._tasks.add(task)
            task.add_done_callback(partial(self._ended, name))
        if self._due:
            self._loop.call_soon(self._admit)

    def _ended(self, name: str, task: asyncio.Task[object]) -> None:
        self._tasks.discard(task)
        self._run_job_success(name, [])
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("run_crashed", job=name, exc_info=error)


def catch_up_after(name: str) -> float:
    """Return how many seconds after the start a missed slot of the job called ``name`` is run."""
    digest = hashlib.blake2b(name.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64 * CATCH_UP_WITHIN


def missed_slot(job: Job, last: datetime | None, now: datetime) -> datetime | None:
    """Return the slot that ``job`` has missed since ``last``, its last one, and wants to catch up with.

    Of several it is the latest. It is none if the next slot comes before the missed one would.
    """
    if not job.catch_up or last is None:
        return None
    schedule = schedule_of(job)
    slot, coming = schedule.latest(now), schedule.after(now)
    if slot is None or slot <= last:
        return None
    soon = coming is not None and coming <= now + timedelta(seconds=catch_up_after(job.name))
    return None if soon else slot


def _when(job: Job) -> tuple[object, ...]:
    """Return what decides on the slots of a job of a given name."""
    return (job.cron, job.timezone) if job.cron else (job.interval,)


def _never_called() -> None:
    """Stand in for the function that APScheduler wants; its place is taken by the executor."""
