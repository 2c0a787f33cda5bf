"""Which records have been delivered: what tells one from another, and how many are remembered."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from typing import Any, Final

from fetchd.extract.plain import Steps, failure, written
from fetchd.extract.queries import query

KEPT: Final = 5000
"""The records that are remembered, at the least those of the newest body."""

MOST: Final = 50_000
"""The records of one body that can be remembered: of more, a few bytes each would fill the memory for good."""

FEED: Final = "id || link"
"""What tells the entries of a feed from one another."""


class Seen:
    """Lets each record pass once. One without an identity is told by all that it holds."""

    def __init__(self, unique: str, before: Sequence[str], most: int, steps: Steps) -> None:
        self._query = query(unique)
        self._most = most
        self._before = before
        self._known = frozenset(before)
        self._present: dict[str, None] = {}
        self._steps = steps
        steps.take(len(before) / 16)

    def new(self, records: Iterator[Any]) -> Iterator[Any]:
        """Yield those of ``records`` that have not passed before."""
        for record in records:
            self._steps.take(4)
            identity = self._query.of(record, self._steps)
            digest = self._digest(record if identity is None else [identity])
            if digest not in self._present:
                if len(self._present) >= MOST:
                    raise failure(f"unique goes with at most {MOST} records in a body: let the sink tell them apart")
                self._present[digest] = None
                if digest not in self._known:
                    yield record

    def after(self) -> tuple[str, ...]:
        """Return what is to be remembered, the newest last; the oldest go first, but none that is still there."""
        everything = [*self._before, *(digest for digest in self._present if digest not in self._known)]
        excess = len(everything) - max(KEPT, len(self._present))
        if excess <= 0:
            return tuple(everything)
        kept = []
        for digest in everything:
            if excess > 0 and digest not in self._present:
                excess -= 1
            else:
                kept.append(digest)
        return tuple(kept)

    def _digest(self, value: Any) -> str:
        """Return eight bytes that stand for ``value``."""
        content = written(value, self._most, "a record", in_order=True)
        return hashlib.blake2b(content, digest_size=8).hexdigest()
