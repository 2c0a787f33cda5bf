"""What happened: a Run, what it fetched, what is to be delivered, and how it ended. Frozen values without I/O."""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Final

from fetchd.body import Body
from fetchd.clock import Clock
from fetchd.errors import Reason

_TIME: Final = 11
"""Digits of an id that are its time."""
_HEX: Final = re.compile(r"[0-9a-f]{11}")


class Outcome(StrEnum):
    """How a Run ended, or that it did not begin."""

    SUCCEEDED = "succeeded"
    UNCHANGED = "unchanged"
    FETCH_FAILED = "fetch_failed"
    DELIVERY_FAILED = "delivery_failed"
    DEADLINE_EXCEEDED = "deadline_exceeded"
    CANCELLED = "cancelled"
    SKIPPED = "skipped"

    @property
    def good(self) -> bool:
        """Whether the job did what it should."""
        return self in {Outcome.SUCCEEDED, Outcome.UNCHANGED}


def new_run_id() -> str:
    """Return an id that sorts by time and is unique over machines: milliseconds, then eight random digits, in hex."""
    return _id_of(time.time_ns() // 1_000_000)


class RunIds:
    """Gives ids to Runs, each of which sorts behind those before it: also where the clock was set back meanwhile.

    Sinks tell by them which of two results is the newer one.
    """

    def __init__(self, clock: Clock, last: str = "") -> None:
        """Begin behind ``last``, the id of a Run of an earlier process."""
        self._clock = clock
        self._last = int(last[:_TIME], 16) if _HEX.fullmatch(last[:_TIME]) else 0

    def next(self) -> str:
        """Return the next id."""
        self._last = max(int(self._clock.now().timestamp() * 1000), self._last + 1)
        return _id_of(self._last)


def order_of(run: str) -> tuple[str, int]:
    """Return what sorts results by time: the id of their Run, then, for those of its further pages, their number."""
    id, _, page = run.partition(".")
    return id, int(page) if page.isdecimal() else 1


@dataclass(frozen=True, slots=True)
class Run:
    """One execution of a Job for one slot."""

    id: str
    job: str
    slot: datetime


@dataclass(frozen=True, slots=True)
class Validators:
    """What the server wants back to answer "not modified" (RFC 9110, 8.8).

    ``mark`` tells for which definition of the job: those of another address, or of other sinks, say nothing.
    """

    etag: str | None = None
    last_modified: str | None = None
    mark: str = ""


@dataclass(frozen=True, slots=True)
class Carried:
    """What one Run leaves to the next; kept together with its result.

    ``page`` is where a walk through pages goes on, empty if it came to its end; ``seen`` are the digests of the
    records that have been delivered, the newest last. ``asked`` is when the server was first asked for what has come
    whole, kept for jobs whose next question is about what is newer.
    """

    cursor: str = ""
    page: str = ""
    seen: tuple[str, ...] = ()
    asked: str = ""


@dataclass(frozen=True, slots=True)
class Fetched:
    """What came back. ``url`` is fit to be shown; ``timings`` are seconds by phase of the last attempt.

    ``carried`` is what the next Run begins with, once this is kept; None leaves that as it is. What is not to be
    ``delivered`` is there for that alone.
    """

    status: int | None
    url: str
    content_type: str
    headers: Mapping[str, str]
    body: Body
    validators: Validators = Validators()
    timings: Mapping[str, float] = field(default_factory=dict)
    carried: Carried | None = None
    delivered: bool = True


@dataclass(frozen=True, slots=True)
class Delivery:
    """One Fetched for one Sink. The id is the same each time that it is tried.

    ``attempt`` counts the tries from 1; it is at least 2 where an earlier process may have tried.
    """

    id: str
    job: str
    run: str
    slot: datetime
    sink: str
    fetched: Fetched
    attempt: int = 1

    def environment(self) -> dict[str, str]:
        """Return what a command finds in its environment."""
        return {
            "FETCHD_JOB": self.job,
            "FETCHD_RUN": self.run,
            "FETCHD_SLOT": self.slot.isoformat(),
            "FETCHD_DELIVERY": self.id,
            "FETCHD_STATUS": str(self.fetched.status or ""),
            "FETCHD_URL": self.fetched.url,
            "FETCHD_CONTENT_TYPE": self.fetched.content_type,
        }


def deliveries_of(run: Run, fetched: Fetched, sinks: Sequence[str]) -> tuple[Delivery, ...]:
    """Return a delivery of ``fetched`` for each of ``sinks``, in their order."""
    return tuple(Delivery(f"{run.id}-{sink}", run.job, run.id, run.slot, sink, fetched) for sink in sinks)


@dataclass(frozen=True, slots=True)
class Report:
    """How a Run ended: the one record that the log, the history and everything that watches are told.

    ``started`` is when the deadline began; ``lateness`` the seconds from the slot to it; ``waited`` those of
    them spent waiting for a place among the concurrent Runs.
    """

    run: Run
    outcome: Outcome
    reason: Reason | None = None
    message: str = ""
    phase: str = ""
    status: int | None = None
    bytes: int = 0
    attempts: int = 0
    started: datetime | None = None
    duration: float = 0.0
    lateness: float = 0.0
    waited: float = 0.0
    timings: Mapping[str, float] = field(default_factory=dict)

    @property
    def counts(self) -> bool:
        """Whether this says anything of how the job fares: a Run that was cancelled does not."""
        return self.outcome not in {Outcome.CANCELLED, Outcome.SKIPPED}

    @property
    def failed_to_fetch(self) -> bool:
        """Whether what was to be fetched is the reason that the Run failed, and no sink is."""
        late = self.outcome is Outcome.DEADLINE_EXCEEDED and not self.phase.startswith(("commit", "deliver"))
        return late or self.outcome is Outcome.FETCH_FAILED


@dataclass(slots=True)
class Progress:
    """How far a Run has come: the one mutable record of it, with one writer at any time.

    ``bytes`` are those of all pages, ``earlier`` of them those of the pages before this one. ``failed`` is why the
    last attempt failed, for as long as the Run waits for the next one. ``deadline`` is when the
    Run will be cut off, by the monotonic clock; None while that is not known. What it sleeps through is spent
    ``aside``, where it is in nobody's way; what it only waits through, ``idle``: a stop does not wait for it.
    """

    phase: str = ""
    attempts: int = 0
    pages: int = 0
    status: int | None = None
    bytes: int = 0
    earlier: int = 0
    failed: Reason | None = None
    deadline: float | None = None
    timings: dict[str, float] = field(default_factory=dict)
    aside: Callable[[], AbstractAsyncContextManager[None]] = nullcontext
    idle: Callable[[], AbstractContextManager[None]] = nullcontext

    def how_far(self) -> dict[str, str | int]:
        """Return what is shown of it while it lasts."""
        return {"phase": self.phase, "attempts": self.attempts, "pages": self.pages, "bytes": self.bytes}


def _id_of(milliseconds: int) -> str:
    return f"{milliseconds:0{_TIME}x}{secrets.token_hex(4)}"
