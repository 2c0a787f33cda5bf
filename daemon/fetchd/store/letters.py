"""What the command line sees and changes, beside a running daemon or without one: dead letters and the history."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Final

from fetchd.errors import Reason, StoreError
from fetchd.run import Report
from fetchd.store import Memory, Owed
from fetchd.store.bodies import Bodies
from fetchd.store.deliveries import Deliveries
from fetchd.store.failures import asked_error
from fetchd.store.ledger import Ledger, by_job, counted
from fetchd.store.rows import OWED_COLUMNS, SELECT_REPORTS, owed_of, report_of, time_of, validators_of
from fetchd.store.schema import BODIES, NAME, connect, settle
from fetchd.store.writer import Transaction

NO_LETTER: Final = "there is no dead letter {}: `fetchd dead list` shows those that there are"

_LIST: Final = """
SELECT r.run || '-' || d.sink, d.job, d.sink, r.since, d.attempts, d.error, d.size
FROM deliveries d JOIN results r USING (sequence)
WHERE d.state = 'dead' AND (:job IS NULL OR d.job = :job) ORDER BY d.sequence, d.sink
"""
_KEY: Final = """
SELECT d.sequence, r.run, d.sink FROM deliveries d JOIN results r USING (sequence)
WHERE d.state = 'dead' AND r.run || '-' || d.sink = ?
"""
_SHOW: Final = f"""
SELECT {OWED_COLUMNS} FROM deliveries d JOIN results r USING (sequence)
WHERE d.state = 'dead' AND r.run || '-' || d.sink = ?
"""  # noqa: S608 - the columns are ours
_STATES: Final = "SELECT r.run || '-' || d.sink, d.state FROM deliveries d JOIN results r USING (sequence)"
_REPLAY: Final = """
UPDATE deliveries SET state = 'owed', attempts = 0, next_try = ? WHERE sequence = ? AND sink = ?
"""

_JOBS: Final = """
SELECT job FROM jobs UNION SELECT job FROM runs UNION SELECT job FROM skips UNION SELECT job FROM deliveries
UNION SELECT substr(name, ?) FROM notes WHERE substr(name, 1, ?) = ?
"""


@dataclass(frozen=True, slots=True)
class Letter:
    """A delivery that was given up; ``error`` is what its last try ended with."""

    id: str
    job: str
    sink: str
    since: datetime
    attempts: int
    error: str
    bytes: int


def dead_letters(state_dir: Path, job: str | None = None) -> list[Letter]:
    """Return the dead letters, of ``job`` or of all, the oldest first.

    Raises:
        StoreError: there is no database, or it cannot be read; so do all the functions here.
    """
    with _opened(state_dir) as connection:
        rows = connection.execute(_LIST, {"job": job}).fetchall()
    return [
        Letter(id, name, sink, datetime.fromisoformat(since), attempts, error, size)
        for id, name, sink, since, attempts, error, size in rows
    ]


def dead_letter(state_dir: Path, id: str) -> Owed:
    """Return one dead letter; its body is there to be read until it is replayed or purged.

    Raises:
        StoreError: there is none of that ``id``.
    """
    with _opened(state_dir) as connection:
        row = connection.execute(_SHOW, (id,)).fetchone()
    if row is None:
        raise StoreError(NO_LETTER.format(id))
    return owed_of(row, _bodies(state_dir).path_of)


def replay(state_dir: Path, ids: Iterable[str], now: datetime) -> int:
    """Owe the dead letters of ``ids`` again, to be tried at once; return how many there were."""
    with _changing(state_dir) as transaction:
        keys = _keys(ids, transaction)
        for sequence, _, sink in keys:
            transaction.connection.execute(_REPLAY, (now.isoformat(), sequence, sink))
    return len(keys)


def undelivered(state_dir: Path, ids: Iterable[str]) -> dict[str, bool]:
    """Return those of the deliveries ``ids`` that are still kept, and whether each of them is a dead letter."""
    wanted = set(ids)
    with _opened(state_dir) as connection:
        return {id: state == "dead" for id, state in connection.execute(_STATES) if id in wanted}


def purge(state_dir: Path, ids: Iterable[str]) -> int:
    """Throw the dead letters of ``ids`` away for good; return how many there were."""
    deliveries = Deliveries(Ledger(), _bodies(state_dir))
    with _changing(state_dir) as transaction:
        keys = _keys(ids, transaction)
        for _, run, sink in keys:
            deliveries.remove(run, sink, transaction)
    return len(keys)


def history(state_dir: Path, job: str, limit: int) -> list[Report]:
    """Return the last ``limit`` reports of ``job``, the newest first."""
    with _opened(state_dir) as connection:
        rows = connection.execute(SELECT_REPORTS, (job, limit)).fetchall()
    return [report_of(row) for row in rows]


def jobs(state_dir: Path, noted: str) -> set[str]:
    """Return the jobs of which anything is kept, those among it whose names stand behind ``noted`` in the notes."""
    with _opened(state_dir) as connection:
        rows = connection.execute(_JOBS, (len(noted) + 1, len(noted), noted)).fetchall()
    return {job for (job,) in rows}


def skipped(state_dir: Path, job: str) -> dict[Reason, int]:
    """Return how many slots of ``job`` were ever skipped, by reason."""
    with _opened(state_dir) as connection:
        rows = connection.execute("SELECT reason, count FROM skips WHERE job = ?", (job,)).fetchall()
    return {Reason(reason): count for reason, count in rows}


def memory(state_dir: Path, job: str) -> Memory:
    """Return what is remembered of ``job``."""
    with _opened(state_dir) as connection:
        connection.execute("BEGIN")
        row = connection.execute(
            "SELECT validators, sha256, last_slot, last_success FROM jobs WHERE job = ?", (job,)
        ).fetchone()
        counts = by_job(counted(connection)).get(job, ())
        connection.execute("COMMIT")
    validators, sha256, last_slot, last_success = row or ("[null,null]", "", None, None)
    return Memory(validators_of(validators), sha256, time_of(last_slot), time_of(last_success), *counts)


def _bodies(state_dir: Path) -> Bodies:
    return Bodies(state_dir / BODIES, partial(settle, state_dir / NAME))


@contextmanager
def _opened(state_dir: Path) -> Iterator[sqlite3.Connection]:
    path = state_dir / NAME
    with closing(connect(path)) as connection:
        try:
            yield connection
        except sqlite3.Error as error:
            raise asked_error(path, error) from None


@contextmanager
def _changing(state_dir: Path) -> Iterator[Transaction]:
    with _opened(state_dir) as connection:
        transaction = Transaction(connection)
        connection.execute("BEGIN IMMEDIATE")
        try:
            yield transaction
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
        for call in transaction.slow:
            call()


def _keys(ids: Iterable[str], transaction: Transaction) -> list[tuple[int, str, str]]:
    found = (transaction.connection.execute(_KEY, (id,)).fetchone() for id in ids)
    return [key for key in found if key is not None]
