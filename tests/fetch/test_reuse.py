"""Connections that are used again: no lost request, no foreign response, no cookie from one job to the next."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing, suppress

import pytest

from tests.fetch.room import answering, ending, fetching, job, response
from tests.processes import until
from tests.upstream import HOST, UpstreamProcess


async def counted(upstream: UpstreamProcess, mode: str) -> int:
    """Return how many requests of ``mode`` the upstream has seen."""
    return Counter((await asyncio.to_thread(upstream.stats))["requests"])[mode]


async def test_a_connection_is_used_again(upstream: UpstreamProcess) -> None:
    """TLS handshakes are most of the cost of a small fetch."""
    before = (await asyncio.to_thread(upstream.stats))["accepted"]
    async with fetching(ca_file=upstream.ca_file) as fetcher:
        for _ in range(10):
            assert (await ending(fetcher, job(upstream.tls_url("ok")))).why == "ok"
    assert (await asyncio.to_thread(upstream.stats))["accepted"] - before <= 2


async def test_a_stale_connection_is_nobody_s_failure(upstream: UpstreamProcess) -> None:
    """The server closed it while it was idle: what may be repeated is, on a new one, and the job does not notice."""
    async with fetching() as fetcher:
        for _ in range(5):
            end = await ending(fetcher, job(upstream.url("once")))
            assert (end.why, end.progress.attempts) == ("ok", 1)


async def test_a_post_is_sent_once(upstream: UpstreamProcess) -> None:
    """Nobody knows whether the server acted on it before it closed the connection."""
    post = job(upstream.url("once"), method="POST", body="x", retries=3)
    async with fetching() as fetcher:
        assert (await ending(fetcher, post)).why == "ok"
        before = await counted(upstream, "once")
        end = await ending(fetcher, post)
        assert (end.why, end.progress.attempts) == ("protocol", 1)
        assert await counted(upstream, "once") == before + 1


@asynccontextmanager
async def losing(how: str, served: int) -> AsyncIterator[tuple[str, list[str]]]:
    """Give the URL of a server that answers so many requests, and reads the next ones whole before it loses them.

    What is given besides are the methods of the requests that it has read.
    """
    read: list[str] = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with closing(writer), suppress(OSError, EOFError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
                await reader.readexactly(int(head.partition("content-length: ")[2].partition("\r")[0] or 0))
                read.append(head.partition(" ")[0])
                if len(read) <= served:
                    writer.write(response(b"hello"))
                elif how == "rst":
                    writer.transport.abort()
                elif how == "cut":
                    writer.write(response(b"hello")[:-1])
                elif how == "503":
                    writer.write(response(b"", "Retry-After: 0", status=503))
                if len(read) > served and how != "503":
                    return

    server = await asyncio.start_server(talk, HOST, 0)
    async with server:
        yield f"http://{HOST}:{server.sockets[0].getsockname()[1]}/", read


@pytest.mark.parametrize("how", ["close", "rst", "cut", "503"])
@pytest.mark.parametrize("served", [0, 1], ids=["new", "reused"])
@pytest.mark.parametrize("method", ["POST", "PATCH", "GET"])
async def test_what_was_read_whole_and_lost(method: str, served: int, how: str) -> None:
    """An order is placed once, over a new connection and over one that has served before; what may be repeated is."""
    wanted = {"method": method, "body": None if method == "GET" else "an order", "timeout": "5s"}
    async with losing(how, served) as (url, read), fetching() as fetcher:
        for _ in range(served):
            assert (await ending(fetcher, job(url, **wanted), 10)).why == "ok"
        end = await ending(fetcher, job(url, **wanted, retries=1, deadline="20s"), 10)
    assert end.why == ("http_5xx" if how == "503" else "protocol")
    if method == "GET":
        # The connection that was idle may have been closed before the request came: that is no attempt.
        assert (end.progress.attempts, len(read) - served in {2, 2 + served}) == (2, True)
    else:
        assert (end.progress.attempts, len(read) - served) == (1, 1)


@pytest.mark.parametrize("mode", ["extra", "close", "short", "big/300", "hangbody"])
async def test_nothing_is_left_for_the_next(mode: str, upstream: UpstreamProcess) -> None:
    """Bytes of one response must never be taken for those of the next, least of all those of another job."""
    async with fetching() as fetcher:
        for _ in range(5):
            await ending(fetcher, job(upstream.url(mode), max_body="1MiB", timeout="50ms"))
            end = await ending(fetcher, job(upstream.url("echo"), headers={"X-Mine": "mine"}))
            assert dict(json.loads(end.content)["headers"])["x-mine"] == "mine"


@asynccontextmanager
async def poisoning(sent: asyncio.Event, release: asyncio.Event) -> AsyncIterator[str]:
    """Give the URL of a server that sends a second response once it is told to, on a connection that is idle."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with closing(writer), suppress(OSError, EOFError):
            while True:
                await reader.readuntil(b"\r\n\r\n")
                writer.write(response(b"hello"))
                await release.wait()
                writer.write(response(b"poison"))
                await writer.drain()
                sent.set()

    server = await asyncio.start_server(talk, HOST, 0)
    with closing(server):  # not waiting, as newer Pythons do, for connections that clients keep
        yield f"http://{HOST}:{server.sockets[0].getsockname()[1]}/"


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_what_comes_late_is_nobody_s_response(method: str) -> None:
    """A second response that arrives while the connection is idle would be the answer to the next request."""
    sent, release = asyncio.Event(), asyncio.Event()
    async with poisoning(sent, release) as url, fetching() as fetcher:
        assert (await ending(fetcher, job(url, method=method))).content == b"hello"
        release.set()
        await sent.wait()
        await asyncio.sleep(0.01)  # it is on its way through the kernel, and nothing tells when it is here
        release.clear()
        end = await ending(fetcher, job(url, method=method))
    assert (end.why, end.content) == ("ok", b"hello")


