"""Results on their way into the store: a commit is seen to its end, also where its Run cannot wait for it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial

from fetchd.clock import Clock
from fetchd.lanes import Lanes
from fetchd.run import Delivery, Fetched, Run
from fetchd.store import Store


class Commits:
    """What is being kept, and of which jobs the last result could not be."""

    def __init__(self, store: Store, lanes: Lanes, clock: Clock) -> None:
        self._store = store
        self._lanes = lanes
        self._clock = clock
        self._under_way: dict[str, asyncio.Task[Sequence[Delivery]]] = {}
        self._unkept: set[str] = set()

    @property
    def under_way(self) -> frozenset[asyncio.Task[Sequence[Delivery]]]:
        """What is being kept now."""
        return frozenset(self._under_way.values())

    def kept(self, job: str) -> bool:
        """Return whether the last result of ``job`` is kept."""
        return job not in self._unkept

    async def until_kept(self, job: str) -> None:
        """Wait for what is being kept of ``job``, whether it can be kept or not."""
        if (commit := self._under_way.get(job)) is not None:
            await asyncio.wait({commit})

    def begin(self, run: Run, fetched: Fetched, sinks: Sequence[str]) -> asyncio.Task[Sequence[Delivery]]:
        """Keep the result and note what is owed of it.

        To be shielded by whoever waits for it: cut off, it would be neither kept nor not kept.
        """
        commit = asyncio.create_task(self._commit(run, fetched, sinks))
        self._under_way[run.job] = commit
        commit.add_done_callback(partial(self._ended, run.job))
        return commit

    async def _commit(self, run: Run, fetched: Fetched, sinks: Sequence[str]) -> Sequence[Delivery]:
        if sinks:
            self._unkept.add(run.job)
        deliveries = await self._store.commit(run, fetched, sinks, self._clock.now())
        self._unkept.discard(run.job)
        now = self._clock.monotonic()
        for delivery in deliveries:
            self._lanes.owe(delivery, now)
        return deliveries

    def _ended(self, job: str, commit: asyncio.Task[Sequence[Delivery]]) -> None:
        if self._under_way.get(job) is commit:
            del self._under_way[job]
