"""The user's own code: async functions in the loop, all others in worker processes that can be killed."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import inspect
import pickle
import socket
import sys
from collections.abc import Callable
from typing import Any, Final

import anyio
import structlog

from fetchd import worker_main
from fetchd.child import Child, Program, how_it_ended
from fetchd.errors import FetchError, UserCodeError
from fetchd.shorten import shortened
from fetchd.usercode import Result, own_traceback

__all__ = ["Result", "ResultTooLargeError", "Workers", "load_function"]

log = structlog.get_logger()

LIMIT: Final = 4
"""Worker processes at the most: sync code is for the few jobs that cannot be async."""

IDLE: Final = 60.0
"""Seconds that a worker process is kept for the next call: it holds all that the user's code has imported."""

CALLS: Final = 1000
"""Calls that a worker process serves: what the user's code leaks goes with it."""

LARGEST_RESULT: Final = 2**28
"""Bytes that a function in a worker process may return, pickled, where its caller sets no other limit."""


class ResultTooLargeError(UserCodeError):
    """A function in a worker process returned more than it may; it was not taken into memory."""


def load_function(name: str) -> Callable[..., Any]:
    """Return the function called ``package.module:function``. The import runs the user's code: not for the loop.

    Raises:
        UserCodeError: the module cannot be imported, or holds no such function; the message says which.
    """
    module_name, _, attribute = name.partition(":")
    try:
        module = importlib.import_module(module_name)
    except (Exception, SystemExit) as error:
        message = f"cannot import {module_name}: {type(error).__name__}: {error}"
        raise UserCodeError(shortened(message, 1000)) from None
    function = getattr(module, attribute, None)
    if not callable(function):
        raise UserCodeError(f"{module_name} has no function {attribute}")
    return function  # type: ignore[no-any-return]


class Workers:
    """Calls the user's functions so that none of them can hold the loop, or a thread, for ever."""

    def __init__(
        self, limit: int = LIMIT, *, idle: float = IDLE, calls: int = CALLS, largest_result: int = LARGEST_RESULT
    ) -> None:
        self._limiter = anyio.CapacityLimiter(limit)
        self._idle = idle
        self._calls = calls
        self._largest = largest_result
        self._waiting: list[_Worker] = []
        self._closed = False

    async def call(
        self,
        function: Callable[..., Any],
        argument: Any,
        *,
        wants_result: bool = True,
        largest: int | None = None,
        on_start: Callable[[], None] = lambda: None,
    ) -> Any:
        """Call ``function`` with ``argument``: awaited here if it is async, else in a worker process.

        Both travel to the process by pickle, and so does the result, unless ``wants_result`` is false; ``largest`` is
        its limit in bytes there. ``on_start`` is called once there is a place and a process, just before the function:
        what came before is not its fault. A cancelled call of sync code kills its process, with all that it started.

        Raises:
            ResultTooLargeError: its result is larger than it may be.
            UserCodeError: the function raised, and the message holds its traceback; or its process died.
            FetchError: as raised by async code, whose client told it so.
        """
        if inspect.iscoroutinefunction(function):
            on_start()
            return await _awaited(function, argument)
        async with self._limiter:
            request = _request(function, argument, wants_result)  # a copy of the body: not while waiting for a place
            worker = await self._worker()
            try:
                on_start()
                failed, payload = await worker.ask(request, self._largest if largest is None else largest)
            except BaseException:
                worker.log_output(_name_of(function))
                await worker.aclose()
                raise
            worker.log_output(_name_of(function))
            await self._keep(worker)
        return _result(failed, payload)

    async def aclose(self) -> None:
        """End the worker processes. Those of calls under way end with their calls."""
        self._closed = True
        waiting, self._waiting = self._waiting, []
        for worker in waiting:
            worker.discard()
        for worker in waiting:
            await worker.aclose()

    async def _worker(self) -> _Worker:
        while self._waiting:
            worker = self._waiting.pop()
            if worker.reserve():
                return worker
        try:
            return await _Worker.start()
        except OSError as error:
            raise UserCodeError(f"cannot start a worker process: {error}") from None

    async def _keep(self, worker: _Worker) -> None:
        if self._closed or worker.calls >= self._calls:
            await worker.aclose()
        else:
            self._waiting.append(worker)
            worker.release(self._idle, self._retire)

    def _retire(self, worker: _Worker) -> None:
        self._waiting.remove(worker)
        worker.discard()


