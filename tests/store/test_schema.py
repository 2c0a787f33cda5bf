"""The database file: made, brought forward, refused, set aside."""

from __future__ import annotations

import os
import sqlite3
import subprocess
from contextlib import closing
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest

from fetchd.errors import StateError, StoreError
from fetchd.run import Outcome
from fetchd.store import letters
from fetchd.store.schema import BODIES, NAME, STEPS, connect, open_database, set_aside
from fetchd.store.sqlite import open_sqlite_store
from tests.store.made import a_run, committed, small_disk

VERSION_1 = """
CREATE TABLE jobs (job TEXT PRIMARY KEY, validators TEXT NOT NULL DEFAULT '[null,null]',
  sha256 TEXT NOT NULL DEFAULT '', last_slot TEXT, last_success TEXT) WITHOUT ROWID;
CREATE TABLE results (sequence INTEGER PRIMARY KEY, run TEXT NOT NULL UNIQUE, job TEXT NOT NULL, slot TEXT NOT NULL,
  since TEXT NOT NULL, size INTEGER NOT NULL, sha256 TEXT NOT NULL, head TEXT NOT NULL, filed INTEGER NOT NULL,
  body BLOB);
CREATE TABLE deliveries (sequence INTEGER NOT NULL REFERENCES results, sink TEXT NOT NULL, job TEXT NOT NULL,
  size INTEGER NOT NULL, state TEXT NOT NULL DEFAULT 'owed', attempts INTEGER NOT NULL DEFAULT 0,
  next_try TEXT NOT NULL, error TEXT NOT NULL DEFAULT '', PRIMARY KEY (sequence, sink)) WITHOUT ROWID;
CREATE INDEX lanes ON deliveries (job, sink, sequence) WHERE state = 'owed';
CREATE TABLE runs (id INTEGER PRIMARY KEY, job TEXT NOT NULL, run TEXT NOT NULL, slot TEXT NOT NULL,
  outcome TEXT NOT NULL, good INTEGER NOT NULL, reason TEXT, message TEXT NOT NULL, phase TEXT NOT NULL,
  status INTEGER, bytes INTEGER NOT NULL, attempts INTEGER NOT NULL, started TEXT, duration REAL NOT NULL,
  lateness REAL NOT NULL, waited REAL NOT NULL, timings TEXT NOT NULL);
CREATE INDEX runs_of_job ON runs (job, id);
CREATE INDEX failures_of_job ON runs (job, id) WHERE NOT good;
CREATE TABLE skips (job TEXT NOT NULL, reason TEXT NOT NULL, count INTEGER NOT NULL,
  PRIMARY KEY (job, reason)) WITHOUT ROWID;
INSERT INTO jobs VALUES ('rates', '["\\"7\\"",null]', 'abc', '2026-03-01T12:00:00+00:00', '2026-03-01T12:00:01+00:00');
INSERT INTO results VALUES (5, 'r5', 'rates', '2026-03-01T12:00:00+00:00', '2026-03-01T12:00:01+00:00', 4, 'abc',
  '{"status":200,"url":"u","content_type":"t","headers":{},"validators":["\\"7\\"",null],"timings":{}}', 0,
  x'62316231');
INSERT INTO deliveries VALUES (5, 'file', 'rates', 4, 'owed', 2, '2026-03-01T12:05:00+00:00', 'full');
INSERT INTO runs (job, run, slot, outcome, good, message, phase, bytes, attempts, duration, lateness, waited, timings)
  VALUES ('rates', 'r5', '2026-03-01T12:00:00+00:00', 'delivery_failed', 0, 'm', 'p', 4, 1, 0.5, 0.0, 0.0, '{}');
PRAGMA user_version = 1;
"""
"""The first schema, as it was released: it stays here as it is, whatever becomes of the real one."""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return where the database is."""
    return tmp_path / NAME


def made(path: Path, script: str) -> None:
    """Make a database by ``script``."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.executescript(script)


async def test_a_database_of_the_first_version_is_read(path: Path) -> None:
    """What an older fetchd has kept is delivered by this one."""
    made(path, VERSION_1)
    async with open_sqlite_store(path.parent) as store:
        owed = await store.first_owed("rates", "file")
        assert owed is not None
        assert (owed.attempts, owed.error, owed.delivery.id) == (2, "full", "r5-file")
        assert await owed.delivery.fetched.body.read() == b"b1b1"
        memory = store.recall("rates")
        assert (memory.validators.etag, memory.sha256, memory.owed, memory.owed_bytes) == ('"7"', "abc", 1, 4)
        assert [report.outcome for report in await store.history("rates", 9)] == [Outcome.DELIVERY_FAILED]
        await committed(store)
    with closing(connect(path)) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (len(STEPS),)


def test_steps_lead_forward(path: Path) -> None:
    """Each version leads to the next, and what is there stays."""
    first, second, third = ["CREATE TABLE a (x)"], ["ALTER TABLE a ADD y DEFAULT 7"], ["CREATE TABLE b (z)"]
    with closing(open_database(path, steps=[first])) as connection:
        connection.execute("INSERT INTO a VALUES (1)")
    with closing(open_database(path, steps=[first, second, third])) as connection:
        assert connection.execute("SELECT x, y FROM a").fetchall() == [(1, 7)]
        assert connection.execute("SELECT * FROM b").fetchall() == []


def test_a_step_that_fails_changes_nothing(path: Path) -> None:
    """The old fetchd can go on with it."""
    open_database(path, steps=[["CREATE TABLE a (x)"]]).close()
    with pytest.raises(StoreError):
        open_database(path, steps=[[], ["CREATE TABLE b (y)", "CREATE TABLE a (x)"]])
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (1,)
        assert connection.execute("SELECT name FROM sqlite_schema").fetchall() == [("a",)]


