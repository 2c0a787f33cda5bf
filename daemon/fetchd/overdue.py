"""When a job's silence becomes an alarm: it has had no success for longer than its own clock allows. Without I/O."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from fetchd.job import Job
from fetchd.schedule import next_slots, schedule_of
from fetchd.store import Memory

SLOTS: Final = 3
"""Slots that may pass without a success, where the job does not say how long it may be silent."""
NEVER: Final = datetime.max.replace(tzinfo=UTC)


def overdue_since(job: Job, memory: Memory, known_since: datetime) -> datetime:
    """Return the instant at which ``job`` becomes, or became, overdue; `NEVER` while it is paused.

    It counts from the last success, and not from before ``known_since``, from which on the job was to be run.
    """
    if memory.paused:
        return NEVER
    since = max(memory.last_success or known_since, known_since)
    if job.overdue_after is not None:
        return since + timedelta(seconds=job.overdue_after)
    slots = next_slots(schedule_of(job), since, SLOTS)
    return slots[-1] + timedelta(seconds=job.deadline) if len(slots) == SLOTS else NEVER


@dataclass(frozen=True, slots=True)
class _Found:
    """What was worked out for a job, and from what."""

    job: Job
    success: datetime | None
    known: datetime
    instant: datetime


class Overdue:
    """Asks the same of many jobs again and again, and works out only what has changed."""

    def __init__(self, known_since: Callable[[str], datetime]) -> None:
        self._known_since = known_since
        self._found: dict[str, _Found] = {}

    def since(self, job: Job, memory: Memory) -> datetime:
        """Return what `overdue_since` does."""
        if memory.paused:
            return NEVER
        known = self._known_since(job.name)
        found = self._found.get(job.name)
        if found is None or (found.job, found.success, found.known) != (job, memory.last_success, known):
            found = _Found(job, memory.last_success, known, overdue_since(job, memory, known))
            self._found[job.name] = found
        return found.instant

    def is_overdue(self, job: Job, memory: Memory, now: datetime) -> bool:
        """Return whether ``job`` is overdue."""
        return self.until(job, memory, now) <= now

    def until(self, job: Job, memory: Memory, now: datetime) -> datetime:
        """Return an instant up to which ``job`` is not overdue; if that is not after ``now``, it is.

        A later success can only put the instant off, so what was found for an earlier one will do until then.
        """
        if memory.paused:
            return NEVER
        found = self._found.get(job.name)
        if found is not None and now < found.instant and found.job is job and self._only_later(found, memory):
            return found.instant
        return self.since(job, memory)

    def forget(self, job: str) -> None:
        """Let go of a job that is no longer there."""
        self._found.pop(job, None)

    def _only_later(self, found: _Found, memory: Memory) -> bool:
        if found.known > self._known_since(found.job.name):
            return False
        return found.success is None or (memory.last_success is not None and memory.last_success >= found.success)
