"""Slots that find no Run of their own: which they are, and how they are counted and told of."""

from __future__ import annotations

from collections.abc import Callable, Container
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import structlog

from fetchd.backoff import backs_off
from fetchd.clock import Clock
from fetchd.errors import Reason
from fetchd.job import Job
from fetchd.store import Memory, Store
from fetchd.watch import Watcher

log = structlog.get_logger()

SAID_EVERY: Final = 60.0

Held = Callable[[Job], Reason | None]
"""Says why a job's host is not to be asked now; None if it may be."""


@dataclass(slots=True)
class _Skips:
    """Slots of one job that were skipped for one reason."""

    unsaid: int = 0
    total: int = 0
    said_at: float = float("-inf")


class Slots:
    """Counts the slots that are skipped; the log is told at once, then at most once a minute."""

    def __init__(self, store: Store, clock: Clock, watcher: Watcher) -> None:
        self._store = store
        self._clock = clock
        self._watcher = watcher
        self._skips: dict[str, dict[Reason, _Skips]] = {}

    def skip(self, job: str, slot: datetime, reason: Reason) -> None:
        """Count a slot."""
        self._store.skip(job, slot, reason)
        self._watcher.skipped(job, slot, reason)
        skips = self._skips.setdefault(job, {}).setdefault(reason, _Skips())
        skips.unsaid += 1
        skips.total += 1
        if self._clock.monotonic() - skips.said_at >= SAID_EVERY:
            self._say(job, reason, skips)

    def say(self, job: str) -> None:
        """Tell the log what it has not been told of ``job``."""
        for reason, skips in self._skips.get(job, {}).items():
            if skips.unsaid:
                self._say(job, reason, skips)

    def forget(self, keep: Container[str]) -> None:
        """Let go of all jobs but those to ``keep``, once the log knows the rest."""
        for job in [job for job in self._skips if job not in keep]:
            self.say(job)
            del self._skips[job]

    def _say(self, job: str, reason: Reason, skips: _Skips) -> None:
        log.warning("slot_skipped", job=job, reason=str(reason), count=skips.unsaid, total=skips.total)
        skips.unsaid = 0
        skips.said_at = self._clock.monotonic()


def refusal(job: Job, memory: Memory, slot: datetime, held: Held) -> Reason | None:
    """Return why ``job`` is not to be run for ``slot``; None if nothing stands against it."""
    if memory.paused:
        return Reason.PAUSED
    if backs_off(job, memory.failures, memory.last_slot, slot):
        return Reason.BACKING_OFF
    return held(job)


def is_full(job: Job, memory: Memory) -> bool:
    """Return whether so much of what ``job`` has fetched is undelivered that no more is fetched."""
    return max(memory.owed, memory.dead) >= job.backlog or memory.owed_bytes >= job.backlog_size
