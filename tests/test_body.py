"""Bodies and their memory: what is taken is given back, whichever way a Run ends."""

from __future__ import annotations

import asyncio
import hashlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from fetchd.body import CHUNK, UNWRITTEN, Body, BodyWriter, MemoryBudget, _SpoolFile, on_disk
from tests.processes import until


@pytest.fixture
def spool(tmp_path: Path) -> Path:
    """Return an empty spool folder."""
    folder = tmp_path / "spool"
    folder.mkdir()
    return folder


async def settle() -> None:
    """Let every task that can go on go on."""
    for _ in range(5):
        await asyncio.sleep(0)


class TestBudget:
    """The memory of all bodies together."""

    def test_what_does_not_fit_is_refused(self) -> None:
        """The sum is the limit, not each body."""
        budget = MemoryBudget(10)
        assert budget.try_take(6)
        assert not budget.try_take(5)
        budget.give(6)
        assert budget.try_take(10)

    async def test_waiters_are_served_in_order(self) -> None:
        """A large body must not wait for ever while small ones slip past it."""
        budget, order = MemoryBudget(10), []

        async def take(name: str, size: int) -> None:
            await budget.take(size)
            order.append(name)

        await budget.take(8)
        tasks = [asyncio.create_task(take("large", 9)), asyncio.create_task(take("small", 1))]
        await settle()
        assert not budget.try_take(1)
        assert order == []
        budget.give(8)
        await asyncio.gather(*tasks)
        assert order == ["large", "small"]
        assert budget.used == 10

    async def test_a_cancelled_waiter_leaves_its_place(self) -> None:
        """Those behind it go on at once: nothing else would wake them."""
        budget = MemoryBudget(10)
        await budget.take(5)
        large = asyncio.create_task(budget.take(9))
        small = asyncio.create_task(budget.take(2))
        await settle()
        large.cancel()
        await asyncio.gather(large, return_exceptions=True)
        await small
        assert budget.used == 7

    async def test_a_waiter_cancelled_as_it_is_served_gives_back(self) -> None:
        """Its bytes were counted already, and nobody would return them."""
        budget = MemoryBudget(10)
        await budget.take(10)
        task = asyncio.create_task(budget.take(4))
        await settle()
        budget.give(10)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert budget.used == 0

    async def test_more_than_everything_counts_as_everything(self) -> None:
        """A body larger than the budget comes alone, rather than never."""
        budget = MemoryBudget(10)
        await budget.take(25)
        assert budget.used == 10
        budget.give(25)
        assert budget.used == 0

    @given(st.lists(st.tuples(st.integers(1, 15), st.booleans()), max_size=30))
    def test_whatever_happens_the_sums_are_right(self, steps: list[tuple[int, bool]]) -> None:
        """Taking, waiting, cancelling and giving in any order: never over the limit, nothing lost, nobody stuck."""

        async def play() -> None:
            budget = MemoryBudget(10)
            takers: list[tuple[int, asyncio.Task[None]]] = []
            for size, cancels in steps:
                takers.append((size, asyncio.create_task(budget.take(size))))
                await asyncio.sleep(0)
                if cancels:
                    takers[len(takers) // 2][1].cancel()
                assert budget.used <= budget.limit
            while any(not task.done() for _, task in takers) or budget.used:
                await settle()
                done = [(size, task) for size, task in takers if task.done()]
                assert done, "all wait though nobody holds anything"
                takers = [entry for entry in takers if entry not in done]
                for size, task in done:
                    if not task.cancelled():
                        budget.give(size)
            assert budget.try_take(10)

        asyncio.run(play())


class TestBody:
    """What was fetched, wherever it is."""

    @pytest.fixture(params=["memory", "file"])
    def body(self, request: pytest.FixtureRequest, spool: Path) -> Iterator[Body]:
        """Return the same body in memory and in a file."""
        content = bytes(range(256)) * 600
        made = Body.of(content)
        if request.param == "file":
            path = spool / "body"
            path.write_bytes(content)
            made = Body(path, size=made.size, sha256=made.sha256)
        yield made
        made.close()

    async def test_it_reads_the_same_everywhere(self, body: Body) -> None:
        """A sink need not know where the body is."""
        whole = await body.read()
        pieces = [piece async for piece in body.chunks()]
        assert b"".join(pieces) == whole == bytes(range(256)) * 600
        assert max(map(len, pieces)) == CHUNK
        with body.open() as file:
            assert file.read() == whole
        assert (body.size, body.sha256) == (len(whole), hashlib.sha256(whole).hexdigest())

    async def test_a_reader_may_give_up(self, body: Body) -> None:
        """No file stays open behind it."""
        before = os.listdir("/proc/self/fd")
        async for _ in body.chunks():
            break
        assert os.listdir("/proc/self/fd") == before

    async def test_a_closed_body_is_not_an_empty_one(self, body: Body) -> None:
        """An empty result would be delivered, and the real one lost without a word."""
        body.close()
        body.close()
        assert body.path is None
        with pytest.raises(RuntimeError, match="closed"):
            await body.read()
        with pytest.raises(RuntimeError, match="closed"):
            body.open()

    def test_closing_removes_the_file(self, spool: Path) -> None:
        """The spool folder holds what is in flight and nothing else."""
        path = spool / "body"
        path.write_bytes(b"x")
        Body(path, size=1, sha256="").close()
        assert not path.exists()

    def test_closing_never_fails(self, spool: Path) -> None:
        """Whoever closes is on the way out, perhaps with a better error; what stays is said."""
        with capture_logs() as logs:
            Body(spool, size=1, sha256="").close()
        assert logs == [
            {"event": "spool_file_left", "log_level": "warning", "path": str(spool), "error": "Is a directory"}
        ]

    def test_memory_is_given_back_once(self) -> None:
        """Twice would let others take what is not there."""
        budget = MemoryBudget(10)
        assert budget.try_take(4)
        body = Body(b"1234", size=4, sha256="", release=lambda: budget.give(4))
        assert budget.try_take(6)
        body.close()
        body.close()
        assert budget.used == 6


class TestWriter:
    """A body as it arrives."""

    @given(pieces=st.lists(st.binary(max_size=40), max_size=12), above=st.integers(0, 200), limit=st.integers(0, 200))
    def test_what_is_written_comes_back(
        self, tmp_path_factory: pytest.TempPathFactory, pieces: list[bytes], above: int, limit: int
    ) -> None:
        """Wherever it goes on the way: whole, counted, and given back in the end."""

        async def play() -> None:
            folder, budget = tmp_path_factory.mktemp("spool"), MemoryBudget(limit)
            writer = BodyWriter(budget, folder, spool_above=above)
            for piece in pieces:
                await writer.write(piece)
            body, content = await writer.finish(), b"".join(pieces)
            writer.abort()
            assert await body.read() == content
            assert (body.size, body.sha256) == (len(content), hashlib.sha256(content).hexdigest())
            assert (body.path is None) == (len(content) <= min(above, limit))
            assert budget.used == (0 if body.path else len(content))
            body.close()
            assert budget.used == 0
            assert list(folder.iterdir()) == []

        asyncio.run(play())

    async def test_a_refused_byte_moves_the_body_to_a_file(self, spool: Path) -> None:
        """The memory that it had is free for others from then on."""
        budget = MemoryBudget(10)
        writer = BodyWriter(budget, spool, spool_above=100)
        await writer.write(b"12345678")
        assert budget.used == 8
        await writer.write(b"9012")
        assert budget.used == 0
        body = await writer.finish()
        assert body.path is not None
        assert body.path.parent == spool
        assert body.path.stat().st_mode & 0o777 == 0o600
        assert await body.read() == b"123456789012"
        body.close()

    async def test_a_body_without_its_beginning_is_none(self, spool: Path) -> None:
        """Somebody has tidied the folder up: what comes after that must not be taken for the whole."""
        writer = BodyWriter(MemoryBudget(0), spool, spool_above=0)
        await writer.write(b"a" * UNWRITTEN)
        for path in spool.iterdir():
            path.unlink()
        with pytest.raises(FileNotFoundError):
            await writer.write(b"b" * UNWRITTEN)
        assert list(spool.iterdir()) == []

    async def test_a_spooled_body_takes_little_memory(self, spool: Path) -> None:
        """However it arrives, what is not yet written stays below a bound that no budget needs to count."""
        writer = BodyWriter(MemoryBudget(0), spool, spool_above=0)
        for _ in range(40):
            await writer.write(bytes(10_000))
            assert len(writer._unwritten) < UNWRITTEN
        writer.abort()

    @pytest.mark.parametrize("above", [0, 1000])
    async def test_aborting_leaves_nothing(self, spool: Path, above: int) -> None:
        """A fetch may end at any byte."""
        budget = MemoryBudget(1000)
        writer = BodyWriter(budget, spool, spool_above=above)
        await writer.write(b"x" * 500)
        writer.abort()
        writer.abort()
        assert budget.used == 0
        assert list(spool.iterdir()) == []

    async def test_an_unwritable_spool_is_an_os_error(self, tmp_path: Path) -> None:
        """The caller says that this machine lacks something, not that the upstream does."""
        budget = MemoryBudget(10)
        writer = BodyWriter(budget, tmp_path / "missing", spool_above=4)
        await writer.write(b"1234")
        with pytest.raises(FileNotFoundError):
            await writer.write(b"5")
        writer.abort()
        assert budget.used == 0

    async def test_a_full_disk_is_an_os_error(self, tmp_path: Path) -> None:
        """What does not fit must not pass for a whole body."""
        file = _SpoolFile(tmp_path)
        file.path = Path("/dev/full")
        with pytest.raises(OSError, match="No space left"):
            await on_disk(lambda: file.append(b"x" * 10))


async def test_a_dropped_file_does_not_come_back(spool: Path) -> None:
    """A thread that nobody waits for any more may create it after it was dropped."""
    file = _SpoolFile(spool)
    file.drop()
    file.append(b"late")
    assert list(spool.iterdir()) == []


async def test_a_stalled_disk_holds_neither_the_loop_nor_the_caller() -> None:
    """A deadline ends the waiting; the thread is left to the disk."""
    stalled, free = threading.Event(), threading.Event()

    def act() -> None:
        stalled.set()
        free.wait()

    waiting = asyncio.create_task(on_disk(act))
    await until(stalled.is_set)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    free.set()
