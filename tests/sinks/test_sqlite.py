"""Results as rows: once each, off the loop, whatever holds or breaks the file."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import anyio
import pytest
from pydantic import ValidationError

from fetchd.errors import SinkError
from fetchd.sinks import Resources
from fetchd.sinks.databases import Databases
from fetchd.sinks.sqlite import SqliteSink
from tests.processes import descriptors, until
from tests.sinks.made import delivery, options, resources


@pytest.fixture
def shared(tmp_path: Path) -> Resources:
    """Return resources whose databases do not wait long for others."""
    return resources(tmp_path, databases=Databases(busy=0.05))


@pytest.fixture
async def sink(shared: Resources) -> AsyncIterator[SqliteSink]:
    """Return a sink for results.db."""
    made = SqliteSink(options("sqlite", path="results.db"), shared)
    yield made
    await made.aclose()


def rows(path: Path, query: str = "SELECT * FROM fetchd ORDER BY delivery") -> list[dict[str, Any]]:
    """Read the file as another program would."""
    with closing(sqlite3.connect(path)) as connection:
        connection.row_factory = sqlite3.Row
        return [dict(row) for row in connection.execute(query)]


@pytest.fixture
def locked(tmp_path: Path) -> Iterator[None]:
    """Have another connection hold the database's write lock."""
    with closing(sqlite3.connect(tmp_path / "results.db", isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("BEGIN IMMEDIATE")
        yield


def threads() -> list[str]:
    """Return the threads that write to databases."""
    return [thread.name for thread in threading.enumerate() if thread.name == "sqlite"]


@pytest.mark.parametrize("table", ["sqlite_x", "SQLite_master", "a b", 'a"b', "1a", "", "a" * 64])
def test_a_table_has_a_plain_name(table: str) -> None:
    """It becomes part of the statement."""
    with pytest.raises(ValidationError):
        options("sqlite", path="x.db", table=table)


def test_a_path_has_no_placeholders() -> None:
    """Each file has a thread: a new one every day would be a pile."""
    with pytest.raises(ValidationError, match="there are none here"):
        options("sqlite", path="{date}.db")


async def test_a_row_tells_the_whole_delivery(sink: SqliteSink, tmp_path: Path) -> None:
    """Text is text, so that SQLite's own functions read it; the rest is bytes."""
    await sink.deliver(delivery())
    await sink.deliver(delivery(b"\x00\xff", id="d2", content_type="image/png", status=None))
    first, second = rows(tmp_path / "results.db")
    assert first.pop("stored_at").endswith("Z")
    assert first == {
        "delivery": "d1",
        "job": "rates",
        "run": "r1",
        "slot": "2026-03-02T00:30:00+01:00",
        "status": 200,
        "url": "https://upstream.test/v1/rates",
        "content_type": "application/json",
        "body": '{"rate": 1.10}',
    }
    assert (second["status"], second["body"]) == (None, b"\x00\xff")
    assert rows(tmp_path / "results.db", "SELECT body ->> 'rate' AS rate FROM fetchd WHERE status = 200") == [
        {"rate": 1.1}
    ]


async def test_a_delivery_makes_one_row(sink: SqliteSink, tmp_path: Path) -> None:
    """It may come again after a crash between the row and the note that it was made."""
    for _ in range(3):
        await sink.deliver(delivery())
    assert len(rows(tmp_path / "results.db")) == 1


async def test_a_spooled_body_is_stored(sink: SqliteSink, tmp_path: Path) -> None:
    """Wherever it was before."""
    (tmp_path / "spooled").write_bytes(b"x" * 500_000)
    await sink.deliver(delivery(tmp_path / "spooled", content_type="text/plain"))
    assert rows(tmp_path / "results.db")[0]["body"] == "x" * 500_000


async def test_what_no_text_holds_is_replaced(sink: SqliteSink, tmp_path: Path) -> None:
    """An upstream's header may hold bytes that are no text; the result is not lost for it."""
    await sink.deliver(delivery(content_type="text/\udcff\n"))
    assert rows(tmp_path / "results.db")[0]["content_type"] == "text/??"


async def test_one_thread_writes_a_file(shared: Resources, tmp_path: Path) -> None:
    """Two writers of ours would lock each other out; the last to leave closes the file."""
    before = descriptors()
    (tmp_path / "link.db").symlink_to("results.db")
    sinks = [
        SqliteSink(options("sqlite", path=path, table=table), shared)
        for path, table in (("results.db", "a"), ("./results.db", "b"), ("link.db", "c"), ("results.db", "a"))
    ]
    await asyncio.gather(
        *(sinks[number % 4].deliver(delivery(id=f"d{number}")) for number in range(40)),
    )
    assert threads() == ["sqlite"]
    counts = [len(rows(tmp_path / "results.db", f"SELECT * FROM {table}")) for table in "abc"]
    assert counts == [20, 10, 10]
    for sink in sinks:
        assert threads() == ["sqlite"]
        await sink.aclose()
        await sink.aclose()
    await until(lambda: threads() == [])
    assert descriptors() == before
    assert not (tmp_path / "results.db-wal").exists()


@pytest.mark.usefixtures("locked")
async def test_a_locked_file_is_transient_and_holds_nobody_else(sink: SqliteSink) -> None:
    """The other process will be done; until then the loop turns."""
    turns = 0

    async def turn() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0.001)
            turns += 1

    task = asyncio.create_task(turn())
    with pytest.raises(SinkError, match=r"results\.db is locked by another process") as caught:
        await sink.deliver(delivery())
    task.cancel()
    assert not caught.value.permanent
    assert turns > 5


@pytest.mark.usefixtures("locked")
async def test_a_deadline_does_not_wait_for_a_lock(tmp_path: Path) -> None:
    """Nor does what it cut off stay in the queue."""
    sink = SqliteSink(options("sqlite", path="results.db"), resources(tmp_path, databases=Databases(busy=0.3)))
    began = time.monotonic()
    with anyio.move_on_after(0.05) as scope:
        await asyncio.gather(*(sink.deliver(delivery(id=str(number))) for number in range(20)))
    assert scope.cancelled_caught
    await sink.aclose()
    assert time.monotonic() - began < 1.5


async def test_what_was_owed_arrives_once_the_lock_is_gone(sink: SqliteSink, tmp_path: Path) -> None:
    """The sink goes on after a failure."""
    with closing(sqlite3.connect(tmp_path / "results.db", isolation_level=None)) as connection:
        connection.execute("BEGIN EXCLUSIVE")
        with pytest.raises(SinkError, match="locked"):
            await sink.deliver(delivery())
    await sink.deliver(delivery())
    assert len(rows(tmp_path / "results.db")) == 1


async def test_a_file_that_is_no_database_says_so(sink: SqliteSink, tmp_path: Path) -> None:
    """Trying again does not make it one; it is left as it is."""
    (tmp_path / "results.db").write_text("important notes, certainly not a database\n" * 10)
    with pytest.raises(SinkError, match=r"results\.db is not an SQLite database") as caught:
        await sink.deliver(delivery())
    assert caught.value.permanent
    assert (tmp_path / "results.db").read_text().startswith("important notes")


async def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    """SQLite would wait for a pipe's writer."""
    os.mkfifo(tmp_path / "pipe")
    sink = SqliteSink(options("sqlite", path="pipe"), resources(tmp_path))
    with pytest.raises(SinkError, match="is not a file") as caught:
        await sink.deliver(delivery())
    assert caught.value.permanent


async def test_a_table_of_another_shape_is_permanent(sink: SqliteSink, tmp_path: Path) -> None:
    """And so is one that would take a delivery twice."""
    with closing(sqlite3.connect(tmp_path / "results.db")) as connection:
        connection.execute("CREATE TABLE fetchd (delivery TEXT)")
    with pytest.raises(SinkError, match="no column named") as caught:
        await sink.deliver(delivery())
    assert caught.value.permanent


async def test_a_link_does_not_lead_out(tmp_path: Path) -> None:
    """As with files."""
    (tmp_path / "out").mkdir()
    (tmp_path / "out/results.db").symlink_to(tmp_path / "elsewhere.db")
    sink = SqliteSink(options("sqlite", path="results.db"), resources(tmp_path / "out"))
    with pytest.raises(SinkError, match="leads it out of"):
        await sink.deliver(delivery())


async def test_a_folder_that_cannot_be_made_is_transient(tmp_path: Path) -> None:
    """It can be put right."""
    (tmp_path / "file").write_bytes(b"")
    sink = SqliteSink(options("sqlite", path="file/x.db"), resources(tmp_path))
    with pytest.raises(SinkError, match=r"file/x\.db: ") as caught:
        await sink.deliver(delivery())
    assert not caught.value.permanent


async def test_a_removed_file_is_made_anew(sink: SqliteSink, tmp_path: Path) -> None:
    """Rows written to a file without a name would be lost without a word."""
    await sink.deliver(delivery())
    for path in tmp_path.glob("results.db*"):
        path.unlink()
    await sink.deliver(delivery(id="d2"))
    assert [row["delivery"] for row in rows(tmp_path / "results.db")] == ["d2"]


async def test_a_full_disk_is_transient(sink: SqliteSink, tmp_path: Path) -> None:
    """What is there stays readable, and what is owed stays owed."""
    await sink.deliver(delivery())
    database = sink._database
    assert database is not None
    await database.run(lambda connection: connection.execute("PRAGMA max_page_count = 10").fetchall())
    with pytest.raises(SinkError, match="full") as caught:
        await sink.deliver(delivery(bytes(1_000_000), id="d2"))
    assert not caught.value.permanent
    assert len(rows(tmp_path / "results.db")) == 1


def test_an_open_database_does_not_hold_the_process(tmp_path: Path) -> None:
    """The thread is a daemon: whoever forgets to close, or cannot, still exits."""
    script = (
        "import asyncio, pathlib, sys\n"
        "from tests.sinks.made import delivery, options, resources\n"
        "from fetchd.sinks.sqlite import SqliteSink\n"
        "out = pathlib.Path(sys.argv[1])\n"
        "asyncio.run(SqliteSink(options('sqlite', path='x.db'), resources(out)).deliver(delivery()))\n"
    )
    subprocess.run([sys.executable, "-c", script, tmp_path], check=True, timeout=20)
    assert len(rows(tmp_path / "x.db")) == 1
