"""The store of one machine: what is in it after a restart, in files and in rows, and what it costs."""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from fetchd.errors import Reason, StoreError
from fetchd.run import Outcome
from fetchd.store import Memory, letters
from fetchd.store.schema import BODIES, NAME, open_database
from fetchd.store.sqlite import open_sqlite_store
from tests.store.made import NOW, a_report, a_result, a_run, committed, settled

LARGE = b"x" * 200_000


def rows(state: Path, query: str) -> list[tuple[object, ...]]:
    """Read the database as another program would."""
    with closing(sqlite3.connect(state / NAME)) as connection:
        return connection.execute(query).fetchall()


def files(state: Path) -> list[str]:
    """Return the Runs whose bodies are in files."""
    return sorted(path.name for path in (state / BODIES).iterdir())


async def test_everything_is_there_after_a_restart(tmp_path: Path) -> None:
    """A daemon that is restarted goes on where it was."""
    async with open_sqlite_store(tmp_path) as store:
        assert await store.claim(a_run(3))
        (first,) = await committed(store, 1)
        (second, dead) = await committed(store, 2, "rates", "file", "command", content=LARGE)
        store.postponed(first, 4, datetime(2026, 3, 2, tzinfo=UTC), "full")
        store.buried(dead, 9, "refused")
        store.finish(a_report(a_run(2)))
        store.skip("rates", NOW, Reason.OVERLAP)
        store.skip("rates", NOW, Reason.OVERLAP)
        await settled(store)
        before = store.recall("rates")
    async with open_sqlite_store(tmp_path) as store:
        assert store.recall("rates") == before
        assert before.owed == 2
        assert before.dead == 1
        assert not await store.claim(a_run(3))
        owed = await store.first_owed("rates", "file")
        assert owed is not None
        assert (owed.delivery.id, owed.attempts, owed.error) == (first.id, 4, "full")
        store.delivered(first)
        owed = await store.first_owed("rates", "file")
        assert owed is not None
        assert owed.delivery.id == second.id
        assert await owed.delivery.fetched.body.read() == LARGE
        assert await store.history("rates", 5) == [a_report(a_run(2))]
    assert letters.skipped(tmp_path, "rates") == {Reason.OVERLAP: 2}


async def test_the_newest_run_is_known_after_a_restart(tmp_path: Path) -> None:
    """Whether it is owed yet, or only in the history: the next one must sort behind it."""
    async with open_sqlite_store(tmp_path) as store:
        assert store.last_run == ""
        await committed(store, 3)
        store.finish(a_report(a_run(2)))
    async with open_sqlite_store(tmp_path) as store:
        assert store.last_run == a_run(3).id
        for number in (5, 4):
            store.finish(a_report(a_run(number)))
    async with open_sqlite_store(tmp_path) as store:
        assert store.last_run == a_run(5).id


