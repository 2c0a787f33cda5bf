"""What the daemon's log says of its jobs, added up; and whether each did as it should. No I/O."""

from __future__ import annotations

import json
from collections import Counter, deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

from fetchd.run import Outcome

KEPT: Final = 0.8
"""The share of its slots that a job must have kept, and of its runs that must have ended as they should."""

_CLOSE: Final = timedelta(seconds=0.1)
"""A slot that came due so shortly before the stop may not have begun."""


@dataclass(frozen=True, slots=True)
class Ended:
    """How one Run ended; ``duration`` and ``lateness`` are seconds."""

    outcome: Outcome
    reason: str
    message: str
    duration: float
    lateness: float


@dataclass(slots=True)
class JobTally:
    """What one job has done so far."""

    runs: int = 0
    good: int = 0
    skipped: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    latest: float = 0.0
    first_slot: datetime | None = None
    last: Ended | None = None

    @property
    def failed(self) -> int:
        """Runs that ended with a reason."""
        return self.runs - self.good

    def add(self, slot: datetime, ended: Ended) -> None:
        """Count a Run that has ended."""
        self.runs += 1
        self.good += ended.outcome.good
        if ended.reason:
            self.reasons[ended.reason] += 1
        self.latest = max(self.latest, ended.lateness)
        self.first_slot = min(slot, self.first_slot or slot)
        self.last = ended


class Tally:
    """Adds up the log's lines, one by one."""

    def __init__(self) -> None:
        self.jobs: dict[str, JobTally] = {}
        self.ready_at: datetime | None = None
        self.stopping_at: datetime | None = None
        self.page = ""
        """Where the status page is served."""
        self.troubles: deque[str] = deque(maxlen=20)
        """The last lines that are no log lines, or tell of an error: what to show when the daemon does not start."""

    def add(self, line: str) -> None:
        """Take in one line; whatever it is, it does not raise."""
        try:
            said = json.loads(line)
            self._take(said["event"], said)
        except (ValueError, KeyError, TypeError):
            if line.strip():
                self.troubles.append(line.rstrip())

    def job(self, name: str) -> JobTally:
        """Return what the job ``name`` has done."""
        return self.jobs.setdefault(name, JobTally())

    def due(self, name: str, until: datetime, interval: float) -> int:
        """Return how many slots of the job ``name`` have come due by ``until``, and not just now."""
        first = self.job(name).first_slot
        if first is not None:
            return max(0, (until - _CLOSE - first) // timedelta(seconds=interval) + 1)
        # The phase is not known yet: so many slots there were at least.
        return max(0, (until - (self.ready_at or until)) // timedelta(seconds=interval))

    def _take(self, event: str, said: Mapping[str, Any]) -> None:
        if event == "run_finished":
            self.job(said["job"]).add(datetime.fromisoformat(said["slot"]), _ended(said))
        elif event == "slot_skipped":
            self.job(said["job"]).skipped = int(said["total"])
        elif event == "daemon_ready":
            self.ready_at = datetime.fromisoformat(said["ts"])
        elif event == "page_served":
            self.page = str(said["address"])
        elif event == "daemon_stopping":
            self.stopping_at = datetime.fromisoformat(said["ts"])
        elif said["level"] in {"error", "critical"}:
            self.troubles.append(f"{event}: {said.get('message') or said.get('exception') or dict(said)}")


def faults(tally: Tally, expected: Mapping[str, str], until: datetime, interval: float) -> Iterator[str]:
    """Yield what is not as it should be.

    Args:
        tally: what has happened.
        expected: by job, the reason that its Runs should end with; "" where they should succeed.
        until: when the daemon was stopped, or now.
        interval: the jobs' interval, in seconds.
    """
    for name, reason in expected.items():
        job, due = tally.job(name), tally.due(name, until, interval)
        if job.runs < KEPT * due:
            yield f"{name}: {job.runs} of {due} slots were kept"
        as_expected = job.reasons[reason] if reason else job.good
        if as_expected < KEPT * job.runs:
            others = ", ".join(f"{other} {count} times" for other, count in job.reasons.items() if other != reason)
            wanted = f"with {reason}" if reason else "well"
            yield f"{name}: {as_expected} of {job.runs} runs ended {wanted}" + (f"; {others}" if others else "")


def _ended(said: Mapping[str, Any]) -> Ended:
    return Ended(
        outcome=Outcome(said["outcome"]),
        reason=said["reason"] or "",
        message=said.get("message") or "",
        duration=float(said["duration_s"]),
        lateness=float(said["lateness_s"]),
    )
