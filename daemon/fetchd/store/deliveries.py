"""What is owed, and to whom: each step of a delivery's life as rows, in the writer's thread."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from functools import partial
from typing import Any, Final

from fetchd.run import Fetched, Run
from fetchd.store import Lane, Owed
from fetchd.store.bodies import Bodies
from fetchd.store.ledger import Counts, Ledger
from fetchd.store.rows import INSERT_RESULT, OWED_COLUMNS, owed_of, remembered_row, result_row, short
from fetchd.store.writer import Transaction

REMEMBER: Final = """
INSERT INTO jobs (job, validators, sha256, carried) VALUES (?, ?, ?, ?)
ON CONFLICT (job) DO UPDATE SET validators = excluded.validators, sha256 = excluded.sha256,
  carried = coalesce(excluded.carried, carried)
"""
_INSERT: Final = "INSERT INTO deliveries (sequence, sink, job, size, next_try) VALUES (?, ?, ?, ?, ?)"
_FIND: Final = """
SELECT d.sequence, d.job, d.size, d.state
FROM results r JOIN deliveries d USING (sequence) WHERE r.run = ? AND d.sink = ?
"""
_DELETE: Final = "DELETE FROM deliveries WHERE sequence = ? AND sink = ?"
_OTHERS: Final = "SELECT 1 FROM deliveries WHERE sequence = ? LIMIT 1"
_FILED: Final = "SELECT filed FROM results WHERE sequence = ?"
_DELETE_RESULT: Final = "DELETE FROM results WHERE sequence = ?"
_POSTPONE: Final = """
UPDATE deliveries SET attempts = ?, next_try = ?, error = ? WHERE sequence = ? AND sink = ? AND state = 'owed'
"""
_BURY: Final = """
UPDATE deliveries SET state = 'dead', attempts = ?, error = ? WHERE sequence = ? AND sink = ?
"""
_NEXT_TRY: Final = """
SELECT next_try FROM deliveries INDEXED BY lanes
WHERE job = ? AND sink = ? AND state = 'owed' ORDER BY sequence LIMIT 1
"""
_FIRST: Final = f"""
SELECT {OWED_COLUMNS} FROM deliveries d INDEXED BY lanes JOIN results r USING (sequence)
WHERE d.job = ? AND d.sink = ? AND d.state = 'owed' ORDER BY d.sequence LIMIT 1
"""  # noqa: S608 - the columns are ours


class Deliveries:
    """The rows of results and deliveries, and the counts in step with them; ``redact`` takes secrets out of errors."""

    def __init__(self, ledger: Ledger, bodies: Bodies, redact: Callable[[str], str] = str) -> None:
        self.ledger = ledger
        self._redact = redact
        self._bodies = bodies

    def insert(self, run: Run, fetched: Fetched, sinks: Sequence[str], now: datetime, transaction: Transaction) -> None:
        """Keep a result, what each of ``sinks`` is owed of it, and what its job is remembered by."""
        connection, size = transaction.connection, fetched.body.size
        sequence = connection.execute(INSERT_RESULT, result_row(run, fetched, now)).lastrowid
        next_try = now.isoformat()
        connection.executemany(_INSERT, [(sequence, sink, run.job, size, next_try) for sink in sinks])
        connection.execute(REMEMBER, remembered_row(run.job, fetched))
        for sink in sinks:
            self.ledger.change(run.job, sink, Counts(1, size))

    def remove(self, run: str, sink: str, transaction: Transaction) -> None:
        """Remove a delivery that was made, or is purged; the last one of a result takes its body along."""
        connection = transaction.connection
        if (found := connection.execute(_FIND, (run, sink)).fetchone()) is None:
            return
        sequence, job, size, state = found
        connection.execute(_DELETE, (sequence, sink))
        self.ledger.change(job, sink, Counts(-1, -size) if state == "owed" else Counts(dead=-1))
        if connection.execute(_OTHERS, (sequence,)).fetchone() is None:
            (filed,) = connection.execute(_FILED, (sequence,)).fetchone()
            connection.execute(_DELETE_RESULT, (sequence,))
            if filed:
                transaction.slow.append(partial(self._bodies.remove, run))

    def postpone(
        self, delivery: tuple[str, str], attempts: int, next_try: datetime, error: str, transaction: Transaction
    ) -> None:
        """Note when an owed ``delivery``, a run and a sink, is to be tried again."""
        if found := self._owed(delivery, transaction):
            row = (attempts, next_try.isoformat(), short(self._redact(error)), found[0], delivery[1])
            transaction.connection.execute(_POSTPONE, row)

    def bury(self, delivery: tuple[str, str], attempts: int, error: str, transaction: Transaction) -> None:
        """Make a dead letter of an owed ``delivery``, a run and a sink."""
        if found := self._owed(delivery, transaction):
            sequence, job, size, _ = found
            transaction.connection.execute(_BURY, (attempts, short(self._redact(error)), sequence, delivery[1]))
            self.ledger.change(job, delivery[1], Counts(-1, -size, 1))

    def lanes(self, transaction: Transaction) -> list[Lane]:
        """Return every lane that is owed something."""
        lanes: list[Lane] = []
        for job, sink, counts in self.ledger.owed():
            (next_try,) = transaction.connection.execute(_NEXT_TRY, (job, sink)).fetchone()
            lanes.append(Lane(job, sink, counts.owed, counts.owed_bytes, datetime.fromisoformat(next_try)))
        return lanes

    def first(self, job: str, sink: str, transaction: Transaction) -> Owed | None:
        """Return the oldest delivery that a lane is owed."""
        row = transaction.connection.execute(_FIRST, (job, sink)).fetchone()
        return owed_of(row, self._bodies.path_of) if row else None

    @staticmethod
    def _owed(delivery: tuple[str, str], transaction: Transaction) -> tuple[Any, ...] | None:
        found: tuple[Any, ...] | None = transaction.connection.execute(_FIND, delivery).fetchone()
        return found if found is not None and found[3] == "owed" else None
