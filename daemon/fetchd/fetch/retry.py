"""Whether a failed attempt is followed by another one, and when: decided without I/O."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

import httpx

from fetchd.clock import Clock, SystemClock
from fetchd.errors import FetchError, Reason
from fetchd.fetch.dates import seconds_in, until
from fetchd.job import Job, Retry

IDEMPOTENT: Final = frozenset({"GET", "HEAD", "PUT", "DELETE", "OPTIONS"})
"""Methods that do the same when they are sent twice (RFC 9110, 9.2.2)."""
NAMES_A_TIME: Final = frozenset({403, 429, 503})
"""Statuses with which a server's Retry-After is obeyed: some say 403, GitHub among them, to those who ask too much."""
PASSING: Final = frozenset({408, 425, 500, 502, 503, 504})
"""Statuses that are worth another attempt without a Retry-After."""
PASSING_REASONS: Final = (
    *(Reason.DNS, Reason.CONNECT, Reason.TLS),
    *(Reason.TIMEOUT_CONNECT, Reason.TIMEOUT_READ, Reason.TIMEOUT_WRITE, Reason.TIMEOUT_POOL),
    *(Reason.PROTOCOL, Reason.AUTH, Reason.LOCAL_RESOURCE),
)
"""Reasons for which an attempt that brought no response may be worth another one: each error knows whether it is."""
SPREAD: Final = 5.0
"""Seconds at the most over which those are spread who wait for the same time: they must not come back as a herd."""


@dataclass(frozen=True, slots=True)
class Pace:
    """What waiting is done with: the time, chance from 0 to 1, and sleep."""

    clock: Clock = field(default_factory=SystemClock)
    jitter: Callable[[], float] = random.random
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep


@dataclass(frozen=True, slots=True)
class Attempt:
    """An attempt that has failed.

    ``number`` counts from 1; ``sent`` says whether a server may have got anything of it; ``remaining`` are the
    seconds up to the Run's deadline.
    """

    number: int
    sent: bool
    remaining: float


def again(job: Job, error: FetchError, attempt: Attempt, jitter: Callable[[], float]) -> float | None:
    """Return the seconds until the next attempt; None to give up.

    A wait that outlasts the Run is not begun: the next slot is the retry.
    """
    if attempt.number > job.retries or not _worth_it(error, job.retry):
        return None
    if attempt.sent and job.method not in IDEMPOTENT and not job.retry.unsafe:
        return None
    wait = backoff(job.retry, attempt.number, jitter)
    if error.retry_after is not None:
        wait = max(wait, spread(error.retry_after, jitter))
    return wait if wait < attempt.remaining else None


def backoff(retry: Retry, attempts: int, jitter: Callable[[], float]) -> float:
    """Return the seconds before the next attempt: exponential, with full jitter."""
    return min(retry.longest, retry.first * 2.0 ** min(attempts - 1, 64)) * jitter()


def spread(seconds: float, jitter: Callable[[], float]) -> float:
    """Return ``seconds`` and a little more, which differs."""
    return seconds + min(SPREAD, seconds / 4) * jitter()


def retry_after(response: httpx.Response, now: datetime) -> float | None:
    """Return for how many seconds the server wants no further request (RFC 9110, 10.2.3); None if it does not say.

    What is neither seconds nor a date says nothing; a time that is past says 0. Of several the longest holds.
    """
    return wait_named(response, now) if response.status_code in NAMES_A_TIME else None


def wait_named(response: httpx.Response, now: datetime) -> float | None:
    """Return the seconds that the headers Retry-After of ``response`` name, whatever its status; None without any."""
    waits = (_wait_in(text, response, now) for text in response.headers.get_list("retry-after"))
    return max((wait for wait in waits if wait is not None), default=None)


def _wait_in(text: str, response: httpx.Response, now: datetime) -> float | None:
    seconds = seconds_in(text)
    if seconds is None:
        seconds = until(text, response.headers, now)
    return None if seconds is None else max(0.0, seconds)


def passing_by() -> str:
    """Return in words what is worth another attempt where a job does not say it."""
    later = " and ".join(map(str, sorted(NAMES_A_TIME - PASSING)))
    return f"{', '.join(map(str, (*PASSING_REASONS, *sorted(PASSING))))}; {later} with a Retry-After"


def _worth_it(error: FetchError, retry: Retry) -> bool:
    """Return whether another attempt may end differently; what the job says about that replaces what is known."""
    if not retry.on:
        return error.transient
    return any(cause in (error.status, error.reason) for cause in retry.on)
