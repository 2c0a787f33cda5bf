"""SQLite files, each written by one daemon thread: never on the loop, and never by two at a time."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

import anyio

T = TypeVar("T")

BUSY: Final = 2.0
"""Seconds to wait for another process that holds the file."""

CLOSING: Final = 3.0
"""Seconds to wait for a file to be closed; a disk that stalls for longer is left to its thread."""

Act = Callable[[sqlite3.Connection], T]


class Databases:
    """The open files. Each is shared by all who use it, and closed when the last of them lets go."""

    def __init__(self, *, busy: float = BUSY) -> None:
        self._busy = busy
        self._open: dict[Path, Database] = {}

    def use(self, path: Path) -> Database:
        """Return the database in ``path``, which must be resolved; `release` it in the end."""
        database = self._open.get(path)
        if database is None:
            database = self._open[path] = Database(path, self._busy)
        database.users += 1
        return database

    async def release(self, database: Database) -> None:
        """Let go of ``database``."""
        database.users -= 1
        if database.users == 0:
            del self._open[database.path]
            await database.aclose()


class Database:
    """One file and its thread, which starts with the first act."""

    def __init__(self, path: Path, busy: float) -> None:
        self.path = path
        self._busy = busy
        self.users = 0
        self._orders: deque[_Order] = deque()
        self._wake = threading.Condition()
        self._closing = False
        self._thread: threading.Thread | None = None
        self._connection: sqlite3.Connection | None = None
        self._file: tuple[int, int] | None = None

    async def run(self, act: Act[T]) -> T:
        """Have the thread do ``act`` with the connection, in the order of the calls; a cancelled one is taken back.

        Raises:
            sqlite3.Error: it failed; the next call connects anew.
            OSError: the file's folder cannot be made, or no thread be started.
        """
        self._start()
        order = _Order(act, asyncio.get_running_loop())
        self._put(order)
        try:
            return await order.done  # type: ignore[no-any-return]
        finally:
            with self._wake:
                if order in self._orders:
                    self._orders.remove(order)

    async def aclose(self) -> None:
        """Close the file once what was asked for is done, waiting for a moment at the most."""
        if self._thread is None:
            return
        order = _Order(_nothing, asyncio.get_running_loop())
        self._closing = True
        self._put(order)
        with anyio.move_on_after(CLOSING, shield=True):
            await order.done

    def _start(self) -> None:
        if self._thread is not None:
            return
        thread = threading.Thread(target=self._serve, name="sqlite", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:
            raise OSError(str(error)) from None
        self._thread = thread

    def _put(self, order: _Order) -> None:
        with self._wake:
            self._orders.append(order)
            self._wake.notify()

    def _serve(self) -> None:
        """Be the thread."""
        while self._serve_next():
            pass

    def _serve_next(self) -> bool:
        """Do the next order; return whether there may be more. Nothing of it is held while waiting for another."""
        with self._wake:
            while not self._orders:
                self._wake.wait()
            order = self._orders.popleft()
            last = self._closing and not self._orders
        if last:
            self._disconnect()
            order.tell(None, None)
            return False
        try:
            order.tell(order.act(self._connected()), None)
        except Exception as error:
            self._disconnect()
            order.tell(None, error)
        return True

    def _connected(self) -> sqlite3.Connection:
        """Return the connection; a new one if the file was removed or replaced, for the old one writes to nowhere."""
        if self._connection is not None and self._identity() == self._file:
            return self._connection
        self._disconnect()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._connection = sqlite3.connect(self.path, timeout=self._busy, isolation_level=None)
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute("PRAGMA synchronous = FULL")
        self._file = self._identity()
        return self._connection

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _identity(self) -> tuple[int, int] | None:
        try:
            status = self.path.stat()
        except FileNotFoundError:
            return None
        return status.st_dev, status.st_ino


class _Order:
    """Something for the thread to do, and where its end is told."""

    def __init__(self, act: Act[Any], loop: asyncio.AbstractEventLoop) -> None:
        self.act = act
        self.done: asyncio.Future[Any] = loop.create_future()
        self._loop = loop

    def tell(self, value: Any, error: Exception | None) -> None:
        """Say how it ended; for the thread."""
        try:
            self._loop.call_soon_threadsafe(self._settle, value, error)
        except RuntimeError:
            return  # the loop is closed: nobody waits any more

    def _settle(self, value: Any, error: Exception | None) -> None:
        if self.done.done():
            return
        if error is None:
            self.done.set_result(value)
        else:
            self.done.set_exception(error)


def _nothing(_connection: sqlite3.Connection) -> None:
    pass
