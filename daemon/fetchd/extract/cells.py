"""Records as the rows of a table: an expression for each column."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from fetchd.extract.order import Cell, Table
from fetchd.extract.plain import Steps, TooLongError, failure, parsed, written
from fetchd.extract.queries import query

STEPS: Final = 50_000
"""Steps that rows may take in a thread of the daemon, which takes turns with the loop."""

_INT64: Final = range(-(2**63), 2**63)


def rows(table: Table, steps: Steps) -> Iterator[list[Cell]]:
    """Yield a row for each record: texts, numbers and None as they are, true as 1, everything else as JSON.

    Raises:
        FetchError: the body is not JSON, or holds no records.
        TooLongError: it would take more than ``steps``.
    """
    queries = [query(text) for text in table.columns]
    for record in _records(table):
        steps.take(4)
        yield [_cell(one.of(record, steps), table.most) for one in queries]


def few(table: Table) -> list[list[Cell]] | None:
    """Return the rows of a small table, for a thread of the daemon; None where they are work for another process.

    Raises:
        FetchError: as `rows`.
    """
    try:
        return list(rows(table, Steps(STEPS)))
    except TooLongError:
        return None


def lines(table: Table) -> bytes:
    """Return the rows as JSON arrays, one on each line.

    Raises:
        FetchError: as `rows`, or they come to more than ``table.most`` bytes.
    """
    output = bytearray()
    for row in rows(table, Steps()):
        output += written(row, table.most - len(output), "a row") + b"\n"
    return bytes(output)


def _records(table: Table) -> Iterator[Any]:
    content = table.read()
    if table.lines:
        for number, line in enumerate(content.split(b"\n"), start=1):
            if line.strip():
                yield parsed(line, f"record {number}")
        return
    value = parsed(content, "the result")
    if isinstance(value, list):
        yield from value
    elif isinstance(value, dict):
        yield value
    else:
        raise failure("the result holds no records: it is neither a list nor an object")


def _cell(value: Any, most: int) -> Cell:
    if isinstance(value, int):
        return int(value) if value in _INT64 else str(value)
    if isinstance(value, str):  # JSON can hold half of a surrogate pair, SQLite cannot
        return value if value.isascii() else value.encode("utf-8", "replace").decode()
    if value is None or isinstance(value, float):
        return value
    return written(value, most, "a cell").decode()
