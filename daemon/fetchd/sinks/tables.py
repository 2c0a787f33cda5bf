"""Tables of an SQLite database: with a row for each result, or one for each of its records."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

from fetchd.errors import SinkError
from fetchd.extract.order import Cell

NUMBER: Final = "number"
"""Counts the records of a delivery, from 1."""

OF_RECORDS: Final = ("delivery", NUMBER, "job", "run", "slot", "stored_at", "status", "url")
"""The columns that a table of records has besides the records' own."""

_CREATE: Final = """
CREATE TABLE IF NOT EXISTS "{table}" (
  delivery TEXT NOT NULL,
  number INTEGER NOT NULL,
  job TEXT NOT NULL,
  run TEXT NOT NULL,
  slot TEXT NOT NULL,
  stored_at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now')),
  status INTEGER,
  url TEXT NOT NULL,
  {columns},
  PRIMARY KEY (delivery, number)
)
"""
_NOW: Final = "strftime('%Y-%m-%dT%H:%M:%fZ', 'now')"
_PLACE: Final = (
    "substr({run}, 1, instr({run} || '.', '.') - 1), CAST(substr({run}, instr({run} || '.', '.') + 1) AS INT)"
)
"""What sorts results by time: the id of their Run, then, for those of its further pages, the number after the dot."""


class Records:
    """Stores rows of records; with a ``key``, a record takes the place of an older one that has the same."""

    def __init__(self, table: str, columns: Sequence[str], key: str | None) -> None:
        self._table = table
        self._columns = columns
        self._key = key
        quoted = [f'"{name}"' for name in columns]
        names = ["delivery", NUMBER, "job", "run", "slot", "status", "url", *quoted]
        self._create = _CREATE.format(table=table, columns=",\n  ".join(quoted))
        self._index = f'CREATE UNIQUE INDEX IF NOT EXISTS "{table}_{key}" ON "{table}" ("{key}")' if key else None
        self._insert = f'INSERT INTO "{table}" ({", ".join(names)}) VALUES ({", ".join("?" * len(names))})'  # noqa: S608
        if key:
            changed = ", ".join(f"{name} = excluded.{name}" for name in names if name != f'"{key}"')
            # A delivery that is replayed does not undo a newer one.
            stored = _PLACE.format(run=f'"{table}".run')
            newer = f"({_PLACE.format(run='excluded.run')}) >= ({stored})"
            self._insert += f' ON CONFLICT ("{key}") DO UPDATE SET {changed}, stored_at = {_NOW} WHERE {newer}'
        self._insert += " ON CONFLICT (delivery, number) DO NOTHING"

    def store(self, connection: sqlite3.Connection, about: Sequence[Any], rows: Iterable[Sequence[Cell]]) -> None:
        """Store ``rows``, all or none; ``about`` is delivery, job, run, slot, status and url.

        Raises:
            SinkError: the table is there, and lacks columns, or its key is not unique.
            sqlite3.Error: the database does not take them.
        """
        connection.execute("BEGIN IMMEDIATE")
        with connection:
            connection.execute(self._create)
            self._check(connection)
            if self._index:
                self._make_index(connection)
            connection.executemany(self._insert, self._numbered(about, rows))

    def _numbered(self, about: Sequence[Any], rows: Iterable[Sequence[Cell]]) -> Iterator[Sequence[Any]]:
        delivery, *others = about
        for number, row in enumerate(rows, start=1):
            yield (delivery, number, *others, *row)

    def _check(self, connection: sqlite3.Connection) -> None:
        there = {row[1].lower() for row in connection.execute(f'PRAGMA table_info("{self._table}")')}
        if missing := [name for name in OF_RECORDS if name not in there]:
            message = f"the table {self._table} was not made for records, it has no {missing[0]}: name another table"
            raise SinkError(message, permanent=True)
        if missing := [name for name in self._columns if name.lower() not in there]:
            remedy = "; ".join(f'ALTER TABLE "{self._table}" ADD COLUMN "{name}"' for name in missing)
            message = f"the table {self._table} has no column {', '.join(missing)}: add it with {remedy}"
            raise SinkError(message, permanent=True)

    def _make_index(self, connection: sqlite3.Connection) -> None:
        assert self._index is not None
        try:
            connection.execute(self._index)
        except sqlite3.IntegrityError:
            message = (
                f"rows of the table {self._table} have the same {self._key}, the key: remove them, or name another"
            )
            raise SinkError(message, permanent=True) from None


def read_lines(lines: bytes) -> Iterator[list[Cell]]:
    """Yield the rows that a worker process has written, one at a time: all at once would hold the interpreter."""
    start = 0
    while (end := lines.find(b"\n", start)) >= 0:
        yield json.loads(lines[start:end])
        start = end + 1