async def test_what_is_needed_is_on_the_disk_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A power failure may take the last transactions, but not a refresh token whose predecessor is void."""
    synced, fsync = [], os.fsync

    def noted(fd: int) -> None:
        synced.append((Path(os.readlink(f"/proc/self/fd/{fd}")).name, rows(tmp_path, "SELECT value FROM notes")))
        fsync(fd)

    async with open_sqlite_store(tmp_path) as store:
        await settled(store)
        monkeypatch.setattr(os, "fsync", noted)
        store.note("holds/a", "1", needed=False)
        await settled(store)
        assert synced == []
        store.note("oauth/a", "new")
        store.note("oauth/b", "new")
        await settled(store)
        assert synced[-1] == (f"{NAME}-wal", [("1",), ("new",), ("new",)])


async def test_a_small_body_is_not_copied(tmp_path: Path) -> None:
    """The sink reads the very bytes that were fetched."""
    content = b"x" * 1000
    async with open_sqlite_store(tmp_path) as store:
        (delivery,) = await committed(store, content=content)
        assert delivery.fetched.body.content is content
        assert files(tmp_path) == []


@pytest.mark.parametrize("spooled", [False, True])
async def test_a_large_body_is_in_a_file(tmp_path: Path, spooled: bool) -> None:
    """The database stays small, and the body is handed over without coming into memory again."""
    spool = tmp_path / "spooled"
    spool.write_bytes(LARGE)
    async with open_sqlite_store(tmp_path) as store:
        (delivery,) = await committed(store, content=spool if spooled else LARGE)
        assert delivery.fetched.body.path == tmp_path / BODIES / a_run().id
        assert await delivery.fetched.body.read() == LARGE
        assert spool.exists() != spooled
        store.delivered(delivery)
        await settled(store)
        assert files(tmp_path) == []
        assert rows(tmp_path, "SELECT count(*) FROM results") == [(0,)]


async def test_a_body_from_another_disk_is_copied(tmp_path: Path) -> None:
    """The spool folder may be in memory, where a file cannot get a second name on the disk."""
    shared = Path("/dev/shm")
    if not shared.is_dir() or shared.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("there is no other file system here")
    spool = shared / f"fetchd-{tmp_path.name}"
    spool.write_bytes(LARGE)
    async with open_sqlite_store(tmp_path) as store:
        (delivery,) = await committed(store, content=spool)
        assert await delivery.fetched.body.read() == LARGE
        assert not spool.exists()


async def test_a_result_that_is_not_kept_is_left_as_it_was(tmp_path: Path) -> None:
    """Whoever fetched it may still hand it over; the one that is kept under the same name is not touched."""
    spool = tmp_path / "spooled"
    spool.write_bytes(LARGE)
    async with open_sqlite_store(tmp_path) as store:
        (first,) = await committed(store, content=b"y" * 100_000)
        fetched = a_result(spool)
        with capture_logs() as logs, pytest.raises(StoreError, match="cannot keep a body"):
            await store.commit(a_run(), fetched, ("file",), NOW)
        assert await fetched.body.read() == LARGE
        assert await first.fetched.body.read() == b"y" * 100_000
        assert [line["event"] for line in logs] == ["store_failing"]
        fetched.body.close()
        assert not spool.exists()


async def test_a_row_that_is_refused_takes_its_file_along(tmp_path: Path) -> None:
    """Nothing would ever remove it; and the job is remembered by the result before."""
    async with open_sqlite_store(tmp_path) as store:
        await committed(store, 1, etag='"1"')
        with capture_logs() as logs, pytest.raises(StoreError, match="UNIQUE"):
            await committed(store, 1, content=LARGE, etag='"2"')
        assert [line["event"] for line in logs] == ["store_refused"]
        assert files(tmp_path) == []
        memory = store.recall("rates")
        assert (memory.validators.etag, memory.owed) == ('"1"', 1)


async def test_files_without_rows_are_removed_at_the_start(tmp_path: Path) -> None:
    """A process that was killed between the file and the row has left it."""
    async with open_sqlite_store(tmp_path) as store:
        await committed(store, 1, content=LARGE)
    (tmp_path / BODIES / "left").write_bytes(b"half")
    async with open_sqlite_store(tmp_path):
        assert files(tmp_path) == [a_run(1).id]


async def test_rows_without_files_are_said_and_found(tmp_path: Path) -> None:
    """Somebody has tidied up: the delivery cannot be made, which only its reader can notice."""
    async with open_sqlite_store(tmp_path) as store:
        await committed(store, 1, content=LARGE)
    (tmp_path / BODIES / a_run(1).id).unlink()
    with capture_logs() as logs:
        async with open_sqlite_store(tmp_path) as store:
            owed = await store.first_owed("rates", "file")
            assert owed is not None
            with pytest.raises(FileNotFoundError):
                await owed.delivery.fetched.body.read()
            store.buried(owed.delivery, 1, "its file is gone")
            await settled(store)
            assert store.recall("rates").dead == 1
    assert [(line["event"], line["runs"]) for line in logs] == [("bodies_missing", [a_run(1).id])]


async def test_a_file_that_cannot_be_removed_is_tried_again(tmp_path: Path) -> None:
    """A folder in its place stands for a disk that refuses."""
    async with open_sqlite_store(tmp_path) as store:
        (delivery,) = await committed(store, 1, content=LARGE)
        path = tmp_path / BODIES / a_run(1).id
        path.unlink()
        path.mkdir()
        with capture_logs() as logs:
            store.delivered(delivery)
            await settled(store)
        assert [line["event"] for line in logs] == ["body_file_left"]
        path.rmdir()
        path.touch()
        await store.tidy()
        assert files(tmp_path) == []


async def test_what_the_command_line_changes_is_noticed(tmp_path: Path) -> None:
    """A letter that is replayed is delivered by the daemon that runs, one that is purged counts no more."""
    async with open_sqlite_store(tmp_path) as store:
        dead = [(await committed(store, number, content=LARGE))[0] for number in range(3)]
        for delivery in dead:
            store.buried(delivery, 5, "refused")
        await settled(store)
        assert (store.recall("rates").owed, store.recall("rates").dead) == (0, 3)
        assert await asyncio.to_thread(letters.replay, tmp_path, [dead[1].id], NOW) == 1
        assert await asyncio.to_thread(letters.purge, tmp_path, [dead[0].id, "unknown"]) == 1
        (lane,) = await store.lanes()
        assert (lane.job, lane.sink, lane.count, lane.bytes, lane.next_try) == ("rates", "file", 1, len(LARGE), NOW)
        memory = store.recall("rates")
        assert (memory.owed, memory.owed_bytes, memory.dead) == (1, len(LARGE), 1)
        owed = await store.first_owed("rates", "file")
        assert owed is not None
        assert (owed.delivery.id, owed.attempts) == (dead[1].id, 0)
        store.delivered(owed.delivery)
        await asyncio.to_thread(letters.purge, tmp_path, [dead[2].id])
        await settled(store)
        assert store.recall("rates") == Memory(memory.validators, memory.sha256)
        assert files(tmp_path) == []


async def test_long_and_broken_messages_fit(tmp_path: Path) -> None:
    """An error's text is somebody else's: it must not keep the fact from being written, nor fill the disk."""
    text = "\udcff " * 50_000
    async with open_sqlite_store(tmp_path) as store:
        (delivery,) = await committed(store)
        store.buried(delivery, 1, text)
        store.finish(a_report(a_run(), Outcome.DELIVERY_FAILED, message=text))
        (report,) = await store.history("rates", 1)
        assert report.message.startswith("\\udcff \\udcff")
        assert len(report.message) < 30_000
    (letter,) = letters.dead_letters(tmp_path)
    assert len(letter.error) < 30_000


async def test_opening_does_not_hold_the_loop(tmp_path: Path) -> None:
    """Nor does a cancelled opening leave anything open."""
    task = asyncio.create_task(open_sqlite_store(tmp_path).__aenter__())
    await asyncio.sleep(0)
    assert not task.done()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    async with open_sqlite_store(tmp_path) as store:
        await committed(store)


async def test_a_database_that_is_replaced_is_said(tmp_path: Path) -> None:
    """What is written to a file without a name is lost with the process."""
    async with open_sqlite_store(tmp_path) as store:
        await store.tidy()
        (tmp_path / NAME).rename(tmp_path / "elsewhere")
        with pytest.raises(StoreError, match="was removed or replaced"):
            await store.tidy()
        open_database(tmp_path / NAME).close()
        with pytest.raises(StoreError, match="was removed or replaced"):
            await store.tidy()
        await committed(store)
        assert "was removed or replaced" in store.unwritable  # which the page, the metrics and the alerts tell
        (tmp_path / "elsewhere").rename(tmp_path / NAME)
        await store.tidy()
        assert store.unwritable == ""


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    """Return a connection to read with, as a program that somebody forgets would."""
    with closing(sqlite3.connect(tmp_path / NAME, isolation_level=None)) as connection:
        yield connection


async def test_a_forgotten_reader_does_not_fill_the_disk_for_good(tmp_path: Path, reader: sqlite3.Connection) -> None:
    """SQLite's log grows while somebody reads; once that ends, tidying takes it back. It holds nobody meanwhile."""
    log_file = tmp_path / f"{NAME}-wal"
    async with open_sqlite_store(tmp_path) as store:
        await committed(store)
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM results").fetchall()
        for number in range(2, 202):
            (delivery,) = await committed(store, number, content=b"x" * 50_000)
            store.delivered(delivery)
        began = asyncio.get_running_loop().time()
        await store.tidy()
        assert asyncio.get_running_loop().time() - began < 1.0
        assert log_file.stat().st_size > 8 * 2**20
        reader.execute("COMMIT")
        await store.tidy()
        assert log_file.stat().st_size == 0


async def test_tidying_while_somebody_writes_is_an_error(tmp_path: Path) -> None:
    """It is called again; nothing waits for it."""
    async with open_sqlite_store(tmp_path, busy=0.05) as store:
        with closing(sqlite3.connect(tmp_path / NAME, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(StoreError, match="locked"):
                await store.tidy()
        await store.tidy()


async def test_tidying_gives_space_back(tmp_path: Path) -> None:
    """A receiver was down for a week; now that it has everything, the disk is the others' again."""
    async with open_sqlite_store(tmp_path) as store:
        owed = [(await committed(store, number, content=b"x" * 50_000))[0] for number in range(60)]
        for delivery in owed:
            store.delivered(delivery)
        await store.tidy()
        assert (tmp_path / NAME).stat().st_size < 200_000
