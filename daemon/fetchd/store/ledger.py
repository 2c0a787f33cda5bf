"""How many deliveries each lane is owed and has dead: counted in step with the transactions that change it.

To count the rows anew whenever somebody asks would take ever longer as a receiver stays away.
"""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

from fetchd.store.writer import Transaction

_COUNT: Final = "SELECT job, sink, state, count(*), sum(size) FROM deliveries GROUP BY job, sink, state"


class Counts(NamedTuple):
    """Deliveries that are not made."""

    owed: int = 0
    owed_bytes: int = 0
    dead: int = 0

    def plus(self, other: Counts) -> Counts:
        """Return the sums."""
        return Counts(self.owed + other.owed, self.owed_bytes + other.owed_bytes, self.dead + other.dead)


_NONE: Final = Counts()

Lanes = dict[tuple[str, str], Counts]
"""Counts by job and sink."""
Tell = Callable[[str, Counts], None]
"""Is told how many deliveries of a job are not made."""


class Ledger:
    """Counts in the writer's thread; the loop is told what is true when a transaction has ended."""

    def __init__(self, tell: Tell = lambda _job, _counts: None) -> None:
        self._tell = tell
        self._published: dict[str, Counts] = {}
        self._lanes: Lanes = {}
        self._fresh: Lanes | None = None
        self._changes: Lanes = {}
        self._version: int | None = None

    def begin(self, transaction: Transaction) -> None:
        """Count what `change` is told once ``transaction`` is committed; count anew if another process has written."""
        self._changes, self._fresh = {}, None
        (version,) = transaction.connection.execute("PRAGMA data_version").fetchone()
        if version != self._version:
            self._fresh = counted(transaction.connection)
        transaction.after.append(lambda: self._committed(transaction, version))

    def change(self, job: str, sink: str, by: Counts) -> None:
        """Add to the counts of a lane, within a transaction."""
        self._changes[job, sink] = self._changes.get((job, sink), _NONE).plus(by)

    def owed(self) -> Iterator[tuple[str, str, Counts]]:
        """Yield each lane that is owed something, as it is within the transaction that has begun."""
        lanes = self._lanes if self._fresh is None else self._fresh
        for key in lanes | self._changes:
            counts = lanes.get(key, _NONE).plus(self._changes.get(key, _NONE))
            if counts.owed:
                yield *key, counts

    def _committed(self, transaction: Transaction, version: int) -> None:
        """Make the changes count; for the thread."""
        published: dict[str, Counts] | None = None
        if self._fresh is not None:
            self._lanes, self._version, published = self._fresh, version, by_job(self._fresh)
        for key, change in self._changes.items():
            counts = self._lanes.pop(key, _NONE).plus(change)
            if counts != _NONE:
                self._lanes[key] = counts
        changes = by_job(self._changes)
        if changes or published is not None:
            transaction.told.append(lambda: self._publish(published, changes))

    def _publish(self, published: dict[str, Counts] | None, changes: dict[str, Counts]) -> None:
        """Tell the loop of the changes; on the loop, in the order of the transactions."""
        told = set(changes)
        if published is not None:
            told |= self._published.keys() | published.keys()
            self._published = published
        for job in told:
            counts = self._published.get(job, _NONE).plus(changes.get(job, _NONE))
            self._tell(job, counts)
            if counts == _NONE:
                self._published.pop(job, None)
            else:
                self._published[job] = counts


def counted(connection: sqlite3.Connection) -> Lanes:
    """Return the counts of each lane that has deliveries."""
    lanes: Lanes = {}
    for job, sink, state, number, size in connection.execute(_COUNT):
        counts = Counts(owed=number, owed_bytes=size) if state == "owed" else Counts(dead=number)
        lanes[job, sink] = lanes.get((job, sink), _NONE).plus(counts)
    return lanes


def by_job(lanes: Lanes) -> dict[str, Counts]:
    """Return the counts of each job."""
    jobs: defaultdict[str, Counts] = defaultdict(Counts)
    for (job, _), counts in lanes.items():
        jobs[job] = jobs[job].plus(counts)
    return dict(jobs)
