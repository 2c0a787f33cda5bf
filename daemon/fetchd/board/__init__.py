"""What the daemon knows of itself right now: one place that watches, and that everybody asks who shows anything."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path

from fetchd import __version__
from fetchd.board.known import Known
from fetchd.board.look import Look, look_at
from fetchd.board.samples import EVERY, Samples, Usage, usage
from fetchd.board.standing import LONGEST_MESSAGE, Ending, Recent, Standing, State, Trouble
from fetchd.board.table import Held, Recall, Table
from fetchd.clock import Clock
from fetchd.errors import Reason
from fetchd.job import Job
from fetchd.overdue import Overdue
from fetchd.run import Delivery, Report, Run
from fetchd.store import Memory
from fetchd.watch import Result, Unwatched

__all__ = ["Board", "Ending", "Known", "Look", "Recent", "Reload", "Sources", "Standing", "State", "Trouble", "Usage"]


@dataclass(frozen=True, slots=True)
class Sources:
    """Whom the board asks for what it does not keep itself; none of it waits. ``redact`` takes secrets out.

    ``changed`` are the jobs of which the first two say something else than before; the board takes them out.
    ``held_until`` names those of some jobs whose host has said when it wants to be asked again, and that time.
    """

    recall: Recall
    next_slots: Callable[[], Mapping[str, datetime]]
    changed: Callable[[], Iterable[set[str]]]
    known: Known
    redact: Callable[[str], str] = str
    held_until: Held = lambda _jobs: {}


@dataclass(frozen=True, slots=True)
class Reload:
    """Which configuration counts, and why the last one that was offered does not, if so.

    It counts since ``since``; ``at`` is when a file was last found fit, even if it said nothing new.
    """

    generation: int
    since: datetime
    at: datetime
    error: str = ""
    failed_at: datetime | None = None


class Board(Unwatched):
    """Watches all jobs and the process; about one KiB a job."""

    def __init__(self, jobs: Mapping[str, Job], config: Path, sources: Sources, clock: Clock) -> None:
        """Begin with what is remembered of ``jobs``; ``config`` is the file that they are from."""
        self.version = __version__
        self.pid = os.getpid()
        self.config = config
        self.started_at = clock.now()
        self._began = clock.monotonic()
        self.reload = Reload(1, self.started_at, self.started_at)
        self.samples = Samples()
        self.clock_steps = 0
        self.before = ""
        """What became of the process before this one, where somebody should know."""
        self._sources = sources
        self._clock = clock
        self._overdue = Overdue(sources.known.since)
        self._jobs: dict[str, Standing] = {}
        self._running: set[str] = set()
        self._changed: set[str] = set()
        self._define(jobs)

    @property
    def overdue(self) -> Overdue:
        """What tells whether a job is overdue; for others who ask the same."""
        return self._overdue

    @property
    def in_flight(self) -> int:
        """How many Runs are under way."""
        return len(self._running)

    def now(self) -> datetime:
        """Return the time that everything here is told by."""
        return self._clock.now()

    def jobs(self) -> list[str]:
        """Return the jobs' names, in the configuration's order."""
        return list(self._jobs)

    def standing(self, job: str) -> Standing | None:
        """Return what is known of ``job``; None if there is no such job."""
        return self._jobs.get(job)

    def failures(self, job: str) -> int:
        """Return how many Runs of ``job`` in a row did not do what they should; a reload forgives none of them."""
        standing = self._jobs.get(job)
        return standing.failures if standing else 0

    def memory(self, job: str) -> Memory:
        """Return what the store remembers of ``job``."""
        return self._sources.recall(job)

    def held_until(self, job: str) -> datetime | None:
        """Return when the host of ``job`` wants to be asked again; None if it may be asked, or there is no such job."""
        standing = self._jobs.get(job)
        return self._sources.held_until([standing.job]).get(job) if standing else None

    def changed(self) -> set[str]:
        """Return the jobs of which anything may be otherwise than when this was last asked."""
        found, self._changed = self._changed, set()
        for others in self._sources.changed():
            found |= others
            others.clear()
        return found

    def next_slots(self) -> Mapping[str, datetime]:
        """Return the next slot of each job that has one."""
        return self._sources.next_slots()

    def look(self, standing: Standing, now: datetime, next_slot: datetime | None) -> Look:
        """Return how one job is at ``now``."""
        job, memory = standing.job, self._sources.recall(standing.job.name)
        overdue = self._overdue.is_overdue(job, memory, now)
        return look_at(standing, memory, next_slot, self.held_until(job.name), overdue=overdue)

    def overdue_since(self, job: str) -> datetime:
        """Return the instant at which ``job`` becomes, or became, overdue."""
        return self._overdue.since(self._jobs[job].job, self._sources.recall(job))

    def started(self, run: Run) -> None:
        """Note that a Run is under way."""
        if standing := self._changing(run.job):
            standing.begin(self._clock.now())
            self._running.add(run.job)

    def finished(self, report: Report) -> None:
        """Note how a Run ended."""
        self._running.discard(report.run.job)
        if standing := self._changing(report.run.job):
            standing.end(report, Ending.of(report, self._sources.redact))

    def recall(self, reports: Iterable[Report]) -> None:
        """Learn how the last Runs of earlier processes ended, in their order; once, before the first Run of this one.

        The store knows of more failures to fetch than these Runs, but of no failed delivery.
        """
        kept = {name: (standing.failures, standing.failing_since) for name, standing in self._jobs.items()}
        for standing in self._jobs.values():
            standing.failures, standing.failing_since = 0, None
        for report in reports:
            if standing_of := self._changing(report.run.job):
                standing_of.recall(report, Ending.of(report, self._sources.redact))
        for name, (failures, since) in kept.items():
            if failures > self._jobs[name].failures:
                self._jobs[name].failures, self._jobs[name].failing_since = failures, since

    def skipped(self, job: str, slot: datetime, reason: Reason) -> None:
        """Count a slot that found no Run of its own."""
        if standing := self._changing(job):
            standing.skip(reason)
            if reason is Reason.FRESH:  # by the server's own word there is nothing new: that is no silence
                self._sources.known.spare(job, self._clock.now())

    def missed(self, job: str, count: int) -> None:
        """Count slots that were passed over because the loop was late."""
        if standing := self._changing(job):
            standing.miss(count)

    def tried(self, delivery: Delivery, result: Result, error: str) -> None:
        """Note what became of one try of a delivery."""
        standing = self._changing(delivery.job)
        if standing is None:
            return
        if result is Result.DELIVERED:
            standing.took(delivery.sink)
        else:
            trouble = Trouble(self._clock.now(), result is Result.DEAD, self._sources.redact(error)[:LONGEST_MESSAGE])
            standing.refused(delivery.sink, trouble)

    def reloaded(self, generation: int, error: str = "", jobs: Mapping[str, Job] | None = None) -> None:
        """Note the verdict on a new configuration: its ``jobs`` count from now on; ``error`` says why one does not.

        Both at one time: new secrets count, while the file is still refused.
        """
        now = self._clock.now()
        if jobs is not None:
            since = self.reload.since if generation == self.reload.generation else now
            self.reload = Reload(generation, since, now, error, self.reload.failed_at if error else None)
            self._define(jobs)
        elif error:
            self.reload = replace(self.reload, error=error, failed_at=now)

    def resumed(self, job: str) -> None:
        """Note that ``job`` is no longer paused: the time that it was does not count as silence."""
        if standing := self._changing(job):
            self._sources.known.restart(job, self._clock.now())
            standing.changes += 1

    def clock_stepped(self) -> None:
        """Count a step of the wall's clock; set back or not, the daemon and its jobs began before now."""
        now = self._clock.now()
        self.clock_steps += 1
        self.started_at = min(self.started_at, now - timedelta(seconds=self._clock.monotonic() - self._began))
        self._sources.known.meet(self._jobs, now)
        self.table = self._table()

    def usage(self) -> Usage:
        """Return what the process uses now."""
        return usage()

    def sample(self) -> None:
        """Note what the process uses now."""
        self.samples.add(usage(), self.in_flight)

    async def run(self) -> None:
        """Take samples until cancelled."""
        while True:
            self.sample()
            await asyncio.sleep(EVERY)

    def _define(self, jobs: Mapping[str, Job]) -> None:
        now = self._clock.now()
        known = self._sources.known
        for name in self._jobs.keys() - jobs.keys():
            self._overdue.forget(name)
        known.meet(jobs, now)
        for name in _others_times(self._jobs.values(), jobs):
            known.restart(name, now)
        self._jobs = {name: self._defined(name, job) for name, job in jobs.items()}
        self.table = self._table()
        self._running &= jobs.keys()

    def _changing(self, job: str) -> Standing | None:
        """Return what is known of ``job``, to be changed; None if there is no such job."""
        self._changed.add(job)
        return self._jobs.get(job)

    def _table(self) -> Table:
        return Table(self._jobs, self._sources.recall, self._sources.held_until, self._overdue)

    def _defined(self, name: str, job: Job) -> Standing:
        standing = self._jobs.get(name)
        if standing is None:
            memory = self._sources.recall(name)
            return Standing(job, memory.failures, memory.failing_since)
        if standing.job is not job:
            standing.job = job
            standing.changes += 1
        return standing


def _others_times(before: Iterable[Standing], jobs: Mapping[str, Job]) -> list[str]:
    """Return the jobs that are to be run at other times than before."""
    return [
        standing.job.name
        for standing in before
        if (job := jobs.get(standing.job.name)) is not None and _times(job) != _times(standing.job)
    ]


def _times(job: Job) -> tuple[float, str | None, str, float | None]:
    return job.interval, job.cron, job.timezone, job.overdue_after