async def test_a_server_that_speaks_first() -> None:
    """A mail server, say, behind a wrong port: it is tried a few times, not for ever."""
    greeted = 0

    async def greet(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal greeted
        greeted += 1
        writer.write(b"220 mail.test ESMTP\r\n")
        with suppress(OSError):
            await _reader.read()
        writer.close()

    server = await asyncio.start_server(greet, HOST, 0)
    async with server, fetching() as fetcher:
        end = await ending(fetcher, job(f"http://{HOST}:{server.sockets[0].getsockname()[1]}/"))
    assert end.why in {"connect", "protocol"}
    assert greeted < 20


async def test_no_cookie_travels(upstream: UpstreamProcess) -> None:
    """Kept cookies would grow with each fetch until the server refuses them, and go from job to job."""
    async with fetching() as fetcher:
        crumbs = job(upstream.url("cookie"))
        for _ in range(50):
            ends = await asyncio.gather(*(ending(fetcher, crumbs) for _ in range(20)))
            assert {(end.why, end.content) for end in ends} == {("ok", b"")}


async def test_a_connection_that_is_to_be_closed_is(upstream: UpstreamProcess) -> None:
    """``Connection: close`` means what it says, and so does HTTP/1.0."""
    old = b"HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello"
    for said in (response(b"hello", "Connection: close"), old, b"HTTP/1.1 200 OK\r\n\r\nhello"):
        async with answering(said, close=True) as server, fetching() as fetcher:
            for _ in range(3):
                end = await ending(fetcher, job(server.url))
                assert end.content == b"hello"


async def test_idle_connections_end_with_the_client(upstream: UpstreamProcess) -> None:
    """Closed means closed: an upstream must not hold sockets of a daemon that is gone."""
    urls = [upstream.url("ok", host=host) for host in (HOST, "localhost")]
    base = upstream.stats()["open"]
    async with fetching() as fetcher:
        await asyncio.gather(*(ending(fetcher, job(url)) for url in urls * 5))
        assert (await asyncio.to_thread(upstream.stats))["open"] > base
    await until(lambda: upstream.stats()["open"] <= base)
