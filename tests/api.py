"""A small HTTP server whose answers a test computes, for conversations that depend on what was asked before."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import parse_qsl, urlsplit

HOST: Final = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class Asked:
    """A request as it came; names of headers in lower case."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes

    @property
    def query(self) -> dict[str, str]:
        """The parameters of the query."""
        return dict(parse_qsl(urlsplit(self.target).query, keep_blank_values=True))


@dataclass(slots=True)
class Api:
    """A server that is up. ``asked`` are the requests that came."""

    url: str
    asked: list[Asked] = field(default_factory=list)

    @property
    def targets(self) -> list[str]:
        """What was asked for, in order."""
        return [asked.target for asked in self.asked]


@asynccontextmanager
async def serving(answer: Callable[[Asked], bytes]) -> AsyncIterator[Api]:
    """Serve whole responses that ``answer`` returns."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.closing(writer), contextlib.suppress(OSError, EOFError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
                method, target, _ = head[0].split(" ")
                pairs = (line.partition(":") for line in head[1:] if line)
                headers = {name.lower(): value.strip() for name, _, value in pairs}
                body = await reader.readexactly(int(headers.get("content-length", 0)))
                api.asked.append(Asked(method, target, headers, body))
                writer.write(answer(api.asked[-1]))
                await writer.drain()

    server = await asyncio.start_server(talk, HOST, 0)
    with contextlib.closing(server):  # not waiting, as newer Pythons do, for connections that clients keep
        api = Api(f"http://{HOST}:{server.sockets[0].getsockname()[1]}")
        yield api
