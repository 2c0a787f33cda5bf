"""The one thread that uses the database: it takes all that waits and writes it in one transaction."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import threading
from collections.abc import Callable, Sequence
from enum import Enum
from pathlib import Path
from typing import Any, Final, TypeVar

import anyio
import structlog

from fetchd.body import MemoryBudget
from fetchd.errors import FetchdError, StoreError
from fetchd.store.failures import is_of_surroundings, store_error
from fetchd.store.health import Health

T = TypeVar("T")

log = structlog.get_logger()

WAITING: Final = 16 * 2**20
"""Bytes that what waits to be written may take together."""
ORDER: Final = 4096
"""What each order counts for beside the bodies that it holds."""
LINGER: Final = 0.02
"""Seconds for which what nobody waits for is gathered."""
RETRY: Final = 1.0
"""Seconds after which what must not be lost is tried again."""
CLOSING: Final = 5.0
"""Seconds to wait for the last transaction; a disk that stalls for longer is left to its thread."""


class Transaction:
    """What is under way, and what is called once it is committed: ``after`` in the thread, then ``told`` on the loop.

    ``slow`` is called in the thread when nobody waits for the transaction any more. What is called does not raise.
    """

    __slots__ = ("after", "connection", "slow", "told")

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection = connection
        self.after: list[Callable[[], None]] = []
        self.told: list[Callable[[], None]] = []
        self.slow: list[Callable[[], None]] = []


Act = Callable[[Transaction], T]


class Writer:
    """Takes orders on the loop, and does them in order in its thread.

    `run` is answered once it is committed; `keep` is never lost, but tried until it can be written; `offer` is lost
    where it cannot be written, and counted.
    """

    def __init__(self, path: Path, begin: Callable[[Transaction], None], *, waiting: int = WAITING) -> None:
        self.transactions = 0
        self.path = path
        self._begin = begin
        self._room = MemoryBudget(waiting)
        self._health = Health(path)
        self._wake = threading.Condition()
        self._orders: list[_Order] = []
        self._unwritten: list[_Order] = []
        self._urgent = False
        self._closing = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ended: asyncio.Future[None] | None = None

    @property
    def lost(self) -> int:
        """How much of what was offered could not be written."""
        return self._health.lost

    @property
    def unwritable(self) -> str:
        """Why nothing can be written now, "" if something can."""
        return self._health.reason

    async def start(self, connect: Callable[[], sqlite3.Connection]) -> None:
        """Start the thread, and return once it has what ``connect`` returns.

        Raises:
            StoreError: there is no thread to be had.
            FetchdError: what ``connect`` raises.
        """
        self._loop = asyncio.get_running_loop()
        opened: asyncio.Future[None] = self._loop.create_future()
        self._ended = self._loop.create_future()
        # A daemon thread: a connection that is never closed must not hold the process when it wants to end.
        thread = threading.Thread(target=self._serve, args=(connect, opened), name="store", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:
            self._ended = None
            raise StoreError(f"{self.path}: {error}") from None
        try:
            await opened
        except asyncio.CancelledError:
            self._close()
            raise

    async def run(self, act: Act[T], *, size: int = 0, reads: bool = False) -> T:
        """Do ``act``, which holds ``size`` bytes, in a transaction, and return what it returns.

        It waits while too much waits. It is done even if the caller is cancelled. ``reads``: it changes nothing.

        Raises:
            StoreError: it could not be done; nothing of it was.
        """
        kind = _Kind.READS if reads else _Kind.WRITES
        return await self._answered(kind, act, size)  # type: ignore[no-any-return]

    async def run_alone(self, act: Callable[[sqlite3.Connection], T]) -> T:
        """Do ``act`` outside of transactions.

        Raises:
            StoreError: it could not be done.
        """
        order = self._answered(_Kind.ALONE, lambda transaction: act(transaction.connection), 0)
        return await order  # type: ignore[no-any-return]

    def keep(self, act: Act[None], *, urgent: bool = False) -> None:
        """Do ``act`` soon, or whenever that becomes possible; ``urgent``: without waiting for others to come along."""
        if self._closing:
            self._health.lost += 1
        else:
            self._put(_Order(_Kind.KEPT, act, 0), urgent=urgent)

    def offer(self, act: Act[None]) -> None:
        """Do ``act`` soon if that is possible."""
        if self._closing:
            self._health.lost += 1
        elif self._room.try_take(ORDER):
            self._put(_Order(_Kind.OFFERED, act, ORDER), urgent=False)
        else:
            self._health.fails("more waits to be written than the disk takes")
            self._health.lost += 1

    def fails(self, reason: str) -> None:
        """Note that something beside the database, which belongs to it, could not be written."""
        self._health.fails(reason)

    async def aclose(self) -> None:
        """Write what waits, then close the database, within a few seconds."""
        if self._ended is None:
            return
        self._close()
        with anyio.move_on_after(CLOSING, shield=True) as scope:
            await asyncio.shield(self._ended)
        if scope.cancelled_caught:
            log.error("store_not_closed", path=str(self.path), waited_s=CLOSING)

    async def _answered(self, kind: _Kind, act: Act[Any], size: int) -> Any:
        assert self._loop is not None
        cost = min(size + ORDER, self._room.limit)
        if not self._room.try_take(cost):
            await self._room.take(cost)
        if self._closing:
            self._room.give(cost)
            raise StoreError(f"{self.path} is closed")
        answer = self._loop.create_future()
        self._put(_Order(kind, act, cost, answer), urgent=True)
        return await answer

    def _put(self, order: _Order, *, urgent: bool) -> None:
        with self._wake:
            self._orders.append(order)
            if (urgent and not self._urgent) or len(self._orders) == 1:
                self._urgent = self._urgent or urgent
                self._wake.notify()

    def _close(self) -> None:
        with self._wake:
            self._closing = True
            self._wake.notify()

    # From here on: the thread.

    def _serve(self, connect: Callable[[], sqlite3.Connection], opened: asyncio.Future[None]) -> None:
        try:
            connection = connect()
        except Exception as error:
            self._tell(_answer, opened, None, error)
            self._tell(_answer, self._ended, None, None)
            return
        self._tell(_answer, opened, None, None)
        while self._serve_next(connection):
            pass
        with contextlib.suppress(sqlite3.Error):  # whatever it cannot write now, the next start recovers from the log
            connection.close()
        self._tell(self._end)

    def _serve_next(self, connection: sqlite3.Connection) -> bool:
        """Do what waits; return whether there may be more. Nothing of it is held while waiting for another."""
        with self._wake:
            if not self._orders and not self._closing:
                self._wake.wait(RETRY if self._unwritten else None)
            if self._orders and not self._urgent and not self._closing:
                self._wake.wait_for(lambda: self._urgent or self._closing, LINGER)
            orders, self._orders, self._urgent = self._orders, [], False
            last = self._closing
        settled = _Settled(sum(order.cost for order in orders))
        batch = [*self._unwritten, *(order for order in orders if order.kind is not _Kind.ALONE)]
        self._unwritten = []
        if batch:
            self._write(connection, batch, settled)
        for order in orders:
            if order.kind is _Kind.ALONE:
                self._do_alone(connection, order, settled)
        if orders or batch:
            self._tell(self._settle, settled)
        for call in settled.slow:
            call()
        return not last

    def _write(self, connection: sqlite3.Connection, batch: Sequence[_Order], settled: _Settled) -> None:
        """Do ``batch`` in one transaction; if that fails, one by one, so that only what is bad is refused."""
        failure = self._try(connection, batch, settled)
        if failure is None:
            return
        if len(batch) == 1 or not failure.began:
            self._refuse(batch, failure, settled)
            return
        held: _Failure | None = None
        for index, order in enumerate(batch):
            if held is not None and order.kind in {_Kind.KEPT, _Kind.READS}:
                self._refuse([order], held, settled)  # it must not overtake what could not be written
            elif (failure := self._try(connection, [order], settled)) is not None:
                self._refuse([order] if failure.began else batch[index:], failure, settled)
                if not failure.began:
                    return
                if self._unwritten:
                    held = held or failure

    def _try(self, connection: sqlite3.Connection, batch: Sequence[_Order], settled: _Settled) -> _Failure | None:
        reads = all(order.kind is _Kind.READS for order in batch)
        began = False
        transaction = Transaction(connection)
        try:
            connection.execute("BEGIN" if reads else "BEGIN IMMEDIATE")
            began = True
            self._begin(transaction)
            values = [order.act(transaction) for order in batch]
            connection.execute("COMMIT")
        except Exception as error:
            if connection.in_transaction:
                with contextlib.suppress(sqlite3.Error):  # if it goes on, the next one cannot begin, which is said
                    connection.execute("ROLLBACK")
            return _Failure(error, began)
        for call in transaction.after:
            call()
        self.transactions += 1
        settled.told += transaction.told
        settled.slow += transaction.slow
        settled.answers += [(order.answer, value, None) for order, value in zip(batch, values, strict=True)]
        settled.wrote = settled.wrote or not reads
        return None

    def _refuse(self, batch: Sequence[_Order], failure: _Failure, settled: _Settled) -> None:
        passes = not failure.began or is_of_surroundings(failure.error)
        for order in batch:
            if order.answer is not None:
                settled.answers.append((order.answer, None, self._error(failure.error)))
            elif order.kind is _Kind.KEPT and passes:
                self._unwritten.append(order)
            else:
                settled.lost += 1
        if passes:
            settled.trouble = str(self._error(failure.error))
        elif not isinstance(failure.error, FetchdError):
            log.error("store_refused", path=str(self.path), message=str(failure.error))

    def _do_alone(self, connection: sqlite3.Connection, order: _Order, settled: _Settled) -> None:
        try:
            settled.answers.append((order.answer, order.act(Transaction(connection)), None))
        except Exception as error:
            settled.answers.append((order.answer, None, self._error(error)))

    def _error(self, error: Exception) -> FetchdError:
        return error if isinstance(error, FetchdError) else store_error(self.path, error)

    def _tell(self, call: Callable[..., None], *args: object) -> None:
        assert self._loop is not None
        try:
            self._loop.call_soon_threadsafe(call, *args)
        except RuntimeError:
            return  # the loop is closed: nobody waits any more

    # From here on: the loop again.

    def _settle(self, settled: _Settled) -> None:
        for call in settled.told:
            call()
        for answer, value, error in settled.answers:
            if answer is not None:
                _answer(answer, value, error)
        self._room.give(settled.cost)
        if settled.trouble:
            self._health.fails(settled.trouble)
        elif settled.wrote:
            self._health.works()
        self._health.lost += settled.lost

    def _end(self) -> None:
        if self._unwritten:
            log.error("store_unwritten", path=str(self.path), count=len(self._unwritten))
        assert self._ended is not None
        _answer(self._ended, None, None)


class _Kind(Enum):
    """What becomes of an order that cannot be done, and what it needs."""

    WRITES = "writes"
    READS = "reads"
    KEPT = "kept"
    OFFERED = "offered"
    ALONE = "alone"


class _Order:
    """Something to do, what it counts for while it waits, and who is answered."""

    __slots__ = ("act", "answer", "cost", "kind")

    def __init__(self, kind: _Kind, act: Act[Any], cost: int, answer: asyncio.Future[Any] | None = None) -> None:
        self.kind = kind
        self.act = act
        self.cost = cost
        self.answer = answer


class _Failure:
    """Why a transaction was rolled back, or did not begin."""

    __slots__ = ("began", "error")

    def __init__(self, error: Exception, began: bool) -> None:
        self.error = error
        self.began = began


class _Settled:
    """What the loop is told of a batch."""

    __slots__ = ("answers", "cost", "lost", "slow", "told", "trouble", "wrote")

    def __init__(self, cost: int) -> None:
        self.cost = cost
        self.answers: list[tuple[asyncio.Future[Any] | None, Any, Exception | None]] = []
        self.told: list[Callable[[], None]] = []
        self.slow: list[Callable[[], None]] = []
        self.lost = 0
        self.trouble = ""
        self.wrote = False


def _answer(future: asyncio.Future[Any], value: Any, error: Exception | None) -> None:
    if future.done():
        return  # whoever asked has gone
    if error is None:
        future.set_result(value)
    else:
        future.set_exception(error)
