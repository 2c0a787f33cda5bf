"""Results as rows of an SQLite table, each delivery once."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, Field

from fetchd.body import on_disk
from fetchd.errors import SinkError
from fetchd.job import SinkOptions
from fetchd.run import Delivery
from fetchd.sinks import Resources
from fetchd.sinks.content import clean, text_of
from fetchd.sinks.databases import Database
from fetchd.sinks.paths import locate, path_with

_CREATE: Final = """
CREATE TABLE IF NOT EXISTS "{table}" (
  delivery TEXT PRIMARY KEY,
  job TEXT NOT NULL,
  run TEXT NOT NULL,
  slot TEXT NOT NULL,
  stored_at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now')),
  status INTEGER,
  url TEXT NOT NULL,
  content_type TEXT NOT NULL,
  body
)
"""
_INSERT: Final = """
INSERT INTO "{table}" (delivery, job, run, slot, status, url, content_type, body)
VALUES (?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (delivery) DO NOTHING
"""

_LOCKED: Final = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED})
_BROKEN: Final = frozenset({sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT})
_HOPELESS: Final = frozenset(
    {sqlite3.SQLITE_ERROR, sqlite3.SQLITE_TOOBIG, sqlite3.SQLITE_MISMATCH, sqlite3.SQLITE_CONSTRAINT}
)


def _not_reserved(table: str) -> str:
    if table.lower().startswith("sqlite_"):
        raise ValueError("names that begin with sqlite_ are SQLite's own")
    return table


class SqliteOptions(SinkOptions):
    """A row for each result; a delivery that comes twice makes one row."""

    kind: Literal["sqlite"]
    path: Annotated[str, AfterValidator(path_with())]
    """The database file, made where it is missing; relative to the folder out in the state directory."""
    table: Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,62}$"), AfterValidator(_not_reserved)] = "fetchd"
    """The table, made where it is missing."""


class SqliteSink:
    """Inserts into the table. It opens nothing before the first delivery."""

    def __init__(self, options: SqliteOptions, resources: Resources) -> None:
        self._path = options.path
        self._out = resources.out
        self._databases = resources.databases
        self._database: Database | None = None
        self._create = _CREATE.format(table=options.table)
        self._insert = _INSERT.format(table=options.table)

    async def deliver(self, delivery: Delivery) -> None:
        """Insert the row, unless the delivery has one.

        Raises:
            SinkError: permanent if the file is no database or the table cannot take it; else it may help to wait.
        """
        try:
            database = await self._opened()
            await database.run(lambda connection: self._store(connection, delivery))
        except sqlite3.Error as error:
            raise _refusal(self._path, error) from None
        except OverflowError as error:
            raise SinkError(f"{self._path}: {error}", permanent=True) from None
        except OSError as error:
            raise SinkError(f"{self._path}: {error.strerror or error}") from None

    async def aclose(self) -> None:
        """Let go of the database."""
        database, self._database = self._database, None
        if database is not None:
            await self._databases.release(database)

    async def _opened(self) -> Database:
        if self._database is None:
            path = await on_disk(lambda: _checked(locate(self._out, self._path)))
            if self._database is None:
                self._database = self._databases.use(path)
        return self._database

    def _store(self, connection: sqlite3.Connection, delivery: Delivery) -> None:
        """Insert the row; in the database's thread, which reads a spooled body: one at a time is in memory."""
        fetched = delivery.fetched
        with fetched.body.open() as file:
            content = file.read()
        text = text_of(content, fetched.content_type)
        row = (
            delivery.id,
            delivery.job,
            delivery.run,
            delivery.slot.isoformat(),
            fetched.status,
            clean(fetched.url),
            clean(fetched.content_type),
            content if text is None else text,
        )
        connection.execute(self._create)
        connection.execute(self._insert, row)


def _checked(path: Path) -> Path:
    if path.exists() and not path.is_file():
        raise SinkError(f"{path} is not a file", permanent=True)
    return path


def _refusal(path: str, error: sqlite3.Error) -> SinkError:
    """Return ``error`` as a SinkError; the primary code is the low byte (sqlite.org/rescode.html)."""
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
    if code in _LOCKED:
        return SinkError(f"{path} is locked by another process")
    if code in _BROKEN:
        return SinkError(f"{path} is not an SQLite database: {error}", permanent=True)
    return SinkError(f"{path}: {error}", permanent=code in _HOPELESS)
