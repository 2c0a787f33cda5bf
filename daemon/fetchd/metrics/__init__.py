"""What is counted, for Prometheus to scrape. The names and labels are a contract with whoever graphs them."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable
from datetime import datetime
from typing import Final

from fetchd.errors import Reason
from fetchd.job import Job
from fetchd.run import Delivery, Outcome, Report
from fetchd.watch import Result, Unwatched

__all__ = ["DURATIONS", "LATENESS", "Histogram", "Metrics"]

DURATIONS: Final = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
LATENESS: Final = (0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""Upper bounds of the buckets, in seconds."""


class Histogram:
    """How often a value fell into each bucket; the last one is for those above every bound."""

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def observe(self, value: float) -> None:
        """Count ``value``."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value


class Metrics(Unwatched):
    """Counts what it is told of, for the jobs that there are."""

    def __init__(self) -> None:
        self.jobs: dict[str, Job] = {}
        self.runs: Counter[tuple[str, Outcome, str]] = Counter()
        self.durations: dict[str, Histogram] = {}
        self.lateness = Histogram(LATENESS)
        self.skips: Counter[tuple[str, Reason]] = Counter()
        self.attempts: Counter[str] = Counter()
        self.bytes: Counter[str] = Counter()
        self.deliveries: Counter[tuple[str, str, Result]] = Counter()
        self.slots_missed: Counter[str] = Counter()
        self.clock_steps = 0
        self.notifications: Counter[tuple[str, str]] = Counter()
        self.pings: Counter[str] = Counter()

    def replace(self, jobs: Iterable[Job]) -> None:
        """Count for ``jobs`` from now on: what is new begins at 0, what is gone is no longer exposed."""
        before, self.jobs = self.jobs, {job.name: job for job in jobs}
        for name, job in self.jobs.items():
            self.durations.setdefault(name, Histogram(DURATIONS))
            # A series that is not there cannot be alerted on.
            self.runs[name, Outcome.SUCCEEDED, ""] += 0
            for reason in (Reason.OVERLAP, Reason.STARVED):
                self.skips[name, reason] += 0
            for sink in job.sink_names():
                for result in Result:
                    self.deliveries[name, sink, result] += 0
        self._forget(before.keys() - self.jobs.keys())
        sinks = {(name, sink) for name, job in self.jobs.items() for sink in job.sink_names()}
        for key in [key for key in self.deliveries if key[:2] not in sinks]:
            del self.deliveries[key]

    def finished(self, report: Report) -> None:
        """Count a Run that has ended."""
        job = report.run.job
        if job not in self.jobs:
            return  # it was removed while it ran
        self.runs[job, report.outcome, report.reason or ""] += 1
        self.attempts[job] += report.attempts
        self.bytes[job] += report.bytes
        if report.started is None:
            return
        self.lateness.observe(report.lateness)
        self.durations[job].observe(report.duration)

    def skipped(self, job: str, slot: datetime, reason: Reason) -> None:
        """Count a slot."""
        if job in self.jobs:
            self.skips[job, reason] += 1

    def missed(self, job: str, count: int) -> None:
        """Count slots that the loop was too late for."""
        if job in self.jobs:
            self.slots_missed[job] += count

    def tried(self, delivery: Delivery, result: Result, error: str) -> None:
        """Count a try."""
        if delivery.job in self.jobs:
            self.deliveries[delivery.job, delivery.sink, result] += 1

    def _forget(self, jobs: Iterable[str]) -> None:
        gone = set(jobs)
        for table in (self.runs, self.skips):
            for key in [key for key in table if key[0] in gone]:
                del table[key]
        for name in gone:
            for counts in (self.durations, self.attempts, self.bytes, self.slots_missed):
                counts.pop(name, None)
