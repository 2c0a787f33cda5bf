"""Stand-ins for the seams of the runner, each doing one thing that a test needs."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from fetchd.body import Body
from fetchd.job import Job
from fetchd.run import Delivery, Fetched, Progress, Run


def fetched(content: bytes = b"{}") -> Fetched:
    """Return a result of ``content``."""
    return Fetched(
        status=200, url="http://upstream.test/", content_type="application/json", headers={}, body=Body.of(content)
    )


class FakeFetcher:
    """Brings what its function returns."""

    def __init__(self, act: Callable[[Job, Progress], Awaitable[Fetched | None]]) -> None:
        self._act = act

    async def fetch(self, job: Job, run: Run, progress: Progress) -> Fetched | None:
        """Return what the test's function returns."""
        progress.attempts += 1
        progress.phase = "headers"
        return await self._act(job, progress)


class FakeSink:
    """Keeps what it takes; fails as it is told to."""

    def __init__(self, error: Exception | None = None, *, hang: bool = False) -> None:
        self.taken: list[Delivery] = []
        self._error = error
        self._hang = hang

    async def deliver(self, delivery: Delivery) -> None:
        """Take ``delivery``, or fail, or hang."""
        if self._hang:
            await asyncio.Event().wait()
        if self._error is not None:
            raise self._error
        self.taken.append(delivery)

    async def aclose(self) -> None:
        """Nothing is held."""
