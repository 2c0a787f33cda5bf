"""The database file: how it is opened, what is in it, how an older one is brought forward, how it is set aside."""

from __future__ import annotations

import os
import sqlite3
import stat
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from fetchd.errors import StateError, StoreError
from fetchd.store.failures import asked_error, code_of, store_error
from fetchd.whereabouts import anothers

NAME: Final = "state.db"
BODIES: Final = "bodies"
"""The folder of the bodies that are too large for a row, each in a file called like its Run."""

BUSY: Final = 2.0
"""Seconds to wait for another process that holds the write lock."""
CHECKED_FOR: Final = 1.0
"""Seconds that the look for damage may take; a large database is looked at in part."""
WAL_LIMIT: Final = 8 * 2**20
"""Bytes of the write-ahead log that stay on the disk for the next writes."""

Steps = Sequence[Sequence[str]]

_FIRST: Final = (
    """
    CREATE TABLE jobs (
      job TEXT PRIMARY KEY,
      validators TEXT NOT NULL DEFAULT '[null,null]',
      sha256 TEXT NOT NULL DEFAULT '',
      last_slot TEXT,
      last_success TEXT
    ) WITHOUT ROWID
    """,
    # A result that is filed has its body in the folder of bodies. What the upstream said is JSON: it may be no UTF-8.
    """
    CREATE TABLE results (
      sequence INTEGER PRIMARY KEY,
      run TEXT NOT NULL UNIQUE,
      job TEXT NOT NULL,
      slot TEXT NOT NULL,
      since TEXT NOT NULL,
      size INTEGER NOT NULL,
      sha256 TEXT NOT NULL,
      head TEXT NOT NULL,
      filed INTEGER NOT NULL,
      body BLOB
    )
    """,
    """
    CREATE TABLE deliveries (
      sequence INTEGER NOT NULL REFERENCES results,
      sink TEXT NOT NULL,
      job TEXT NOT NULL,
      size INTEGER NOT NULL,
      state TEXT NOT NULL DEFAULT 'owed',
      attempts INTEGER NOT NULL DEFAULT 0,
      next_try TEXT NOT NULL,
      error TEXT NOT NULL DEFAULT '',
      PRIMARY KEY (sequence, sink)
    ) WITHOUT ROWID
    """,
    "CREATE INDEX lanes ON deliveries (job, sink, sequence) WHERE state = 'owed'",
    """
    CREATE TABLE runs (
      id INTEGER PRIMARY KEY,
      job TEXT NOT NULL,
      run TEXT NOT NULL,
      slot TEXT NOT NULL,
      outcome TEXT NOT NULL,
      good INTEGER NOT NULL,
      reason TEXT,
      message TEXT NOT NULL,
      phase TEXT NOT NULL,
      status INTEGER,
      bytes INTEGER NOT NULL,
      attempts INTEGER NOT NULL,
      started TEXT,
      duration REAL NOT NULL,
      lateness REAL NOT NULL,
      waited REAL NOT NULL,
      timings TEXT NOT NULL
    )
    """,
    "CREATE INDEX runs_of_job ON runs (job, id)",
    "CREATE INDEX failures_of_job ON runs (job, id) WHERE NOT good",
    """
    CREATE TABLE skips (
      job TEXT NOT NULL,
      reason TEXT NOT NULL,
      count INTEGER NOT NULL,
      PRIMARY KEY (job, reason)
    ) WITHOUT ROWID
    """,
)

_SECOND: Final = (
    "ALTER TABLE jobs ADD COLUMN carried TEXT",
    "ALTER TABLE jobs ADD COLUMN failures INTEGER NOT NULL DEFAULT 0",
    "ALTER TABLE jobs ADD COLUMN failing_since TEXT",
    "ALTER TABLE jobs ADD COLUMN paused INTEGER NOT NULL DEFAULT 0",
    "CREATE TABLE notes (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID",
)

STEPS: Final[Steps] = (_FIRST, _SECOND)
"""What leads from each schema version to the next, version 0 being an empty file. Only ever appended to."""


def open_database(path: Path, *, busy: float = BUSY, steps: Steps = STEPS) -> sqlite3.Connection:
    """Return a connection to the database in ``path``, made or brought forward if need be; for the thread that uses it.

    Raises:
        StateError: its folder or the file cannot be made or written.
        StoreError: it is damaged, was written by a newer fetchd, or is locked.
    """
    _make(path)
    connection = sqlite3.connect(path, timeout=busy, isolation_level=None)
    try:
        check_version(connection, path, len(steps))
        _set_up(connection, path)
        _look_for_damage(connection, path)
        _bring_forward(connection, steps)
    except sqlite3.Error as error:
        connection.close()
        raise store_error(path, error) from None
    except BaseException:
        connection.close()
        raise
    return connection


