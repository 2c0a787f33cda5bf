"""A small HTTP server on loopback that records what it is sent, and answers as it is told to."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from fetchd.sinks import Outgoing, Send
from tests.fetch.room import fetching


@dataclass(frozen=True)
class Taken:
    """One request."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Receiver:
    """The server; ``answers`` are taken one by one, the last one for ever: a status, or what happens instead."""

    answers: list[int | Literal["hang", "reset"]] = field(default_factory=lambda: [204])
    taken: list[Taken] = field(default_factory=list)
    url: str = ""
    open: int = 0
    most_open: int = 0
    _came: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def until(self, count: int) -> list[Taken]:
        """Return all that was sent, once there are ``count``."""
        async with asyncio.timeout(10), self._came:
            await self._came.wait_for(lambda: len(self.taken) >= count)
        return self.taken

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Take requests of one connection."""
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                await self._one(head.decode("latin-1"), reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            """The client has gone."""
        finally:
            writer.close()

    async def _one(self, head: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        lines = head.strip().split("\r\n")
        method, target, _ = lines[0].split(" ")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        self.open += 1
        self.most_open = max(self.open, self.most_open)
        async with self._came:
            self.taken.append(Taken(method, target, headers, body))
            self._came.notify_all()
        try:
            if answer == "hang":
                await reader.read()
            elif answer == "reset":
                writer.transport.abort()
            else:
                writer.write(f"HTTP/1.1 {answer} X\r\nContent-Length: 0\r\n\r\n".encode())
                await writer.drain()
        finally:
            self.open -= 1


@asynccontextmanager
async def receiving() -> AsyncIterator[Receiver]:
    """Give a server."""
    receiver = Receiver()
    server = await asyncio.start_server(receiver.serve, "127.0.0.1", 0)
    receiver.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield receiver
    finally:
        server.close()


@asynccontextmanager
async def sending(folder: Path | None = None) -> AsyncIterator[Send]:
    """Give the real client, as sinks, notifiers and pings have it."""
    async with fetching(folder) as fetcher:

        async def send(outgoing: Outgoing) -> int:
            return await fetcher.send(outgoing.method, outgoing.url, outgoing.headers, outgoing.body, outgoing.timeouts)

        yield send
