"""Memory for bodies that arrive: who finds none left waits, and is served."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from fetchd.body import UNWRITTEN, MemoryBudget
from fetchd.fetch.fetcher import Fetcher
from fetchd.fetch.spool import Spool
from fetchd.worker import Workers
from tests.fetch.room import MIB, SHORT, answering, connections, ending, job, response


async def test_more_readers_than_memory_wait_and_finish(tmp_path: Path) -> None:
    """Each holds a little that no threshold bounds: hundreds of them together must not exceed the budget."""
    budget = MemoryBudget(2 * UNWRITTEN)
    spool = Spool(tmp_path, MIB, budget)
    reading: list[bytes] = []
    go_on = asyncio.Event()

    async def pieces(content: bytes) -> AsyncIterator[bytes]:
        reading.append(content)
        await go_on.wait()
        yield content

    tasks = [asyncio.create_task(spool.keep(pieces(content))) for content in (b"a", b"b", b"c")]
    for _ in range(5):
        await asyncio.sleep(0)
    assert reading == [b"a", b"b"]
    go_on.set()
    bodies = await asyncio.gather(*tasks)
    assert [await body.read() for body in bodies] == [b"a", b"b", b"c"]
    for body in bodies:
        body.close()
    assert budget.used == 0


async def test_what_breaks_off_gives_its_memory_back(tmp_path: Path) -> None:
    """Whether it was waiting or reading, and however it ended."""
    budget = MemoryBudget(UNWRITTEN)
    spool = Spool(tmp_path, MIB, budget)

    async def broken() -> AsyncIterator[bytes]:
        yield b"x"
        raise LookupError

    async def endless() -> AsyncIterator[bytes]:
        await asyncio.Event().wait()
        yield b""

    with pytest.raises(LookupError):
        await spool.keep(broken())
    tasks = [asyncio.create_task(spool.keep(endless())) for _ in range(2)]
    await asyncio.sleep(0)
    assert budget.used == UNWRITTEN
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    assert budget.used == 0
    assert list(tmp_path.iterdir()) == []


async def test_the_wait_counts_and_is_told(tmp_path: Path) -> None:
    """It is this machine's lack, not the server's silence."""
    budget = MemoryBudget(UNWRITTEN)
    await budget.take(UNWRITTEN)
    async with connections() as transport, answering(response(b"x")) as server:
        fetcher = Fetcher(transport, Spool(tmp_path, MIB, budget), Workers())
        end = await ending(fetcher, job(server.url), SHORT)
        assert (end.why, end.phase) == ("deadline", "memory")
        budget.give(UNWRITTEN)
        assert (await ending(fetcher, job(server.url))).content == b"x"
    assert budget.used == 0
