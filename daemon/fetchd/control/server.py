"""The socket itself: one request and its answer for each connection, bounded in size, number and time."""

from __future__ import annotations

import asyncio
import json
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import structlog

from fetchd.control.wire import (
    BEAT_EVERY,
    EXIT_BUSY,
    EXIT_FAILED,
    EXIT_UNAVAILABLE,
    LONGEST_REQUEST,
    line_of,
)
from fetchd.errors import StateError
from fetchd.log import printable
from fetchd.whereabouts import SOCKET, address_in

log = structlog.get_logger()

CROWD: Final = 4
"""Times as many connections as are answered may be there at all, so that those beyond are told, not just dropped."""

Clean = Callable[[Any], Any]
"""Takes secrets out of a value."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """What clients may take: their number, and seconds to say what they want and to read what was written for them.

    ``beat_every`` are the seconds after which one that waits is told that it is not forgotten.
    """

    clients: int = 16
    asked_within: float = 5.0
    taken_within: float = 10.0
    beat_every: float = BEAT_EVERY


class Reply:
    """What one client is told. Its texts hold no secret, and nothing that a terminal would obey.

    Raises:
        ConnectionError: the client has gone, or does not read; so do all its methods.
    """

    def __init__(self, writer: asyncio.StreamWriter, clean: Clean, taken_within: float) -> None:
        self._writer = writer
        self._clean = clean
        self._taken_within = taken_within
        self._one = asyncio.Lock()

    async def out(self, text: str) -> None:
        """Show ``text``."""
        await self.send({"out": printable(self._clean(text), keep="\n")})

    async def err(self, text: str) -> None:
        """Show ``text`` as what went wrong."""
        await self.send({"err": printable(self._clean(text), keep="\n")})

    async def data(self, data: Mapping[str, Any]) -> None:
        """Hand over values, texts among them as they are but for secrets."""
        await self.send({"data": self._clean(data)})

    async def send(self, message: Mapping[str, Any]) -> None:
        """Send one message that holds nothing secret."""
        async with self._one:
            try:
                self._writer.write(line_of(message))
                async with asyncio.timeout(self._taken_within):
                    await self._writer.drain()
            except TimeoutError:
                self._writer.transport.abort()
                raise ConnectionError("the client does not read") from None


Verb = Callable[[Mapping[str, Any], Reply], Awaitable[int]]
"""Does what a request asks for, and returns the exit status."""


class _Server:
    def __init__(self, verbs: Mapping[str, Verb], clean: Clean, bounds: Bounds) -> None:
        self._verbs = verbs
        self._clean = clean
        self._bounds = bounds
        self._clients: set[asyncio.Task[None]] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Hear and answer one client; whatever it does, nobody else notices."""
        task = asyncio.current_task()
        assert task is not None
        self._clients.add(task)
        reply = Reply(writer, self._clean, self._bounds.taken_within)
        try:
            if len(self._clients) <= CROWD * self._bounds.clients:
                await reply.send({"exit": await self._answer(reader, reply)})
        except (ConnectionError, TimeoutError):
            """It has gone, or never said what it wanted."""
        except asyncio.CancelledError:
            writer.write(line_of({"err": "the daemon has stopped"}) + line_of({"exit": EXIT_UNAVAILABLE}))
        except Exception:
            log.exception("internal_error", during="control")
        finally:
            self._clients.discard(task)
            writer.close()

    async def close(self) -> None:
        """Cut off whoever still waits for an answer."""
        for task in self._clients:
            task.cancel()
        if self._clients:
            await asyncio.wait(self._clients, timeout=1.0)

    async def _answer(self, reader: asyncio.StreamReader, reply: Reply) -> int:
        async with asyncio.timeout(self._bounds.asked_within):
            try:
                request = json.loads(await reader.readuntil(b"\n"))
                verb = self._verbs[request["verb"]]
            except (ValueError, KeyError, TypeError, RecursionError, asyncio.LimitOverrunError):
                await reply.err("that is no request of this version's fetchd")
                return EXIT_FAILED
            except asyncio.IncompleteReadError:
                raise ConnectionError("it hung up") from None
        if len(self._clients) > self._bounds.clients:
            await reply.err(f"{self._bounds.clients} others ask at this moment: try again")
            return EXIT_BUSY
        act = asyncio.ensure_future(verb(request, reply))
        try:
            while not (await asyncio.wait({act}, timeout=self._bounds.beat_every))[0]:
                await reply.send({"beat": True})
            return act.result()
        finally:
            if not act.done():
                act.cancel()
                await asyncio.wait({act})
            if not act.cancelled():
                act.exception()  # somebody has to have looked at it


_BOUNDS: Final = Bounds()


@asynccontextmanager
async def listening(
    state_dir: Path, verbs: Mapping[str, Verb], clean: Clean, bounds: Bounds = _BOUNDS
) -> AsyncIterator[None]:
    """Listen in ``state_dir``, which the caller holds: a socket that is there already was left by a killed process.

    Raises:
        StateError: there can be no socket.
    """
    path = state_dir / SOCKET
    server = _Server(verbs, clean, bounds)
    try:
        bound = _bound(state_dir)
    except OSError as error:
        raise StateError(f"cannot listen at {path}: {error.strerror or error}") from None
    listener = await asyncio.start_unix_server(server.serve, sock=bound, limit=LONGEST_REQUEST)
    try:
        yield
    finally:
        listener.close()
        await server.close()
        with suppress(OSError):  # on a disk that became read-only it stays, and the next start removes it
            path.unlink()


def _bound(state_dir: Path) -> socket.socket:
    """Return a socket that only this user may connect to, from the first instant: it does not listen yet."""
    path = state_dir / SOCKET
    path.unlink(missing_ok=True)
    bound = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with address_in(state_dir) as address:
            bound.bind(address)
        os.chmod(path, 0o600)
    except BaseException:
        bound.close()
        raise
    return bound
