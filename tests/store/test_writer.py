"""The writer's thread: groups, what happens when something cannot be written, and what waits for whom."""

from __future__ import annotations

import asyncio
import sqlite3
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from fetchd.errors import StoreError
from fetchd.store.writer import ORDER, Transaction, Writer
from tests.processes import until
from tests.store.made import watched_loop

BUSY = 0.5


def add(number: object) -> Callable[[Transaction], None]:
    """Return what inserts ``number``."""

    def act(transaction: Transaction) -> None:
        transaction.connection.execute("INSERT INTO numbers VALUES (?)", (number,))

    return act


def numbers(transaction: Transaction) -> list[Any]:
    """Return what was inserted, in order."""
    return [number for (number,) in transaction.connection.execute("SELECT number FROM numbers ORDER BY rowid")]


@asynccontextmanager
async def opened(path: Path, *, waiting: int = 2**20, traced: list[str] | None = None) -> AsyncIterator[Writer]:
    """Open a writer on a table of different numbers."""

    def connect() -> sqlite3.Connection:
        connection = sqlite3.connect(path, timeout=BUSY, isolation_level=None)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("CREATE TABLE IF NOT EXISTS numbers (number UNIQUE)")
        if traced is not None:
            connection.set_trace_callback(traced.append)
        return connection

    writer = Writer(path, lambda _transaction: None, waiting=waiting)
    await writer.start(connect)
    try:
        yield writer
    finally:
        await writer.aclose()


@asynccontextmanager
async def stalled(writer: Writer) -> AsyncIterator[None]:
    """Keep the thread busy, as a disk that hangs would."""
    begun, free = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    def act(_transaction: Transaction) -> None:
        loop.call_soon_threadsafe(begun.set)
        free.wait()

    task = asyncio.create_task(writer.run(act))
    await begun.wait()
    try:
        yield
    finally:
        free.set()
        await task


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return where the database is."""
    return tmp_path / "numbers.db"


def lock(path: Path) -> sqlite3.Connection:
    """Return a connection that holds the write lock."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("BEGIN IMMEDIATE")
    return connection


async def test_what_waits_is_written_in_one_transaction(path: Path) -> None:
    """A commit costs as much as the writing: fifty Runs that end together pay for one."""
    traced: list[str] = []
    async with opened(path, traced=traced) as writer:
        async with stalled(writer):
            tasks = [asyncio.create_task(writer.run(add(number))) for number in range(50)]
            writer.keep(add("kept"))
            writer.offer(add("offered"))
            await asyncio.sleep(0)
        await asyncio.gather(*tasks)
        assert writer.transactions == 2
        assert traced.count("COMMIT") == 2
        assert await writer.run(numbers, reads=True) == ["kept", "offered", *range(50)]


async def test_one_bad_order_is_refused_alone(path: Path) -> None:
    """The others of its group have done nothing wrong."""
    async with opened(path) as writer:
        with capture_logs() as logs:
            async with stalled(writer):
                tasks = [asyncio.create_task(writer.run(add(number))) for number in (1, 2, 2, 3)]
                await asyncio.sleep(0)
                writer.keep(add("\ud800"))
                writer.offer(add(3))
                writer.keep(add(4))
            results = await asyncio.gather(*tasks, return_exceptions=True)
        assert [type(result) for result in results] == [type(None), type(None), StoreError, type(None)]
        assert await writer.run(numbers, reads=True) == [1, 2, 3, 4]
        assert writer.lost == 2
        assert {line["event"] for line in logs} == {"store_refused"}


async def test_a_failed_order_leaves_nothing_of_it(path: Path) -> None:
    """What was called after its transaction would be called for something that is not there."""
    called: list[str] = []

    def act(transaction: Transaction) -> None:
        transaction.after.append(lambda: called.append("after"))
        transaction.told.append(lambda: called.append("told"))
        add(1)(transaction)
        raise ZeroDivisionError("boom")

    async with opened(path) as writer:
        with capture_logs(), pytest.raises(StoreError, match=r"numbers\.db: ZeroDivisionError: boom"):
            await writer.run(act)
        assert await writer.run(numbers, reads=True) == []
        assert called == []


