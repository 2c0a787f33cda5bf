"""Results, or their records, as rows of an SQLite table, each delivery once."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, Field, model_validator

from fetchd.body import on_disk
from fetchd.errors import FetchError, Reason, SinkError, UserCodeError
from fetchd.extract.order import Cell, Refusal, Table
from fetchd.job import Query, SinkOptions
from fetchd.run import Delivery
from fetchd.sinks import Resources
from fetchd.sinks.content import clean, is_records, text_of
from fetchd.sinks.databases import Database
from fetchd.sinks.paths import locate, path_with
from fetchd.sinks.tables import OF_RECORDS, Records, read_lines

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

NAME: Final = r"^[A-Za-z_][A-Za-z0-9_]{0,62}$"
"""What a table and a column may be called."""
IN_THREAD: Final = 64 * 1024
"""Bytes of the largest result whose records are read in a thread; others go to a worker process."""
LONGEST_ROWS: Final = 16 * 2**20
"""Bytes that the rows of one delivery may take, or four times its size if that is more."""

_LOCKED: Final = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED})
_BROKEN: Final = frozenset({sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT})
_HOPELESS: Final = frozenset(
    {sqlite3.SQLITE_ERROR, sqlite3.SQLITE_TOOBIG, sqlite3.SQLITE_MISMATCH, sqlite3.SQLITE_CONSTRAINT}
)


def _not_reserved(table: str) -> str:
    if table.lower().startswith("sqlite_"):
        raise ValueError("names that begin with sqlite_ are SQLite's own")
    return table


def _check_columns(columns: dict[str, str]) -> dict[str, str]:
    if not columns:
        raise ValueError('name a column, such as { title = "attributes.title" }')
    seen: set[str] = set()
    for name in columns:
        if name.lower() in OF_RECORDS:
            raise ValueError(f"{name} is a column that each table has, as {', '.join(OF_RECORDS)} are")
        if name.lower() in seen:
            raise ValueError(f"{name} is there twice: SQLite does not tell its columns by their case")
        seen.add(name.lower())
    return columns


class SqliteOptions(SinkOptions):
    """A row for each result, or for each of its records; a delivery that comes twice makes no second one."""

    kind: Literal["sqlite"]
    path: Annotated[str, AfterValidator(path_with())]
    """The database file, made where it is missing; relative to the folder out in the state directory."""
    table: Annotated[str, Field(pattern=NAME), AfterValidator(_not_reserved)] = "fetchd"
    """The table, made where it is missing."""
    columns: (
        Annotated[
            dict[Annotated[str, Field(pattern=NAME)], Query], Field(max_length=500), AfterValidator(_check_columns)
        ]
        | None
    ) = None
    """A row for each record, and what of it each column holds: a JMESPath expression. Without, the body is a column."""
    key: str | None = None
    """The column that tells records apart: one that comes again takes the place of the row that it had."""

    @model_validator(mode="after")
    def _key_is_a_column(self) -> SqliteOptions:
        if self.key is not None and self.key not in (self.columns or {}):
            raise ValueError("key names one of the columns")
        return self


class SqliteSink:
    """Inserts into the table. It opens nothing before the first delivery."""

    def __init__(self, options: SqliteOptions, resources: Resources) -> None:
        self._path = options.path
        self._out = resources.out
        self._databases = resources.databases
        self._database: Database | None = None
        self._workers = resources.workers
        self._create = _CREATE.format(table=options.table)
        self._insert = _INSERT.format(table=options.table)
        self._queries = tuple((options.columns or {}).values())
        self._records = Records(options.table, tuple(options.columns), options.key) if options.columns else None

    async def deliver(self, delivery: Delivery) -> None:
        """Insert the row, or those of the records all at once, unless they are there.

        Raises:
            SinkError: permanent if the file is no database, the table cannot take it, or the result holds no records;
                else it may help to wait.
        """
        try:
            act = partial(self._store, delivery=delivery)
            if self._records is not None:
                rows = await self._rows(delivery)
                act = partial(self._store_records, self._records, delivery=delivery, rows=rows)
            database = await self._opened()
            await database.run(act)
        except sqlite3.Error as error:
            raise _refusal(self._path, error) from None
        except FetchError as error:
            raise SinkError(f"{self._path}: {error}", permanent=True) from None
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

    async def _rows(self, delivery: Delivery) -> Callable[[], Iterable[Sequence[Cell]]]:
        """Return what gives the rows of the records, in the database's thread."""
        from fetchd.extract import cells, work  # and with them jmespath, which only sinks with columns need

        body, declared = delivery.fetched.body, delivery.fetched.content_type
        content = body.path or await body.read()
        table = Table(content, is_records(declared), self._queries, most=max(LONGEST_ROWS, 4 * body.size))
        if body.size <= IN_THREAD:
            rows = await on_disk(lambda: cells.few(table))
            if rows is not None:
                return lambda: rows
        try:
            lines: bytes | Refusal = await self._workers.call(work.lined, table)
        except UserCodeError as error:
            raise SinkError(f"{self._path}: the records could not be read: {error}") from None
        if isinstance(lines, Refusal):
            passing = lines.reason is Reason.LOCAL_RESOURCE
            raise SinkError(f"{self._path}: {lines.message}", permanent=not passing)
        return partial(read_lines, lines)

    def _store_records(
        self,
        records: Records,
        connection: sqlite3.Connection,
        delivery: Delivery,
        rows: Callable[[], Iterable[Sequence[Cell]]],
    ) -> None:
        """Insert the rows; in the database's thread."""
        try:
            records.store(connection, _about(delivery), rows())
        except SinkError as error:
            raise SinkError(f"{self._path}: {error}", permanent=error.permanent) from None

    def _store(self, connection: sqlite3.Connection, delivery: Delivery) -> None:
        """Insert the row; in the database's thread, which reads a spooled body: one at a time is in memory."""
        fetched = delivery.fetched
        with fetched.body.open() as file:
            content = file.read()
        text = text_of(content, fetched.content_type)
        about = _about(delivery)
        row = (*about, clean(fetched.content_type), content if text is None else text)
        connection.execute(self._create)
        connection.execute(self._insert, row)


def _about(delivery: Delivery) -> tuple[Any, ...]:
    """Return delivery, job, run, slot, status and url, fit to be stored."""
    fetched = delivery.fetched
    slot = delivery.slot.isoformat()
    return delivery.id, delivery.job, delivery.run, slot, fetched.status, clean(fetched.url)


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
