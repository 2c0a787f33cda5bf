"""HTTP: one request a connection, read-only, each connection bounded in time and all of them in number.

Whoever holds connections open, and asks nothing or reads nothing, must not keep a probe out: a service manager would
end the daemon.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import os
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

import structlog

# Not by way of aiohttp.web: its routes, sessions and files would take a megabyte that nobody uses.
from aiohttp.web_protocol import RequestHandler
from aiohttp.web_request import BaseRequest
from aiohttp.web_response import Response, StreamResponse
from aiohttp.web_server import Server

from fetchd.errors import StateError
from fetchd.web.answer import Answer, text
from fetchd.web.site import Question, Site

log = structlog.get_logger()

LONGEST_LINE: Final = 4096
MOST_HEADERS: Final = 64
PROBES: Final = frozenset({"/healthz", "/readyz"})
"""What is asked by whoever ends the daemon if there is no answer."""
WRITTEN_AT_ONCE: Final = 65536
"""Bytes from which on a piece is sent: a thousand small ones take longer to send than to render."""

HEADERS: Final[Mapping[str, str]] = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self' data:; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Connection": "close",
    "Server": "fetchd",
}
_OURS: Final = frozenset({"localhost", "127.0.0.1", "::1"})


@dataclass(frozen=True, slots=True)
class Limits:
    """What clients may take: connections at one time, and seconds each.

    So many are answered at one time, and as many more may have asked nothing so far. At the end of the daemon, requests
    under way have ``leave_within`` seconds.
    """

    connections: int = 64
    wall: float = 20.0
    leave_within: float = 0.2


class _Silence(logging.Logger):
    """Says nothing: what strangers send makes no lines in the log."""

    def __init__(self) -> None:
        super().__init__("fetchd.web", logging.CRITICAL + 1)


class _Room:
    """The connections that there are: at most ``places`` that have asked nothing so far, and as many to be answered.

    Probes are answered besides: their answers leave at once, whether anybody reads them or not.
    """

    def __init__(self, places: int) -> None:
        self._places = places
        # Each in the order in which they came there.
        self._silent: dict[RequestHandler, _Connection] = {}
        self._waiting: dict[RequestHandler, _Connection] = {}
        self._reading: dict[RequestHandler, _Connection] = {}

    def enter(self, connection: _Connection) -> None:
        """Take one more; if that is one too many, the one that has been silent for longest has to go."""
        self._silent[connection] = connection
        if len(self._silent) > self._places:
            self._make_room(self._silent)

    def asked(self, connection: RequestHandler) -> bool:
        """Note that a request has come which takes a place; return whether there is one.

        Who has been reading an answer for longest makes room for it. Who still waits for one does not.
        """
        if len(self._waiting) + len(self._reading) >= self._places:
            if not self._reading:
                return False
            self._make_room(self._reading)
        entered = self._silent.pop(connection, None)
        if entered is not None:  # else it has been cut off meanwhile
            self._waiting[connection] = entered
        return True

    def answered(self, connection: RequestHandler) -> None:
        """Note that there is an answer: from here on it is up to the client how long it takes."""
        if (waited := self._waiting.pop(connection, None)) is not None:
            self._reading[connection] = waited

    def leave(self, connection: _Connection) -> None:
        """Let go of one."""
        for those in (self._silent, self._waiting, self._reading):
            those.pop(connection, None)

    def _make_room(self, those: Mapping[RequestHandler, _Connection]) -> None:
        longest = next(iter(those.values()))
        self.leave(longest)
        # Not within its own beginning, if it is the new one.
        asyncio.get_running_loop().call_soon(longest.cut_off)


class _Connection(RequestHandler):
    """Ends when its time is over, whatever its client does, and says of what is no request no more than that."""

    __slots__ = ("_end", "_room", "_wall")

    def __init__(self, server: Server, room: _Room, wall: float, silent: logging.Logger) -> None:
        self._room = room
        self._wall = wall
        self._end: asyncio.TimerHandle | None = None
        super().__init__(
            server,
            loop=asyncio.get_running_loop(),
            logger=silent,
            access_log=silent,
            max_line_size=LONGEST_LINE,
            max_field_size=LONGEST_LINE,
            max_headers=MOST_HEADERS,
            lingering_time=0,
        )

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        super().connection_made(transport)
        self._end = asyncio.get_running_loop().call_later(self._wall, self.cut_off)
        self._room.enter(self)

    def connection_lost(self, exc: BaseException | None) -> None:
        """End."""
        if self._end is not None:
            self._end.cancel()
        self._room.leave(self)
        super().connection_lost(exc)

    def handle_error(self, *_args: Any, **_kwargs: Any) -> StreamResponse:
        """Answer what is no request; of what was sent, nothing is repeated."""
        refused = Response(status=400, text="this is not a request\n", headers=HEADERS)
        refused.force_close()
        return refused

    def cut_off(self) -> None:
        """End at once."""
        if isinstance(self.transport, asyncio.Transport):
            self.transport.abort()


class _Handler:
    """Turns requests into questions and answers into responses."""

    def __init__(self, site: Site, hosts: frozenset[str] | None, room: _Room) -> None:
        self._site = site
        self._hosts = hosts
        self._room = room

    async def __call__(self, request: BaseRequest) -> StreamResponse:
        """Answer one request."""
        answer = await self._answer(request)
        self._room.answered(request.protocol)
        response = StreamResponse(status=answer.status, headers=HEADERS)
        if answer.status == 405:
            response.headers["Allow"] = "GET, HEAD"
        response.headers["Content-Type"] = answer.content_type
        response.content_length = sum(map(len, answer.pieces))
        response.force_close()
        await response.prepare(request)
        if request.method != "HEAD":
            for piece in _gathered(answer.pieces):
                await response.write(piece)
        await response.write_eof()
        return response

    async def _answer(self, request: BaseRequest) -> Answer:
        if request.method not in {"GET", "HEAD"}:
            return text(405, "nothing can be changed here")
        if self._hosts is not None and _host_of(request.headers.get("Host", "")) not in self._hosts:
            return text(421, "this is not the host that you ask for; use its address, or localhost")
        if request.path not in PROBES and not self._room.asked(request.protocol):
            return text(503, "too much is asked for at one time; ask again")
        try:
            return await self._site.answer(Question(request.path, request.query, request.headers.get("Accept", "")))
        except Exception:
            log.exception("internal_error", path=request.path[:200])
            return text(500, "a defect in fetchd; the log has the details")


@asynccontextmanager
async def listening(site: Site, listen: str, limits: Limits) -> AsyncIterator[str]:
    """Serve ``site`` on ``listen``, as "ip:port"; yield the address, with the port that was found for 0.

    Raises:
        StateError: the address cannot be listened on.
    """
    host, _, port = listen.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    host = "127.0.0.1" if host == "localhost" else host
    loop = asyncio.get_running_loop()
    guarded = ipaddress.ip_address(host).is_loopback
    silent = _Silence()
    # Whoever gives a name of theirs this machine's address could else read the page through a browser here.
    room = _Room(limits.connections)
    server = Server(_Handler(site, _OURS | {host} if guarded else None, room))
    try:
        opened = await loop.create_server(
            lambda: _Connection(server, room, limits.wall, silent), host, int(port), backlog=limits.connections
        )
    except OSError as error:
        message = f"cannot listen on {listen}: {os.strerror(error.errno or 0)}; name another address as daemon.listen"
        raise StateError(message) from None
    shown = f"[{host}]" if ":" in host else host
    address = f"{shown}:{opened.sockets[0].getsockname()[1]}"
    if not guarded:
        log.warning("page_exposed", address=address, message="whoever reaches this address can read the status page")
    try:
        yield address
    finally:
        opened.close()
        await server.shutdown(limits.leave_within)


def _gathered(pieces: Sequence[bytes]) -> Iterator[bytes]:
    """Yield ``pieces``, small ones put together."""
    held: list[bytes] = []
    size = 0
    for piece in pieces:
        held.append(piece)
        size += len(piece)
        if size >= WRITTEN_AT_ONCE:
            yield b"".join(held)
            held.clear()
            size = 0
    if size:
        yield b"".join(held)


def _host_of(header: str) -> str:
    """Return the host that a Host header names, without its port."""
    if header.startswith("["):
        return header[1:].partition("]")[0].lower()
    return header.partition(":")[0].lower().removesuffix(".")
