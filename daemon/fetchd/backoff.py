"""How the rhythm of a job slows down while its target fails, and comes back by itself. Decided without I/O."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from fetchd.job import Job

_MOST_STEPS: Final = 64
"""Further growth would leave what a float can hold."""


def effective_interval(job: Job, failures: int) -> float:
    """Return the seconds between two Runs of ``job`` after so many failures in a row."""
    backoff = job.backoff
    if not backoff.after or failures < backoff.after:
        return job.interval
    grown = job.interval * backoff.factor ** min(failures - backoff.after + 1, _MOST_STEPS)
    return max(job.interval, min(backoff.longest, grown))


def backs_off(job: Job, failures: int, last: datetime | None, slot: datetime) -> bool:
    """Return whether ``slot`` is left out because ``job`` has failed so often; ``last`` is the slot of its last Run.

    A slot that is nearly due by the longer rhythm counts as due: both rhythms have phases of their own. One that lies
    before the last one, after the clock was set back, is due as well: the job would else be silent for long.
    """
    interval = effective_interval(job, failures)
    if last is None or interval <= job.interval:
        return False
    passed = (slot - last).total_seconds()
    return 0 <= passed < interval - job.interval / 2
