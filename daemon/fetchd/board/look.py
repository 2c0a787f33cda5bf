"""How one job is at one instant: what is shown of it, made of what its standing and the store know."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final, NamedTuple

from fetchd.backoff import effective_interval
from fetchd.board.standing import Standing, State
from fetchd.job import Job
from fetchd.store import Memory

RANKS: Final = 4
"""How many ranks there are."""
_URGENCY: Final = {State.FAILING: 0, State.OVERDUE: 0, State.WELL: 2, State.NEW: 2, State.PAUSED: 3}
_DEAD: Final = 1
"""The urgency of dead letters: somebody has to decide about them."""


class Look(NamedTuple):
    """A job as it is at one instant. Two looks are the same unless something that is shown has changed."""

    changes: int
    state: State
    overdue: bool
    running: bool
    failures: int
    owed: int
    dead: int
    next_slot: datetime | None
    last_success: datetime | None
    backing_off_until: datetime | None
    held_until: datetime | None

    @property
    def rank(self) -> int:
        """How urgent the job is: 0 the most, and below `RANKS`."""
        urgency = _URGENCY[self.state]
        return _DEAD if self.dead and urgency > _DEAD else urgency


UNSEEN: Final = Look(-1, State.NEW, False, False, 0, 0, 0, None, None, None, None)
"""In the place of a look until there is one."""


def look_at(
    standing: Standing, memory: Memory, next_slot: datetime | None, held_until: datetime | None, *, overdue: bool
) -> Look:
    """Return how a job is."""
    return Look(
        standing.changes,
        standing.state(memory, overdue=overdue),
        overdue,
        standing.running_since is not None,
        standing.failures,
        memory.owed,
        memory.dead,
        None if memory.paused else next_slot,
        memory.last_success,
        _backing_off_until(standing.job, memory) if memory.failures else None,
        held_until,
    )


def _backing_off_until(job: Job, memory: Memory) -> datetime | None:
    """Return about when a job that fails is tried again; None if it keeps its rhythm."""
    interval = effective_interval(job, memory.failures)
    if memory.last_slot is None or interval <= job.interval:
        return None
    return memory.last_slot + timedelta(seconds=interval)
