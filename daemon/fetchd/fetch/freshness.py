"""How long a response may be taken for the present one, by its own word (RFC 9111, 4.2)."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Final

import httpx

from fetchd.clock import Clock
from fetchd.fetch.dates import seconds_in, until
from fetchd.job import Job
from fetchd.run import Run

_SAFE: Final = frozenset({"GET", "HEAD"})


class Freshness:
    """Up to when the last responses of jobs are fresh. Nothing is kept beyond the process."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._until: dict[str, tuple[Job, str, float]] = {}

    def note(self, job: Job, run: Run, response: httpx.Response) -> None:
        """Note what ``response`` says of itself; of several within one Run the shortest time holds."""
        if not job.respect_cache_control or job.method not in _SAFE:
            return
        seconds = min(job.longest_fresh, fresh_for(response.headers, self._clock.now()))
        end = self._clock.monotonic() + seconds
        before = self._until.get(job.name)
        if before is not None and before[1] == run.id:
            end = min(end, before[2])
        self._until[job.name] = (job, run.id, end)

    def left(self, job: Job) -> float:
        """Return for how many seconds what ``job`` has fetched is fresh; 0 if it is not, or the job has changed."""
        noted = self._until.get(job.name)
        if noted is None or noted[0] is not job:
            return 0.0
        return max(0.0, noted[2] - self._clock.monotonic())

    def forget(self, jobs: Mapping[str, Job]) -> None:
        """Let go of definitions other than ``jobs``."""
        self._until = {name: noted for name, noted in self._until.items() if jobs.get(name) is noted[0]}


def fresh_for(headers: httpx.Headers, now: datetime) -> float:
    """Return the seconds for which a response that has just come is fresh; 0 where it does not say that it is.

    ``s-maxage`` is for caches that serve many, and does not count. Of several statements the shortest holds.
    """
    directives = list(_directives(headers.get("cache-control", "")))
    if any(name in {"no-store", "no-cache"} for name, _ in directives):
        return 0.0
    ages = [seconds_in(value) or 0.0 for name, value in directives if name == "max-age"]
    if ages:
        lifetime = min(ages)
    elif "expires" in headers:
        lifetime = until(headers["expires"], headers, now) or 0.0
    else:
        return 0.0
    return max(0.0, lifetime - (seconds_in(headers.get("age", "")) or 0.0))


def _directives(text: str) -> list[tuple[str, str]]:
    pairs = (part.partition("=") for part in text.split(","))
    return [(name.strip().lower(), value.strip().strip('"')) for name, _, value in pairs]
