"""The reading itself: a body becomes values, a value, or records. It runs on the loop or in a worker process."""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Iterator
from typing import Any, BinaryIO, Final

from fetchd.extract.order import Answer, Order
from fetchd.extract.plain import JSON, RECORDS, TEXT, Steps, failure, parsed, too_large, written
from fetchd.extract.queries import query
from fetchd.extract.seen import FEED, Seen

_TABULAR: Final = frozenset({"csv", "feed"})


def carried_out(order: Order, steps: Steps) -> Answer:
    """Return what ``order`` asks for.

    Raises:
        FetchError: the body is not what it should be, nothing is found in it, or it comes to more than ``order.most``.
        TooLongError: it would take more than ``steps``.
        OSError: the file cannot be read, or not be written.
    """
    output = _Output(order)
    try:
        if order.split is None and order.parse not in _TABULAR:
            return _value(order, output, steps)
        records = _records(order, steps)
        unique = order.unique or (FEED if order.parse == "feed" else None)
        seen = Seen(unique, order.seen, order.most, steps) if unique else None
        count = 0
        for record in seen.new(records) if seen else records:
            steps.take(4)
            output.add(written(record, order.most, "a record") + b"\n")
            count += 1
        return output.answer(RECORDS, count, seen.after() if seen else order.seen)
    except RecursionError:
        raise failure("the body is nested too deeply") from None
    finally:
        output.close()


def values(order: Order, queries: tuple[str, ...], steps: Steps) -> bytes:
    """Return what each of ``queries`` finds in the JSON body of ``order``, as a JSON array.

    Raises:
        FetchError: it is not JSON, or what is found comes to more than ``order.most`` bytes.
        TooLongError: it would take more than ``steps``.
    """
    try:
        value = parsed(order.read())
        return written([query(text).of(value, steps) for text in queries], order.most, "what is extracted")
    except RecursionError:
        raise failure("the body is nested too deeply") from None


def _value(order: Order, output: _Output, steps: Steps) -> Answer:
    assert order.extract is not None
    value = _found(order.extract, parsed(order.read()), steps)
    if isinstance(value, str):
        output.add(value.encode("utf-8", "replace"))
        return output.answer(TEXT, 0, order.seen)
    output.add(written(value, order.most, "what is extracted"))
    return output.answer(JSON, 0, order.seen)


def _records(order: Order, steps: Steps) -> Iterator[Any]:
    """Return the records one by one; rows that no expression is asked of are never all in memory."""
    value: Any
    if order.parse in _TABULAR:
        rows = _rows(order, steps)
        if order.extract is None and order.split is None:
            return rows
        value = list(rows)
    else:
        value = parsed(order.read())
    for text in (order.extract, order.split):
        if text is not None:
            value = _found(text, value, steps)
    if isinstance(value, dict):
        return iter([value])
    if isinstance(value, list):
        return iter(value)
    raise failure(f'"{order.split or order.extract}" found a single value, which is neither a list nor an object')


def _rows(order: Order, steps: Steps) -> Iterator[dict[str, Any]]:
    if order.parse == "csv":
        from fetchd.extract.tables import rows

        return rows(order.read(), order.content_type, order.delimiter, steps)
    from fetchd.extract.feeds import entries

    return entries(order.read(), order.content_type, order.url)


def _found(text: str, value: Any, steps: Steps) -> Any:
    found = query(text).of(value, steps)
    if found is None:
        raise failure(f'"{text}" found nothing')
    return found


class _Output:
    """Collects the result: in memory, then in the order's file."""

    def __init__(self, order: Order) -> None:
        self._most = order.most
        self._above = order.above
        self._path = order.file
        self._memory = io.BytesIO()
        self._file: BinaryIO | None = None
        self._digest = hashlib.sha256()
        self._size = 0

    def add(self, content: bytes) -> None:
        """Add ``content``.

        Raises:
            FetchError: that is more than is taken.
        """
        self._size += len(content)
        if self._size > self._most:
            raise too_large(self._most)
        self._digest.update(content)
        if self._file is None and self._path is not None and self._size > self._above:
            self._file = open(self._path, "xb", opener=_private)  # noqa: SIM115 - closed by whoever made this
            self._file.write(self._memory.getvalue())
            self._memory.close()
        (self._memory if self._file is None else self._file).write(content)

    def answer(self, content_type: str, records: int, seen: tuple[str, ...]) -> Answer:
        """Return the result."""
        self.close()
        content = self._path if self._file is not None and self._path else self._memory.getvalue()
        return Answer(content, self._size, self._digest.hexdigest(), content_type, records, seen)

    def close(self) -> None:
        """Write what is still to be written."""
        if self._file is not None:
            self._file.close()


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
