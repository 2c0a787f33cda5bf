"""A store that forgets at exit: for tests, and where nothing needs to be kept."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import islice
from typing import Final

from fetchd.errors import Reason
from fetchd.run import Delivery, Fetched, Report, Run, deliveries_of
from fetchd.store import NOTHING, Lane, Memory, Owed

HISTORY: Final = 20
FAILURES: Final = 20


class MemoryStore:
    """Keeps what any store keeps, within the same bounds, in plain tables that tests may look at.

    Deliveries are in ``owed`` and ``dead``, by their ids, in their order; reports in ``reports``, by job.
    """

    def __init__(self, *, history: int = HISTORY, failures: int = FAILURES) -> None:
        self._history = history
        self._failures = failures
        self._memories: dict[str, Memory] = {}
        self._failed: dict[str, deque[Report]] = {}
        self._notes: dict[str, str] = {}
        self.reports: dict[str, deque[Report]] = {}
        self.skipped: Counter[tuple[str, Reason]] = Counter()
        self.owed: dict[str, Owed] = {}
        self.dead: dict[str, Owed] = {}

    @property
    def last_run(self) -> str:
        """No earlier process has left anything here."""
        return ""

    def recall(self, job: str) -> Memory:
        """Return what is remembered of ``job``."""
        return self._memories.get(job, NOTHING)

    async def claim(self, run: Run) -> bool:
        """Take the slot of ``run``; the same slot is given only once."""
        known = self.recall(run.job)
        if known.last_slot == run.slot:
            return False
        self._memories[run.job] = known._replace(last_slot=run.slot)
        return True

    async def commit(self, run: Run, fetched: Fetched, sinks: Sequence[str], now: datetime) -> Sequence[Delivery]:
        """Keep the result until each of ``sinks`` has it."""
        body = fetched.body
        known = self.recall(run.job).took(fetched)
        deliveries: Sequence[Delivery] = ()
        if sinks:
            kept = replace(fetched, body=body.keep())
            deliveries = deliveries_of(run, kept, sinks)
            mine = replace(fetched, body=body.keep())  # whoever closes theirs does not close this one
            self.owed |= {delivery.id: Owed(replace(delivery, fetched=mine), 0, now, now) for delivery in deliveries}
            count, size = len(sinks), body.size * len(sinks)
            known = known._replace(owed=known.owed + count, owed_bytes=known.owed_bytes + size)
        self._memories[run.job] = known
        body.close()
        return deliveries

    def delivered(self, delivery: Delivery) -> None:
        """Note that the sink has taken ``delivery``; with the last delivery of a result its body goes."""
        known = self.recall(delivery.job)
        if found := self.owed.pop(delivery.id, None):
            size = found.delivery.fetched.body.size
            known = known._replace(owed=known.owed - 1, owed_bytes=known.owed_bytes - size)
        elif found := self.dead.pop(delivery.id, None):
            known = known._replace(dead=known.dead - 1)
        else:
            return
        self._memories[delivery.job] = known
        if not any(other.delivery.run == delivery.run for kept in (self.owed, self.dead) for other in kept.values()):
            _remove(found)

    def postponed(self, delivery: Delivery, attempts: int, next_try: datetime, error: str) -> None:
        """Note that ``delivery`` failed for the time ``attempts``, and when it is to be tried again."""
        if found := self.owed.get(delivery.id):
            self.owed[delivery.id] = replace(found, attempts=attempts, next_try=next_try, error=error)

    def buried(self, delivery: Delivery, attempts: int, error: str) -> None:
        """Give ``delivery`` up."""
        if found := self.owed.pop(delivery.id, None):
            self.dead[delivery.id] = replace(found, attempts=attempts, error=error)
            known = self.recall(delivery.job)
            size = found.delivery.fetched.body.size
            self._memories[delivery.job] = known._replace(
                owed=known.owed - 1, owed_bytes=known.owed_bytes - size, dead=known.dead + 1
            )

    async def lanes(self) -> Sequence[Lane]:
        """Return every lane that is owed something."""
        lanes: dict[tuple[str, str], Lane] = {}
        for owed in self.owed.values():
            delivery = owed.delivery
            size = delivery.fetched.body.size
            lane = lanes.get((delivery.job, delivery.sink)) or Lane(delivery.job, delivery.sink, 0, 0, owed.next_try)
            lanes[delivery.job, delivery.sink] = replace(lane, count=lane.count + 1, bytes=lane.bytes + size)
        return list(lanes.values())

    async def first_owed(self, job: str, sink: str) -> Owed | None:
        """Return the oldest delivery that a lane is owed, with a body of its own."""
        for owed in self.owed.values():
            delivery = owed.delivery
            if (delivery.job, delivery.sink) == (job, sink):
                fetched = replace(delivery.fetched, body=delivery.fetched.body.keep())
                return replace(owed, delivery=replace(delivery, fetched=fetched))
        return None

    def finish(self, report: Report) -> None:
        """Keep the report."""
        job = report.run.job
        self.reports.setdefault(job, deque(maxlen=self._history)).append(report)
        if not report.outcome.good:
            self._failed.setdefault(job, deque(maxlen=self._failures)).append(report)
        elif report.started is not None:
            success = report.started + timedelta(seconds=report.duration)
            self._memories[job] = self.recall(job)._replace(last_success=success)
        self._memories[job] = self.recall(job).counted(report)

    def skip(self, job: str, slot: datetime, reason: Reason) -> None:
        """Count a slot that found no Run of its own."""
        self.skipped[job, reason] += 1

    def pause(self, job: str, paused: bool) -> None:
        """Note whether ``job`` is paused."""
        self._memories[job] = self.recall(job)._replace(paused=paused)

    def forgive(self, job: str) -> None:
        """Forget how often ``job`` has failed in a row."""
        self._memories[job] = self.recall(job).forgiven()

    def note(self, name: str, value: str | None, *, needed: bool = True) -> None:
        """Keep ``value`` under ``name``; None forgets it."""
        self._notes.pop(name, None)
        if value is not None:
            self._notes[name] = value

    async def notes(self, prefix: str) -> Mapping[str, str]:
        """Return what was noted under the names that begin with ``prefix``."""
        return {name: value for name, value in self._notes.items() if name.startswith(prefix)}

    async def history(self, job: str, limit: int) -> Sequence[Report]:
        """Return the last ``limit`` reports of ``job``, the newest first."""
        recent = self.reports.get(job, ())
        known = {id(report) for report in recent}
        older = [report for report in self._failed.get(job, ()) if id(report) not in known]
        return list(islice(reversed([*older, *recent]), limit))

    async def recent(self, limit: int) -> Sequence[Report]:
        """Return the last ``limit`` reports of each job, the oldest first."""
        return [report for reports in self.reports.values() for report in list(reports)[-limit:]]

    async def tidy(self) -> None:
        """Do nothing: everything is within its bounds at any time."""

    async def aclose(self) -> None:
        """Forget everything that is owed or dead."""
        for kept in (*self.owed.values(), *self.dead.values()):
            _remove(kept)
        self.owed.clear()
        self.dead.clear()


def _remove(owed: Owed) -> None:
    body = owed.delivery.fetched.body
    if body.path is not None:
        body.path.unlink(missing_ok=True)
