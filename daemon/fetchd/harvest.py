"""From a job to the results that it hands over."""

from __future__ import annotations

from collections.abc import AsyncGenerator

from fetchd.errors import Reason
from fetchd.fetch.fetcher import Fetcher
from fetchd.job import Job
from fetchd.run import Fetched, Progress, Run
from fetchd.store import Memory


class Harvest:
    """Fetches what a job names, and yields each result as it is to be handed over."""

    def __init__(self, fetcher: Fetcher) -> None:
        self._fetcher = fetcher

    def held(self, job: Job) -> Reason | None:
        """Return why what ``job`` fetches is not to be asked for now; None if it may be."""
        return None

    def turn(self, job: Job) -> None:
        """Return what ``job`` has to wait for before it begins; None if there is nothing."""

    async def results(self, job: Job, run: Run, progress: Progress, memory: Memory) -> AsyncGenerator[Fetched, None]:
        """Yield each result that ``job`` fetches now; none if there is nothing new since ``memory``."""
        fetched = await self._fetcher.fetch(job, run, progress, memory.validators)
        if fetched is not None:
            yield fetched
