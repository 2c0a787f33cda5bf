"""An upstream that misbehaves on purpose: a path names first the mode, then its arguments.

As a program it prints its port on one line, and ends with its parent: when stdin ends, or on SIGTERM.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import signal
import ssl
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from http.client import responses
from typing import Final
from urllib.parse import unquote

CHUNK: Final = 64 * 1024


@dataclass(frozen=True, slots=True)
class Request:
    """The head of a request: path and query as sent, arguments unquoted, headers' names in lower case."""

    method: str
    path: str
    query: str
    headers: tuple[tuple[str, str], ...]
    mode: str
    arguments: tuple[str, ...]

    @classmethod
    def parse(cls, head: bytes) -> Request:
        """Return the request that ``head`` holds. Raises ValueError where it is none."""
        first, *lines = head.decode("latin-1").rstrip("\r\n").split("\r\n")
        method, target, _ = first.split(" ")
        path, _, query = target.partition("?")
        mode, *arguments = (unquote(segment) for segment in path.removeprefix("/").split("/"))
        headers = tuple((name.lower(), value.strip()) for name, _, value in (x.partition(":") for x in lines))
        return cls(method, path, query, headers, mode, tuple(arguments))

    def header(self, name: str) -> str:
        """Return the header called ``name``; "" where there is none."""
        return dict(self.headers).get(name, "")

    def number(self, default: float) -> float:
        """Return the first argument as a number. Raises ValueError where it is none."""
        return float(self.arguments[0]) if self.arguments else default


class Connection:
    """One client's connection; requests have no bodies here. It raises OSError once the client has gone."""

    def __init__(self, server: Upstream, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.server = server
        self.reader = reader
        self.writer = writer

    async def next_request(self) -> Request:
        """Return the next request."""
        self.request = Request.parse(await self.reader.readuntil(b"\r\n\r\n"))
        return self.request

    async def send(self, data: bytes) -> None:
        """Send ``data`` as fast as the client takes it."""
        self.writer.write(data)
        await self.writer.drain()
        # drain() does not yield while the socket keeps up: a flood would starve all other connections.
        await asyncio.sleep(0)

    async def reply(self, status: int, body: bytes = b"", *headers: tuple[str, str]) -> bool:
        """Send a whole and correct response; return whether the client may send another request."""
        keep = self.request.header("connection").lower() != "close"
        length = () if status in {204, 304} else (("Content-Length", str(len(body))),)
        start = head(status, *headers, *length, ("Connection", "keep-alive" if keep else "close"))
        await self.send(start + body if length and self.request.method != "HEAD" else start)
        return keep

    async def pause(self, seconds: float) -> None:
        """Wait ``seconds``, or until the client goes; what it sends meanwhile is dropped."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while await self.reader.read(CHUNK):
                    pass
                raise ConnectionResetError


def head(status: int, *headers: tuple[str, str]) -> bytes:
    """Return the head of a response; nothing is added and nothing is checked."""
    first = f"HTTP/1.1 {status} {responses.get(status, 'Unknown')}"
    return "\r\n".join([first, *(f"{name}: {value}" for name, value in headers), "\r\n"]).encode()


Handler = Callable[[Request, Connection], Awaitable[bool]]
"""Answers one request, rightly or not; says whether the connection may serve another."""


async def ok(request: Request, connection: Connection) -> bool:
    """Answer with a small document that is different each time."""
    count = connection.server.requests[request.mode]
    document = json.dumps({"count": count, "time": datetime.now(UTC).isoformat()})
    return await connection.reply(200, document.encode(), ("Content-Type", "application/json"))


async def slow(request: Request, connection: Connection) -> bool:
    """Answer rightly, after so many seconds."""
    await connection.pause(request.number(1.0))
    return await ok(request, connection)


async def hang(_request: Request, connection: Connection) -> bool:
    """Never answer."""
    while True:
        await connection.pause(3600)


async def drip(request: Request, connection: Connection) -> bool:
    """Begin an answer, then send one byte of its body each second, or each so many seconds, for ever."""
    await connection.send(head(200))
    while True:
        await connection.send(b".")
        await connection.pause(request.number(1.0))


async def flood(_request: Request, connection: Connection) -> bool:
    """Answer with a chunked body that never ends, as fast as it is taken."""
    await connection.send(head(200, ("Transfer-Encoding", "chunked")))
    chunk = b"%x\r\n%s\r\n" % (CHUNK, b"x" * CHUNK)
    while True:
        await connection.send(chunk)


MODES: Final[Mapping[str, Handler]] = {"ok": ok, "slow": slow, "hang": hang, "drip": drip, "flood": flood}


class Upstream:
    """Serves ``modes`` on loopback, and counts the requests of each."""

    def __init__(self, modes: Mapping[str, Handler], connection: type[Connection] = Connection) -> None:
        self.modes = modes
        self.requests: Counter[str] = Counter()
        self._connection = connection

    async def serve(self, port: int = 0, tls: ssl.SSLContext | None = None) -> asyncio.Server:
        """Begin to listen, on any free port by default."""
        return await asyncio.start_server(self.talk, "127.0.0.1", port, ssl=tls, backlog=1024)

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection until it may serve no further request."""
        connection = self._connection(self, reader, writer)
        # Clients that go away, or talk no HTTP, are what this server is for. Cancelled: the whole process ends.
        gone, no_http = (OSError, EOFError, asyncio.CancelledError), (ValueError, asyncio.LimitOverrunError)
        with contextlib.closing(writer), contextlib.suppress(*gone, *no_http):
            while await self.answer(await connection.next_request(), connection):
                pass

    async def answer(self, request: Request, connection: Connection) -> bool:
        """Answer one request; say whether the connection may serve another."""
        handler = self.modes.get(request.mode)
        if handler is None:
            return await connection.reply(404, f"there is: {' '.join(self.modes)}\n".encode())
        self.requests[request.mode] += 1
        return await handler(request, connection)


def told_to_stop() -> asyncio.Event:
    """Return an event that is set when stdin ends, or on SIGTERM or SIGINT."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)

    def readable() -> None:
        if not os.read(0, CHUNK):
            stop.set()

    try:
        loop.add_reader(0, readable)
    except OSError:  # a file, or /dev/null: it cannot be waited for
        stop.set()
    return stop


async def _main(port: int) -> None:
    stop = told_to_stop()
    server = await Upstream(MODES).serve(port)
    os.write(1, b"%d\n" % server.sockets[0].getsockname()[1])
    await stop.wait()
    server.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="An upstream that misbehaves.")
    parser.add_argument("--port", type=int, default=0, help="the port to listen on; any free one by default")
    asyncio.run(_main(parser.parse_args().port))
