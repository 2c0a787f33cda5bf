"""Nothing new: asked for with what the server said last, believed only as an answer to that."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import pytest

from fetchd.body import MemoryBudget
from fetchd.errors import FetchError, Reason
from fetchd.fetch.client import ClientOptions, open_transport
from fetchd.fetch.fetcher import LONGEST_VALIDATOR, Fetcher
from fetchd.fetch.spool import Spool
from fetchd.job import Job
from fetchd.run import Fetched, Progress, Run, Validators
from fetchd.worker import Workers

RUN: Final = Run("run-1", "test", datetime(2026, 1, 1, tzinfo=UTC))
DATE: Final = "Sun, 01 Mar 2026 00:00:00 GMT"
KNOWN: Final = Validators('"v1"', DATE)
NOT_MODIFIED: Final = b"HTTP/1.1 304 Not Modified\r\n\r\n"


class Server:
    """Answers each request with the same bytes, and keeps the heads."""

    def __init__(self, answer: bytes) -> None:
        self.answer = answer
        self.heads: list[str] = []
        self.url = ""

    def header(self, name: str) -> list[str]:
        """Return each value of the header that the last request had."""
        lines = [line.partition(": ") for line in self.heads[-1].split("\r\n")[1:]]
        return [value for key, _, value in lines if key.lower() == name.lower()]

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        with contextlib.closing(writer), contextlib.suppress(OSError, EOFError):
            while True:
                self.heads.append((await reader.readuntil(b"\r\n\r\n")).decode())
                writer.write(self.answer)
                await writer.drain()


@asynccontextmanager
async def serving(answer: bytes) -> AsyncIterator[Server]:
    """Serve ``answer`` on a port of this machine."""
    served = Server(answer)
    server = await asyncio.start_server(served.talk, "127.0.0.1", 0)
    with contextlib.closing(server):  # not waiting, as newer Pythons do, for connections that clients keep
        served.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        yield served


def whole(*headers: str) -> bytes:
    """Return a response with a body, and ``headers``."""
    return "\r\n".join(["HTTP/1.1 200 OK", "Content-Length: 2", *headers, "", "{}"]).encode("latin-1")


async def fetch(server: Server, folder: Path, validators: Validators = KNOWN, **keys: Any) -> Fetched | None:
    """Fetch once, with what was last said."""
    job = Job.model_validate({"name": "test", "url": server.url, "retries": 0, **keys})
    async with open_transport(ClientOptions()) as transport:
        fetcher = Fetcher(transport, Spool(folder, 2**20, MemoryBudget(2**20)), Workers())
        return await fetcher.fetch(job, RUN, Progress(), validators)


async def test_not_modified_is_nothing_new(tmp_path: Path) -> None:
    """The server is asked with both validators as they came, and what it says is no failure."""
    async with serving(NOT_MODIFIED) as server:
        assert await fetch(server, tmp_path) is None
        assert server.header("if-none-match") == ['"v1"']
        assert server.header("if-modified-since") == [DATE]


async def test_without_validators_nothing_is_asked(tmp_path: Path) -> None:
    """And then a 304 is no answer to what was asked."""
    async with serving(NOT_MODIFIED) as server:
        with pytest.raises(FetchError) as caught:
            await fetch(server, tmp_path, Validators())
        assert caught.value.reason is Reason.UNEXPECTED
        assert server.header("if-none-match") == server.header("if-modified-since") == []


async def test_a_new_result_brings_its_own_validators(tmp_path: Path) -> None:
    """They are what the next fetch asks with."""
    async with serving(whole('ETag: W/"v2"', f"Last-Modified: {DATE}")) as server:
        result = await fetch(server, tmp_path)
    assert result is not None
    assert result.validators == Validators('W/"v2"', DATE)


@pytest.mark.parametrize("name", ["If-None-Match", "if-modified-since"])
async def test_the_jobs_own_condition_wins(tmp_path: Path, name: str) -> None:
    """Two conditions contradict one another; the answer to the job's own is believed as well."""
    async with serving(NOT_MODIFIED) as server:
        assert await fetch(server, tmp_path, headers={name: "own"}) is None
        sent = [server.header("if-none-match"), server.header("if-modified-since")]
        assert sorted(sent) == [[], ["own"]]


@pytest.mark.parametrize("etag", ['"' + "x" * LONGEST_VALIDATOR + '"', '"caf\xe9"', '"a\tb"'])
async def test_a_strange_validator_is_not_kept(tmp_path: Path, etag: str) -> None:
    """Sent back, it would make each later request one that the server refuses, or that cannot be sent."""
    async with serving(whole(f"ETag: {etag}")) as server:
        result = await fetch(server, tmp_path)
    assert result is not None
    assert result.validators == Validators()


async def test_another_origin_gets_no_validators(tmp_path: Path) -> None:
    """They are not its own; its 304 would be an answer to a question that was not asked."""
    async with serving(NOT_MODIFIED) as foreign:
        redirect = f"HTTP/1.1 302 Found\r\nLocation: {foreign.url}\r\nContent-Length: 0\r\n\r\n".encode()
        async with serving(redirect) as server:
            with pytest.raises(FetchError) as caught:
                await fetch(server, tmp_path)
        assert caught.value.reason is Reason.UNEXPECTED
        assert server.header("if-none-match") == ['"v1"']
        assert foreign.header("if-none-match") == []