class _Worker:
    """One worker process and the channel to it."""

    def __init__(self, channel: socket.socket) -> None:
        self.calls = 0
        self._channel = channel
        self._child: Child
        self._timer: asyncio.TimerHandle | None = None

    @classmethod
    async def start(cls) -> _Worker:
        """Start a process that finds modules where this one does.

        Raises:
            OSError: it cannot be started.
        """
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        worker = cls(ours)
        passed = theirs.detach()
        argv = [sys.executable, "-u", "-P", worker_main.__file__, str(passed)]
        try:
            worker._child = await Child.start(Program(argv, passed=passed), on_end=worker._hang_up)
        except BaseException:
            ours.close()
            raise
        try:
            await worker._send(pickle.dumps(sys.path))
        except BaseException:
            await worker.aclose()
            raise
        return worker

    async def ask(self, request: bytes, largest: int) -> tuple[bool, bytes]:
        """Send ``request``; return whether its function failed, and what the process answers.

        Raises:
            UserCodeError: the process died.
            ResultTooLargeError: what it answers is larger than ``largest`` bytes; the process is of no use any more.
        """
        self.calls += 1
        try:
            await self._send(request)
            failed, length = worker_main.unframe(await self._receive(worker_main.HEADER))
            if length <= largest:
                return failed, await self._receive(length)
        except (OSError, EOFError):
            raise UserCodeError(f"the worker process {await self._how_it_ended()}") from None
        raise ResultTooLargeError(f"the function's result is larger than {largest} bytes")

    def reserve(self) -> bool:
        """Take the worker for another call; return whether it is still alive."""
        if self._timer is not None:
            self._timer.cancel()
        if self._child.ended:
            self.discard()
            return False
        return True

    def release(self, idle: float, retire: Callable[[_Worker], None]) -> None:
        """Let the worker wait for another call; after ``idle`` seconds without one ``retire`` is called."""
        self._timer = asyncio.get_running_loop().call_later(idle, retire, self)

    def log_output(self, function: str) -> None:
        """Log what the user's code has printed in the last call."""
        written = {"stdout": self._child.stdout.take(), "stderr": self._child.stderr.take()}
        if any(written.values()):
            log.info("function_output", function=function, **{name: text for name, text in written.items() if text})

    def discard(self) -> None:
        """Kill the process and let go of everything."""
        if self._timer is not None:
            self._timer.cancel()
        self._child.discard()
        self._channel.close()

    async def aclose(self) -> None:
        """Discard the worker and wait, for a moment, until its process is gone."""
        self.discard()
        await self._child.aclose()

    async def _send(self, payload: bytes) -> None:
        loop = asyncio.get_running_loop()
        await loop.sock_sendall(self._channel, worker_main.frame(payload))
        await loop.sock_sendall(self._channel, payload)

    async def _receive(self, size: int) -> bytes:
        loop = asyncio.get_running_loop()
        data = bytearray(size)
        rest = memoryview(data)
        while rest:
            received = await loop.sock_recv_into(self._channel, rest)
            if not received:
                raise EOFError
            rest = rest[received:]
        return bytes(data)

    async def _how_it_ended(self) -> str:
        self._child.kill()  # it may have hung up and live; one that has ended keeps its status
        return how_it_ended(await self._child.wait())

    def _hang_up(self) -> None:
        """Make an answer that will never come an end of file: what the process left running may hold its channel."""
        with contextlib.suppress(OSError):
            self._channel.shutdown(socket.SHUT_RDWR)


async def _awaited(function: Callable[..., Any], argument: Any) -> Any:
    try:
        return await function(argument)
    except FetchError:
        raise
    except BaseException as error:  # sys.exit as well, which would end the daemon
        if _is_ours(error):
            raise
        raise UserCodeError(own_traceback(error)) from None


def _is_ours(error: BaseException) -> bool:
    """Return whether ``error`` ends this task from outside; user code may raise CancelledError of its own accord."""
    if isinstance(error, asyncio.CancelledError):
        task = asyncio.current_task()
        return task is not None and task.cancelling() > 0
    return isinstance(error, GeneratorExit)


def _request(function: Callable[..., Any], argument: Any, wants_result: bool) -> bytes:
    try:
        return pickle.dumps((function, argument, wants_result))
    except Exception as error:
        raise UserCodeError(f"{_name_of(function)} cannot be found from a worker process: {error}") from None


def _result(failed: bool, payload: bytes) -> Any:
    if failed:
        raise UserCodeError(payload.decode("utf-8", "replace"))
    try:
        return pickle.loads(payload)  # noqa: S301 - the user's own code runs in this process as well
    except Exception as error:
        raise UserCodeError(f"the function's result cannot be read: {type(error).__name__}: {error}") from None


def _name_of(function: Callable[..., Any]) -> str:
    return f"{function.__module__}:{getattr(function, '__qualname__', type(function).__qualname__)}"
