"""A server that writes down each request byte by byte, and what is compared of two of them."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

HOST: Final = "127.0.0.1"
_LENGTH: Final = re.compile(rb"\r\ncontent-length: *(\d+)\r\n", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Request:
    """One request as it came."""

    line: bytes
    headers: tuple[tuple[str, str], ...]
    """Names in small letters; values without the spaces around them. In order of name and value."""
    body: bytes

    def without(self, *names: str) -> Request:
        """Return it without the headers of these names."""
        return Request(self.line, tuple(pair for pair in self.headers if pair[0] not in names), self.body)


@dataclass(slots=True)
class Recorder:
    """Where it listens, and the requests that came."""

    url: str
    socket: Path
    requests: list[Request] = field(default_factory=list)

    def taken(self) -> list[Request]:
        """Return the requests that came since the last time."""
        taken, self.requests = self.requests, []
        return taken


@asynccontextmanager
async def recording(folder: Path) -> AsyncIterator[Recorder]:
    """Serve at a port of loopback and at a socket in ``folder``; every answer is an empty JSON object."""
    socket = folder / "recorder.sock"
    recorder = Recorder("", socket)

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.closing(writer), contextlib.suppress(OSError, EOFError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = _LENGTH.search(head)
                body = await reader.readexactly(int(length[1]) if length else 0)
                recorder.requests.append(_request(head, body))
                answer = b"" if head.startswith(b"HEAD ") else b"{}"
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n" + answer)
                await writer.drain()

    server = await asyncio.start_server(talk, HOST, 0)
    local = await asyncio.start_unix_server(talk, socket)
    recorder.url = f"http://{HOST}:{server.sockets[0].getsockname()[1]}"
    try:
        yield recorder
    finally:
        server.close()
        local.close()


def _request(head: bytes, body: bytes) -> Request:
    line, *lines = head[:-4].split(b"\r\n")
    pairs = (header.decode("latin-1").partition(":") for header in lines)
    return Request(line, tuple(sorted((name.lower(), value.strip()) for name, _, value in pairs)), body)