def test_a_newer_schema_is_refused(path: Path) -> None:
    """Reading it as if it were ours could lose what it says; nothing of it is touched."""
    made(path, f"CREATE TABLE future (x); PRAGMA user_version = {len(STEPS) + 1}")
    for opened in (open_database, connect):
        with pytest.raises(StoreError, match=r"written by a newer fetchd .*fetchd run --new-state"):
            opened(path)


def test_the_command_line_does_not_bring_forward(path: Path) -> None:
    """A daemon of the older version may be at work on it."""
    with pytest.raises(StoreError, match="no daemon has kept anything"):
        connect(path)
    assert not path.exists()
    made(path, "CREATE TABLE old (x)")
    with pytest.raises(StoreError, match="written by an older fetchd"):
        connect(path)


@pytest.mark.parametrize("damage", ["not a database", "header", "page"])
async def test_damage_is_said_with_its_remedy(path: Path, damage: str) -> None:
    """One who is woken at night has to read what to do."""
    if damage == "not a database":
        path.write_text("This is a text that somebody has put here." * 100)
    else:
        async with open_sqlite_store(path.parent) as store:
            for number in range(100):
                await committed(store, number, content=b"x" * 3000)
        content = bytearray(path.read_bytes())
        content[0 if damage == "header" else 4096 : 8192] = os.urandom(8192 - (0 if damage == "header" else 4096))
        path.write_bytes(content)
    with pytest.raises(StoreError, match=r"state\.db is damaged .*`fetchd run --new-state`"):
        async with open_sqlite_store(path.parent):
            pytest.fail("it opened")
    if damage != "page":  # it is found where it is read
        with pytest.raises(StoreError, match="is damaged"):
            letters.dead_letters(path.parent)


async def test_setting_aside_makes_room(path: Path) -> None:
    """Everything is kept for a look at it, and the next start begins anew; also twice in a second."""
    local = datetime(2026, 3, 1, 0, 30, tzinfo=timezone(timedelta(hours=1)))
    assert set_aside(path.parent, local) is None
    for name in ("state-20260228T233000Z.db", "state-20260228T233000Z-2.db"):
        async with open_sqlite_store(path.parent, inline_up_to=10) as store:
            await committed(store, content=b"x" * 20)
        assert set_aside(path.parent, local) == path.parent / name
    assert sorted(entry.name for entry in path.parent.iterdir()) == [
        "bodies-20260228T233000Z",
        "bodies-20260228T233000Z-2",
        "state-20260228T233000Z-2.db",
        "state-20260228T233000Z.db",
    ]
    async with open_sqlite_store(path.parent) as store:
        assert await store.lanes() == []


def test_setting_aside_takes_the_log_along(path: Path) -> None:
    """It holds the newest rows; left behind, it would be taken for the new database's own."""
    connection = open_database(path)
    connection.execute("INSERT INTO skips VALUES ('rates', 'overlap', 3)")
    aside = set_aside(path.parent, datetime(2026, 3, 1, tzinfo=UTC))
    assert aside is not None
    assert sorted(entry.name for entry in path.parent.iterdir()) == [
        f"bodies-{aside.stem.removeprefix('state-')}",
        aside.name,
        f"{aside.name}-shm",
        f"{aside.name}-wal",
    ]
    with closing(sqlite3.connect(aside)) as other:
        assert other.execute("SELECT count FROM skips").fetchone() == (3,)
    connection.close()


async def test_nobody_else_may_read_it(path: Path) -> None:
    """Results may hold what their upstream shows to one customer only."""
    before = os.umask(0)
    try:
        async with open_sqlite_store(path.parent / "new", inline_up_to=10) as store:
            await committed(store, content=b"x" * 20)
            found = [path.parent / "new", *(path.parent / "new").rglob("*")]
            assert {file.name for file in found} == {"new", NAME, f"{NAME}-wal", f"{NAME}-shm", BODIES, a_run().id}
            assert {oct(file.stat().st_mode & 0o077) for file in found} == {"0o0"}
    finally:
        os.umask(before)


async def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    """It is said at the start, with the folder and the user, before a single Run has fetched something."""
    disk = tmp_path / "disk"
    with small_disk(disk, "1m"):
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        with pytest.raises(StateError, match=rf"{disk}.*Read-only.*daemon\.state_dir must name a folder"):
            async with open_sqlite_store(disk):
                pytest.fail("it opened")


def test_the_message_names_what_is_in_the_way(path: Path) -> None:
    """A file where the folder of the bodies should be is no fault of the database."""
    (path.parent / BODIES).write_bytes(b"")
    with pytest.raises(StateError, match=rf"cannot write {path.parent / BODIES}: File exists"):
        open_database(path)


def test_what_cannot_be_set_aside_is_said(tmp_path: Path) -> None:
    """The remedy for damage must not fail without a word."""
    disk = tmp_path / "disk"
    with small_disk(disk, "1m"):
        (disk / NAME).touch()
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        with pytest.raises(StateError, match=r"cannot rename .*state\.db: Read-only"):
            set_aside(disk, datetime.now(UTC))


async def test_a_locked_database_is_said(path: Path) -> None:
    """Something else has it open and writes: to wait for ever would be silence."""
    open_database(path).close()
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreError, match="locked by another process"):
            async with open_sqlite_store(path.parent, busy=0.05):
                pytest.fail("it opened")
