"""The store of one machine: an SQLite file that one thread writes, and a folder for large bodies."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, Final

import anyio
import structlog

from fetchd.body import Body, on_disk
from fetchd.errors import Reason, StoreError
from fetchd.run import Delivery, Fetched, Report, Run, deliveries_of
from fetchd.store import Lane, Memory, Owed
from fetchd.store.bodies import Bodies
from fetchd.store.deliveries import REMEMBER, Deliveries
from fetchd.store.history import History
from fetchd.store.ledger import Ledger
from fetchd.store.remembered import Remembered, load
from fetchd.store.rows import (
    SELECT_RECENT,
    SELECT_REPORTS,
    remembered_row,
    report_of,
)
from fetchd.store.schema import BODIES, BUSY, NAME, open_database, settle
from fetchd.store.writer import CLOSING, Transaction, Writer

log = structlog.get_logger()

HISTORY: Final = 100
FAILURES: Final = 100
INLINE_UP_TO: Final = 64 * 1024
WAL_SAID_ABOVE: Final = 64 * 2**20
"""Bytes of the write-ahead log at which `SqliteStore.tidy` says that a reader keeps it from being emptied."""
FREED_AT_ONCE: Final = 2000
"""Pages given back to the disk by one call."""
PRUNED_AT_ONCE: Final = 200

_CLAIM: Final = """
INSERT INTO jobs (job, last_slot) VALUES (?, ?) ON CONFLICT (job) DO UPDATE SET last_slot = excluded.last_slot
"""
_PAUSE: Final = """
INSERT INTO jobs (job, paused) VALUES (?, ?) ON CONFLICT (job) DO UPDATE SET paused = excluded.paused
"""
_NOTE: Final = """
INSERT INTO notes (name, value) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value
"""
_FORGET: Final = "DELETE FROM notes WHERE name = ?"
_NOTES: Final = "SELECT name, value FROM notes WHERE name >= ? AND name < ?"


@asynccontextmanager
async def open_sqlite_store(
    state_dir: Path,
    *,
    history: int = HISTORY,
    failures: int = FAILURES,
    inline_up_to: int = INLINE_UP_TO,
    busy: float = BUSY,
    redact: Callable[[str], str] = str,
) -> AsyncIterator[SqliteStore]:
    """Open what ``state_dir`` keeps, and close it in the end; for the one process that holds the directory.

    Of each job the last ``history`` reports are kept, and apart from them the last ``failures``. Bodies of up to
    ``inline_up_to`` bytes are kept in the database, larger ones in files. ``busy`` is how many seconds to wait for
    another process that holds the write lock. ``redact`` takes secrets out of messages before they are kept, in the
    writer's thread: who reads them later need not know the secrets.

    Raises:
        StateError: the directory cannot be written.
        StoreError: the database is damaged, was written by a newer fetchd, or is locked.
    """
    path, remembered = state_dir / NAME, Remembered()
    ledger = Ledger(remembered.count)
    bodies = Bodies(state_dir / BODIES, partial(settle, path))
    writer = Writer(path, ledger.begin)
    await writer.start(lambda: open_database(path, busy=busy))
    deliveries, reports = Deliveries(ledger, bodies, redact), History(history, failures, redact)
    store = SqliteStore(writer, remembered, deliveries, bodies, history=reports, inline_up_to=inline_up_to)
    try:
        await store.load()
        yield store
    finally:
        await store.aclose()


class SqliteStore:
    """Answers from memory where it can, and writes in groups; see `Store`."""

    def __init__(
        self,
        writer: Writer,
        remembered: Remembered,
        deliveries: Deliveries,
        bodies: Bodies,
        *,
        history: History,
        inline_up_to: int,
    ) -> None:
        self._path = writer.path
        self._writer = writer
        self._remembered = remembered
        self._bodies = bodies
        self._history = history
        self._inline_up_to = inline_up_to
        self._deliveries = deliveries
        self._filing: set[asyncio.Task[None]] = set()
        self._file: tuple[int, int] | None = None
        self._misplaced = ""

    @property
    def lost(self) -> int:
        """How many entries of the history could not be written since the start."""
        return self._writer.lost

    @property
    def unwritable(self) -> str:
        """Why nothing can be written now, or is lost with the process; "" if all is well."""
        return self._misplaced or self._writer.unwritable

    @property
    def last_run(self) -> str:
        """The newest Run of earlier processes that is known of, "" if none is."""
        return self._remembered.last_run

    @property
    def changed(self) -> set[str]:
        """The jobs of which `recall` returns something else than before; the one who shows them takes them out."""
        return self._remembered.changed

    async def load(self) -> None:
        """Read what is answered from memory, and compare the folder of bodies with the rows; once, before all else.

        Raises:
            StoreError: it cannot be read.
        """
        known, filed, last_run = await self._writer.run(load, reads=True)
        self._remembered.load(known, last_run)
        try:
            await on_disk(lambda: self._bodies.sweep(filed))
            self._file = await on_disk(self._identity)
        except OSError as error:
            raise StoreError(f"{self._bodies.folder}: {error.strerror}") from None

    def recall(self, job: str) -> Memory:
        """Return what is remembered of ``job``, its deliveries counted as of the last transaction."""
        return self._remembered.of(job)

    async def claim(self, run: Run) -> bool:
        """Take the slot of ``run``; the state directory is this process's alone, so nobody else has to be asked."""
        known = self.recall(run.job)
        if known.last_slot == run.slot:
            return False
        self._remembered.keep(run.job, known._replace(last_slot=run.slot))
        row = (run.job, run.slot.isoformat())
        self._writer.offer(lambda transaction: _execute(_CLAIM, row, transaction))
        return True

    async def commit(self, run: Run, fetched: Fetched, sinks: Sequence[str], now: datetime) -> Sequence[Delivery]:
        """Keep the result; a caller that is cancelled meanwhile leaves it to be kept all the same.

        Without ``sinks`` there is nothing to keep but what the job is remembered by, which need not be waited for.

        Raises:
            StoreError: nothing of it is kept.
        """
        if not sinks:
            self._took(run.job, fetched)
            row = remembered_row(run.job, fetched)
            self._writer.offer(lambda transaction: _execute(REMEMBER, row, transaction))
            fetched.body.close()
            return ()
        if fetched.body.path is None and fetched.body.size <= self._inline_up_to:
            kept = replace(fetched, body=fetched.body.keep())
            await self._insert(run, kept, sinks, now)
        else:
            kept = await self._filed(run, fetched, sinks, now)
        fetched.body.close()
        return deliveries_of(run, kept, sinks)

    def delivered(self, delivery: Delivery) -> None:
        """Note that the sink has taken ``delivery``; with the last delivery of a result its body goes."""
        run, sink = delivery.run, delivery.sink
        self._writer.keep(lambda transaction: self._deliveries.remove(run, sink, transaction))

    def postponed(self, delivery: Delivery, attempts: int, next_try: datetime, error: str) -> None:
        """Note that ``delivery`` failed for the time ``attempts``, and when it is to be tried again."""
        key = (delivery.run, delivery.sink)
        self._writer.keep(lambda transaction: self._deliveries.postpone(key, attempts, next_try, error, transaction))

    def buried(self, delivery: Delivery, attempts: int, error: str) -> None:
        """Give ``delivery`` up."""
        key = (delivery.run, delivery.sink)
        self._writer.keep(lambda transaction: self._deliveries.bury(key, attempts, error, transaction))

    async def lanes(self) -> Sequence[Lane]:
        """Return every lane that is owed something; what another process replayed or purged is noticed here."""
        return await self._writer.run(self._deliveries.lanes, reads=True)

    async def first_owed(self, job: str, sink: str) -> Owed | None:
        """Return the oldest delivery that a lane is owed.

        If the file of its body is gone, reading the body raises FileNotFoundError.
        """
        return await self._writer.run(lambda transaction: self._deliveries.first(job, sink, transaction), reads=True)

    def finish(self, report: Report) -> None:
        """Note how a Run ended."""
        job, succeeded = report.run.job, None
        before = self.recall(job)
        known = before.counted(report)
        if report.outcome.good and report.started is not None:
            at = report.started + timedelta(seconds=report.duration)
            known = known._replace(last_success=at)
            succeeded = at.isoformat()
        self._remembered.keep(job, known)
        self._writer.offer(lambda transaction: self._history.add(report, succeeded, transaction))
        if known.failures != before.failures:
            self._note_failures(job)

    def skip(self, job: str, slot: datetime, reason: Reason) -> None:
        """Count a slot that found no Run of its own."""
        self._writer.offer(lambda transaction: History.skip(job, reason, transaction))

    def pause(self, job: str, paused: bool) -> None:
        """Note whether ``job`` is paused."""
        self._remembered.keep(job, self.recall(job)._replace(paused=paused))
        self._writer.keep(lambda transaction: _execute(_PAUSE, (job, paused), transaction), urgent=True)

    def forgive(self, job: str) -> None:
        """Forget how often ``job`` has failed in a row."""
        if (known := self.recall(job)).failures:
            self._remembered.keep(job, known.forgiven())
            self._note_failures(job)

    def note(self, name: str, value: str | None, *, needed: bool = True) -> None:
        """Keep ``value`` under ``name`` over restarts; None forgets it.

        What is ``needed`` is brought to the disk at once: there may be nobody who knows it beside us.
        """
        sql, row = (_FORGET, (name,)) if value is None else (_NOTE, (name, value))
        if not needed:
            self._writer.offer(lambda transaction: _execute(sql, row, transaction))
            return

        def act(transaction: Transaction) -> None:
            _execute(sql, row, transaction)
            if self._settle not in transaction.slow:
                transaction.slow.append(self._settle)

        self._writer.keep(act, urgent=True)

    async def notes(self, prefix: str) -> Mapping[str, str]:
        """Return what was noted under the names that begin with ``prefix``."""
        after = prefix[:-1] + chr(ord(prefix[-1]) + 1)
        rows = await self._writer.run(
            lambda transaction: transaction.connection.execute(_NOTES, (prefix, after)).fetchall(), reads=True
        )
        return dict(rows)

    async def history(self, job: str, limit: int) -> Sequence[Report]:
        """Return the last ``limit`` reports of ``job``, the newest first."""
        rows = await self._writer.run(
            lambda transaction: transaction.connection.execute(SELECT_REPORTS, (job, limit)).fetchall(), reads=True
        )
        return [report_of(row) for row in rows]

    async def recent(self, limit: int) -> Sequence[Report]:
        """Return the last ``limit`` reports of each job, the oldest first."""
        rows = await self._writer.run(
            lambda transaction: transaction.connection.execute(SELECT_RECENT, (limit,)).fetchall(), reads=True
        )
        return [report_of(row) for row in rows]

    async def tidy(self) -> None:
        """Let go of history beyond its bounds, of files that could not be removed, and of unused pages.

        Raises:
            StoreError: it could not be done, or the database is no longer where it was.
        """
        gone = f"{self._path} was removed or replaced while in use: start anew, and find out what did it"
        self._misplaced = "" if await on_disk(self._identity) == self._file else gone
        if self._misplaced:
            raise StoreError(self._misplaced)
        jobs = await self._writer.run(self._history.grown, reads=True)
        for start in range(0, len(jobs), PRUNED_AT_ONCE):  # so few at a time that others need not wait
            await self._writer.run(partial(self._history.prune, jobs[start : start + PRUNED_AT_ONCE]))
        size = await self._writer.run_alone(self._shrink)
        if size > WAL_SAID_ABOVE:
            log.warning("store_log_held", path=f"{self._path}-wal", bytes=size, message="a reader does not end")

    async def aclose(self) -> None:
        """Write what is to be written and let go of everything, within a few seconds."""
        if self._filing:
            with anyio.move_on_after(CLOSING, shield=True):
                await asyncio.wait(self._filing)
        await self._writer.aclose()

    async def _insert(self, run: Run, kept: Fetched, sinks: Sequence[str], now: datetime) -> None:
        note = partial(self._took, run.job, kept)
        sinks = tuple(sinks)

        def act(transaction: Transaction) -> None:
            self._deliveries.insert(run, kept, sinks, now, transaction)
            transaction.told.append(note)

        await self._writer.run(act, size=len(kept.body.content or b""))

    async def _filed(self, run: Run, fetched: Fetched, sinks: Sequence[str], now: datetime) -> Fetched:
        """Bring the body to its file, then commit; in a task of its own: a cancelled caller must not leave halves."""
        body = fetched.body
        source = body.content if body.path is None else body.path
        assert source is not None
        path = self._bodies.path_of(run.id)
        kept = replace(fetched, body=Body(path, size=body.size, sha256=body.sha256, kept=True))

        async def file() -> None:
            try:
                await on_disk(lambda: self._bodies.place(source, run.id))
            except OSError as error:
                failure = StoreError(f"cannot keep a body in {path}: {error.strerror}")
                self._writer.fails(str(failure))
                raise failure from None
            try:
                await self._insert(run, kept, sinks, now)
            except StoreError:
                await on_disk(lambda: self._bodies.remove(run.id))
                raise

        task = asyncio.create_task(file())
        self._filing.add(task)
        task.add_done_callback(self._filing.discard)
        await asyncio.shield(task)
        return kept

    def _took(self, job: str, fetched: Fetched) -> None:
        self._remembered.keep(job, self.recall(job).took(fetched))

    def _note_failures(self, job: str) -> None:
        known = self.recall(job)
        failures, since = known.failures, known.failing_since.isoformat() if known.failing_since else None
        self._writer.offer(lambda transaction: History.failing(job, failures, since, transaction))

    def _settle(self) -> None:
        with suppress(OSError):  # a disk that fails is said, and tried again, where it is written to
            settle(self._path)

    def _identity(self) -> tuple[int, int] | None:
        try:
            status = self._path.stat()
        except FileNotFoundError:
            return None
        return status.st_dev, status.st_ino

    def _shrink(self, connection: sqlite3.Connection) -> int:
        """Give back what is unused; return the bytes of the write-ahead log afterwards."""
        self._bodies.retry()
        # It takes a step for each page, and `execute` makes but one where there are no columns.
        connection.executescript(f"PRAGMA incremental_vacuum({FREED_AT_ONCE})")
        (busy,) = connection.execute("PRAGMA busy_timeout").fetchone()
        connection.execute("PRAGMA busy_timeout = 0")  # a reader that does not end must not hold the writer
        try:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        finally:
            connection.execute(f"PRAGMA busy_timeout = {busy}")
        log_file = Path(f"{self._path}-wal")
        return log_file.stat().st_size if log_file.exists() else 0


def _execute(sql: str, row: tuple[Any, ...], transaction: Transaction) -> None:
    transaction.connection.execute(sql, row)