def connect(path: Path, *, busy: float = BUSY, steps: Steps = STEPS) -> sqlite3.Connection:
    """Return a connection to a database that is there, and of today's schema; a daemon may be at work on it.

    Raises:
        StoreError: there is none, it cannot be read, or another version of fetchd wrote it.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise FileNotFoundError
    except PermissionError:
        raise StoreError(anothers(path.parent)) from None
    except OSError:
        raise StoreError(f"there is no {path}: no daemon has kept anything there yet") from None
    try:
        connection = sqlite3.connect(
            f"{path.absolute().as_uri()}?mode=rw", uri=True, timeout=busy, isolation_level=None
        )
    except sqlite3.Error as error:
        raise asked_error(path, error) from None
    try:
        if check_version(connection, path, len(steps)) < len(steps):
            raise StoreError(f"{path} was written by an older fetchd: start `fetchd run` once, which brings it forward")
    except sqlite3.Error as error:
        connection.close()
        raise asked_error(path, error) from None
    except BaseException:
        connection.close()
        raise
    return connection


def settle(path: Path) -> None:
    """Bring what was committed to the database in ``path`` to the disk.

    SQLite itself waits for that when the log is moved into the database, now and then: a power failure may take the
    last transactions, all of each of them.

    Raises:
        OSError: the disk failed.
    """
    try:
        fd = os.open(f"{path}-wal", os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return  # it was moved
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def check_version(connection: sqlite3.Connection, path: Path, known: int) -> int:
    """Return the schema's version.

    Raises:
        StoreError: it is newer than ``known``.
    """
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version > known:
        raise StoreError(
            f"{path} was written by a newer fetchd (schema {version}, this one knows {known}): use that one, "
            "or start with `fetchd run --new-state`, which sets the file aside"
        )
    return int(version)


def set_aside(state_dir: Path, now: datetime) -> Path | None:
    """Rename the database of ``state_dir`` and its bodies so that the next start begins anew.

    Returns the database's new path, None if there was nothing; for whoever holds the state directory.

    Raises:
        StateError: they cannot be renamed.
    """
    # The log of changes first: left beside a new database, it would be taken for that one's.
    names = [f"{NAME}-wal", f"{NAME}-shm", BODIES, NAME]
    there = [name for name in names if (state_dir / name).exists()]
    if not there:
        return None
    mark = _free_mark(state_dir, names, now.astimezone(UTC).strftime("%Y%m%dT%H%M%SZ"))
    try:
        for name in there:
            (state_dir / name).rename(state_dir / _aside(name, mark))
    except OSError as error:
        raise StateError(f"cannot rename {state_dir / name}: {error.strerror}") from None
    return state_dir / _aside(NAME, mark)


def _free_mark(state_dir: Path, names: Sequence[str], mark: str) -> str:
    """Return ``mark``, with a number if something was set aside under it before."""
    number, free = 1, mark
    while any((state_dir / _aside(name, free)).exists() for name in names):
        number += 1
        free = f"{mark}-{number}"
    return free


def _aside(name: str, mark: str) -> str:
    return name.replace("state", f"state-{mark}") if name.startswith(NAME) else f"{name}-{mark}"


def _make(path: Path) -> None:
    """Make the file and its folders, for this user alone: SQLite gives the files beside it the same mode."""
    try:
        for folder in (path.parent, path.parent / BODIES):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    except OSError as error:
        raise StateError(
            f"cannot write {error.filename or path}: {error.strerror}; "
            f"daemon.state_dir must name a folder that the user with id {os.geteuid()} can write"
        ) from None


def _set_up(connection: sqlite3.Connection, path: Path) -> None:
    connection.execute("PRAGMA auto_vacuum = INCREMENTAL")  # counts for a new file only, and before anything else
    (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
    if mode != "wal":
        raise StoreError(f"{path} is on a file system without shared memory: daemon.state_dir must be on a local disk")
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.execute(f"PRAGMA journal_size_limit = {WAL_LIMIT}")
    connection.execute("PRAGMA temp_store = MEMORY")


def _look_for_damage(connection: sqlite3.Connection, path: Path) -> None:
    end = time.monotonic() + CHECKED_FOR
    connection.set_progress_handler(lambda: time.monotonic() > end, 10_000)
    try:
        (found,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    except sqlite3.OperationalError as error:
        if code_of(error) != sqlite3.SQLITE_INTERRUPT:
            raise
        return
    finally:
        connection.set_progress_handler(None, 0)
    if found != "ok":
        said = " ".join(found.split())
        raise StoreError(f"{path} is damaged ({said}): start with `fetchd run --new-state`, which sets it aside")


def _bring_forward(connection: sqlite3.Connection, steps: Steps) -> None:
    connection.execute("BEGIN IMMEDIATE")
    try:
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        for statement in (statement for step in steps[version:] for statement in step):
            connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {len(steps)}")
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
