"""What the daemon knows of one job right now: how its last Runs ended, what it does, what it leaves out."""

from __future__ import annotations

from array import array
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final, TypeVar

from fetchd.errors import Reason
from fetchd.job import Job
from fetchd.run import Outcome, Report
from fetchd.store import Memory

RECENT: Final = 30
"""Runs of each job whose outcome and duration are remembered."""
LONGEST_MESSAGE: Final = 500
"""Characters of a message that are remembered; the history has the rest."""

_OUTCOMES: Final = tuple(Outcome)
_CODES: Final = {outcome: code for code, outcome in enumerate(_OUTCOMES)}

K = TypeVar("K")


class State(StrEnum):
    """How a job is doing, in one word."""

    WELL = "well"
    FAILING = "failing"
    OVERDUE = "overdue"
    PAUSED = "paused"
    NEW = "not run yet"

    @property
    def bad(self) -> bool:
        """Whether somebody should look at it."""
        return self is State.FAILING or self is State.OVERDUE


@dataclass(frozen=True, slots=True)
class Ending:
    """How a Run ended, in short: what remains of its Report in memory."""

    at: datetime
    outcome: Outcome
    reason: Reason | None
    message: str
    status: int | None
    duration: float

    @classmethod
    def of(cls, report: Report, redact: Callable[[str], str]) -> Ending:
        """Return ``report`` in short; secrets are taken out before its message is cut."""
        at = (report.started or report.run.slot) + timedelta(seconds=report.duration)
        message = redact(report.message)[:LONGEST_MESSAGE]
        return cls(at, report.outcome, report.reason, message, report.status, report.duration)


class Recent:
    """The outcomes and durations of the last `RECENT` Runs, in five bytes each."""

    __slots__ = ("_durations", "_outcomes")

    def __init__(self) -> None:
        self._outcomes = bytearray()
        self._durations = array("f")

    def __len__(self) -> int:
        return len(self._outcomes)

    def add(self, outcome: Outcome, duration: float) -> None:
        """Take a Run, and let go of the oldest one beyond the bound."""
        self._outcomes.append(_CODES[outcome])
        self._durations.append(duration)
        if len(self._outcomes) > RECENT:
            del self._outcomes[0], self._durations[0]

    def runs(self) -> list[tuple[Outcome, float]]:
        """Return them, the oldest first."""
        return [(_OUTCOMES[code], took) for code, took in zip(self._outcomes, self._durations, strict=True)]


@dataclass(frozen=True, slots=True)
class Trouble:
    """Why a sink did not take its last delivery."""

    at: datetime
    dead: bool
    error: str


@dataclass(slots=True, eq=False)
class Standing:
    """One job; the board alone changes it.

    ``failures`` are the Runs in a row that did not do what they should, the first of them at ``failing_since``;
    ``runs`` and ``skipped`` count since the start of the process, ``missed`` the slots passed over while the loop was
    late. ``changes`` grows with each change.
    """

    job: Job
    failures: int = 0
    failing_since: datetime | None = None
    running_since: datetime | None = None
    last: Ending | None = None
    last_failure: Ending | None = None
    recent: Recent = field(default_factory=Recent)
    runs: dict[Outcome, int] | None = None
    skipped: dict[Reason, int] | None = None
    sinks: dict[str, Trouble] | None = None
    missed: int = 0
    changes: int = 0

    def begin(self, at: datetime) -> None:
        """Note that a Run is under way."""
        self.running_since = at
        self.changes += 1

    def end(self, report: Report, ending: Ending) -> None:
        """Note how a Run ended, in full and in short. One that was cancelled says nothing of the job."""
        self.running_since = None
        self.runs = _counted(self.runs, report.outcome)
        self._ended(report, ending)

    def _ended(self, report: Report, ending: Ending) -> None:
        self.last = ending
        self.recent.add(report.outcome, report.duration)
        if report.outcome.good:
            self.failures, self.failing_since = 0, None
        elif report.counts:
            self.failures += 1
            self.failing_since = self.failing_since or ending.at
            self.last_failure = ending
        self.changes += 1

    def recall(self, report: Report, ending: Ending) -> None:
        """Learn how a Run of an earlier process ended; what counts since the start does not count it."""
        self._ended(report, ending)

    def skip(self, reason: Reason) -> None:
        """Count a slot that found no Run of its own."""
        self.skipped = _counted(self.skipped, reason)
        self.changes += 1

    def miss(self, count: int) -> None:
        """Count slots that were passed over."""
        self.missed += count
        self.changes += 1

    def took(self, sink: str) -> None:
        """Note that a sink takes deliveries."""
        if self.sinks and self.sinks.pop(sink, None):
            self.changes += 1

    def refused(self, sink: str, trouble: Trouble) -> None:
        """Note that a sink did not take one."""
        self.sinks = {**(self.sinks or {}), sink: trouble}
        self.changes += 1

    def state(self, memory: Memory, *, overdue: bool) -> State:
        """Return the one word for how things are: that which matters most."""
        if memory.paused:
            return State.PAUSED
        if self.failures:
            return State.FAILING
        if overdue:
            return State.OVERDUE
        return State.WELL if self.last or memory.last_success else State.NEW


def _counted(counts: dict[K, int] | None, key: K) -> dict[K, int]:
    counts = counts if counts is not None else {}
    counts[key] = counts.get(key, 0) + 1
    return counts