async def test_calls_come_before_the_answer(path: Path) -> None:
    """Whoever is answered finds everything in step with the database."""
    called: list[tuple[str, bool]] = []

    def act(transaction: Transaction) -> None:
        transaction.told.append(lambda: called.append(("told", threading.current_thread() is threading.main_thread())))
        transaction.after.append(
            lambda: called.append(("after", threading.current_thread() is threading.main_thread()))
        )

    async with opened(path) as writer:
        await writer.run(act)
        assert called == [("after", False), ("told", True)]


async def test_a_locked_database_holds_nobody_for_long(path: Path) -> None:
    """Another process that forgets its lock: what is awaited fails, what must not be lost waits, the loop turns."""
    async with opened(path) as writer:
        with capture_logs() as logs, closing(lock(path)) as other:
            async with watched_loop(0.4):
                assert await writer.run(numbers, reads=True) == []
                writer.offer(add("offered"))
                writer.keep(add("kept 1"))
                with pytest.raises(StoreError, match="locked by another process"):
                    await writer.run(add("awaited"))
                with pytest.raises(StoreError, match="locked"):  # it would not see what is kept
                    await writer.run(numbers, reads=True)
                writer.keep(add("kept 2"))
            other.execute("ROLLBACK")
            assert await writer.run(numbers, reads=True) == ["kept 1", "kept 2"]
        assert writer.lost == 1
        failing, recovered = logs
        assert (failing["event"], "locked" in failing["reason"]) == ("store_failing", True)
        assert (recovered["event"], recovered["lost"]) == ("store_recovered", 1)


async def test_what_is_kept_is_tried_again_by_itself(path: Path) -> None:
    """Nobody else may come by for hours."""
    async with opened(path) as writer:
        with capture_logs() as logs:
            with closing(lock(path)):
                writer.keep(add(1))
                await until(lambda: logs)
            await until(lambda: len(logs) == 2)
        assert await writer.run(numbers, reads=True) == [1]


async def test_nothing_overtakes_what_is_kept(path: Path) -> None:
    """It changes what is owed: what comes after it would be read, or written, as if it had not happened."""
    failures = [1, 2]

    def full(transaction: Transaction) -> None:
        if failures:
            failures.pop()
            error = sqlite3.OperationalError("database or disk is full")
            error.sqlite_errorcode = sqlite3.SQLITE_FULL
            raise error
        add("kept 1")(transaction)

    async with opened(path) as writer:
        with capture_logs() as logs:
            async with stalled(writer):
                writer.keep(full)
                writer.offer(add("offered"))
                writer.keep(add("kept 2"))
                orders = [writer.run(add("awaited")), writer.run(add("awaited")), writer.run(numbers, reads=True)]
                tasks = [asyncio.create_task(order) for order in orders]
                await asyncio.sleep(0)
                writer.keep(add("kept 3"))
            written, refused, read = await asyncio.gather(*tasks, return_exceptions=True)
            assert written is None
            assert "UNIQUE" in str(refused)
            assert "free space on its disk" in str(read)
            await until(lambda: logs[-1]["event"] == "store_recovered")
        assert await writer.run(numbers, reads=True) == ["offered", "awaited", "kept 1", "kept 2", "kept 3"]
        assert writer.lost == 0


async def test_trouble_that_comes_and_goes_is_said_once_a_minute(path: Path) -> None:
    """A disk on the brink of being full must not fill the log as well."""
    async with opened(path) as writer:
        with capture_logs() as logs:
            for number in range(20):
                writer.fails(f"trouble {number}")
                await writer.run(add(number))
        assert [line["event"] for line in logs] == ["store_failing", "store_recovered"]


async def test_what_cannot_be_written_for_now_is_bounded(path: Path) -> None:
    """A disk that hangs: history is dropped and counted, commits wait, and what must not be lost is not."""
    async with opened(path, waiting=10 * ORDER) as writer:
        with capture_logs() as logs:
            async with stalled(writer), watched_loop(0.4):
                for number in range(100):
                    writer.offer(add(number))
                task = asyncio.create_task(writer.run(add("awaited"), size=1000))
                writer.keep(add("kept"))
                await asyncio.sleep(0.01)
                assert not task.done()
                assert writer.lost == 91
            await task
            assert await writer.run(numbers, reads=True) == [*range(9), "kept", "awaited"]
        assert [line["event"] for line in logs] == ["store_failing", "store_recovered"]
        assert "more waits" in logs[0]["reason"]


