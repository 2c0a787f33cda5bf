"""Whatever is done, the store on the disk answers as the one in memory does, also after restarts."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fetchd.errors import Reason
from fetchd.run import Delivery, Outcome, Run
from fetchd.store import Owed, Store
from fetchd.store.memory import MemoryStore
from fetchd.store.sqlite import open_sqlite_store
from tests.store.made import NOW, a_report, a_result

JOBS, SINKS = ("a", "b"), ("file", "command")

jobs, sinks, small = st.sampled_from(JOBS), st.sampled_from(SINKS), st.integers(0, 4)
step = st.one_of(
    st.tuples(st.just("commit"), jobs, st.lists(sinks, unique=True, max_size=2), st.sampled_from([0, 10, 90])),
    st.tuples(st.sampled_from(["delivered", "postponed", "buried"]), st.integers(0, 30)),
    st.tuples(st.just("claim"), jobs, small),
    st.tuples(st.just("finish"), jobs, st.sampled_from(Outcome)),
    st.tuples(st.sampled_from(["tidy", "reopen"])),
)


class Both:
    """A store on the disk and one in memory, which are told the same."""

    def __init__(self, state: Path) -> None:
        self._state = state
        self._stack = AsyncExitStack()
        self._runs = 0
        self.disk: Any = None
        self.memory: Any = MemoryStore(history=4, failures=2)
        self.made: list[Delivery] = []

    async def open(self) -> None:
        """Open what is on the disk, once more perhaps."""
        await self._stack.aclose()
        opened = open_sqlite_store(self._state, history=4, failures=2, inline_up_to=50)
        self.disk = await self._stack.enter_async_context(opened)

    async def close(self) -> None:
        """Close it."""
        await self._stack.aclose()

    async def do(self, kind: str, *values: Any) -> None:
        """Do one step, and compare what comes back at once."""
        if kind == "reopen":
            await self.open()
        elif kind == "tidy":
            await self.disk.tidy()
        elif kind == "commit":
            await self._commit(*values)
        elif kind in {"claim", "finish"}:
            await self._run(kind, *values)
        elif self.made:
            self._settle(kind, self.made[values[0] % len(self.made)])

    async def _commit(self, job: str, names: list[str], size: int) -> None:
        self._runs += 1
        run, content, etag = Run(f"run-{self._runs}", job, NOW), b"x" * size, str(self._runs)
        one, other = [await store.commit(run, a_result(content, etag), names, NOW) for store in self.stores()]
        assert [delivery.id for delivery in one] == [delivery.id for delivery in other]
        self.made += one

    async def _run(self, kind: str, job: str, value: Any) -> None:
        self._runs += 1
        if kind == "claim":
            run = Run(f"run-{self._runs}", job, NOW + timedelta(seconds=value))
            assert await self.disk.claim(run) == await self.memory.claim(run)
            return
        report = a_report(Run(f"run-{self._runs}", job, NOW), value, reason=Reason.DNS, message=f"{self._runs}")
        for store in self.stores():
            store.finish(report)

    def _settle(self, kind: str, delivery: Delivery) -> None:
        for store in self.stores():
            if kind == "delivered":
                store.delivered(delivery)
            elif kind == "postponed":
                store.postponed(delivery, 3, NOW + timedelta(minutes=5), "no")
            else:
                store.buried(delivery, 5, "never")

    def stores(self) -> list[Store]:
        """Return both."""
        return [self.disk, self.memory]

    async def compare(self) -> None:
        """Compare everything that can be asked."""

        async def answers(store: Store) -> list[Any]:
            lanes = sorted(await store.lanes(), key=lambda lane: (lane.job, lane.sink))
            first = [await seen(await store.first_owed(job, sink)) for job in JOBS for sink in SINKS]
            return [lanes, first, [store.recall(job) for job in JOBS], [await tail(store, job) for job in JOBS]]

        assert await answers(self.disk) == await answers(self.memory)


async def tail(store: Store, job: str) -> list[Any]:
    """Return the reports that any store has: of those beyond its bounds it may keep some for a while."""
    reports = await store.history(job, 100)
    bad = [report for report in reports if not report.outcome.good]
    return [list(reports[:4]), bad[:2]]


async def seen(owed: Owed | None) -> Any:
    """Return what can be seen of ``owed``, its body as bytes."""
    if owed is None:
        return None
    fetched = owed.delivery.fetched
    content = await fetched.body.read()
    plain: Callable[..., Any] = replace
    return plain(owed, delivery=plain(owed.delivery, fetched=plain(fetched, body=None))), content


@settings(max_examples=40)
@given(steps=st.lists(step, min_size=5, max_size=25))
def test_both_stores_are_alike(tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[Any, ...]]) -> None:
    """The fake that others are tested with must not be kinder than the real one."""

    async def play() -> None:
        both = Both(tmp_path_factory.mktemp("state"))
        await both.open()
        try:
            for one in steps:
                await both.do(*one)
            await both.compare()
            await both.open()
            await both.compare()
        finally:
            await both.close()

    asyncio.run(play())