async def test_bodies_count_for_what_they_are(path: Path) -> None:
    """Ten small orders and ten large ones are not the same memory; one larger than all goes alone."""
    async with opened(path, waiting=10 * ORDER) as writer:
        async with stalled(writer):
            large = asyncio.create_task(writer.run(add("large"), size=100 * ORDER))
            await asyncio.sleep(0)
            assert not large.done()
        await large
        await writer.run(add("next"))


async def test_a_cancelled_caller_gives_its_place_back(path: Path) -> None:
    """Or the room would shrink with each deadline until nothing is written any more."""
    async with opened(path, waiting=4 * ORDER) as writer:
        for turn in range(30):
            async with stalled(writer):
                tasks = [asyncio.create_task(writer.run(add((turn, number).__repr__()))) for number in range(6)]
                await asyncio.sleep(0)
                for task in tasks[turn % 3 :: 2]:
                    task.cancel()
                await asyncio.sleep(0)
            await asyncio.gather(*tasks, return_exceptions=True)
        await writer.run(numbers, reads=True)
        assert writer._room.used == 0


async def test_order_is_kept(path: Path) -> None:
    """A delivery is postponed, then made: the other way round it would be owed for ever."""
    async with opened(path) as writer:
        for number in range(0, 300, 3):
            writer.keep(add(number))
            writer.offer(add(number + 1))
            await writer.run(add(number + 2))
        assert await writer.run(numbers, reads=True) == list(range(300))


async def test_closing_writes_what_waits(path: Path) -> None:
    """The last Run's history is what one looks for after a stop."""
    async with opened(path) as writer:
        for number in range(100):
            writer.offer(add(number))
        writer.keep(add("kept"))
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT count(*) FROM numbers").fetchone() == (101,)
    assert not path.with_name("numbers.db-wal").exists()


async def test_closing_says_what_is_lost(path: Path) -> None:
    """There is no later: a delivery that was made will be made again, and somebody should know why."""
    async with opened(path) as writer:
        with capture_logs() as logs, closing(lock(path)):
            writer.keep(add(1))
            await writer.aclose()
    assert logs[-1]["event"] == "store_unwritten"
    assert logs[-1]["count"] == 1


async def test_after_closing_there_is_an_error_and_nothing_else(path: Path) -> None:
    """A Run that ignored its cancellation may still report when all is closed."""
    async with opened(path) as writer:
        await writer.aclose()
        writer.keep(add(1))
        writer.offer(add(2))
        with pytest.raises(StoreError, match="is closed"):
            await writer.run(add(3))
        assert writer.lost == 2


async def test_a_failed_start_leaves_no_thread(path: Path) -> None:
    """The error is the caller's, and closing what never opened returns."""

    def connect() -> sqlite3.Connection:
        raise StoreError("no")

    writer = Writer(path, lambda _transaction: None)
    with pytest.raises(StoreError, match="no"):
        await writer.start(connect)
    await writer.aclose()
    await until(lambda: not [thread for thread in threading.enumerate() if thread.name == "store"])


async def test_a_cancelled_start_closes_what_it_opens(path: Path) -> None:
    """A disk that stalls at the start is left to its thread, which ends by itself."""
    free, closed = threading.Event(), threading.Event()

    class Connection(sqlite3.Connection):
        def close(self) -> None:
            super().close()
            closed.set()

    def connect() -> sqlite3.Connection:
        free.wait()
        return sqlite3.connect(path, factory=Connection)

    writer = Writer(path, lambda _transaction: None)
    task = asyncio.create_task(writer.start(connect))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    free.set()
    await until(closed.is_set)


def test_an_unclosed_store_does_not_hold_the_process(tmp_path: Path) -> None:
    """The process leaves when it is told to, whatever was forgotten."""
    script = f"""
import asyncio, pathlib
from fetchd.store.schema import open_database
from fetchd.store.writer import Writer
path = pathlib.Path({str(tmp_path)!r}) / "state.db"
writer = Writer(path, lambda transaction: None)
asyncio.run(writer.start(lambda: open_database(path)))
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=10)
