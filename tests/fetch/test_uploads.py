"""Requests with bodies: upstreams that do not take them, or answer before they have."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import pytest

from fetchd.body import Body
from fetchd.errors import FetchError, Reason
from fetchd.job import Timeouts
from tests.fetch.room import MIB, PATIENCE, SHORT, answering, ending, fetching, guarded, job, response, settled
from tests.processes import descriptors, until
from tests.upstream import HOST, UpstreamProcess

LARGE = "x" * (16 * MIB)
PIECES = 16


@pytest.mark.parametrize("secure", [False, True], ids=["plain", "tls"])
async def test_an_upstream_that_does_not_read(secure: bool, upstream: UpstreamProcess) -> None:
    """Writing has a timeout of its own, and what is left to be sent must not keep the connection open for ever."""
    tasks, files = asyncio.all_tasks(), descriptors()
    url = upstream.tls_url("noread/5") if secure else upstream.url("noread/5")
    async with fetching(ca_file=upstream.ca_file) as fetcher:
        await ending(fetcher, job(url.replace("noread/5", "ok")))
        open_before = descriptors()
        end = await ending(fetcher, job(url, method="POST", body=LARGE))
        await until(lambda: descriptors() <= open_before, within=1)
    assert (end.why, end.phase) == ("timeout_write", "write")
    assert "the request was not taken within 0.25 s" in str(end.error)
    assert SHORT <= end.took < SHORT + 0.5
    await settled(tasks, files, within=1)


async def test_a_slow_upload_is_no_failure() -> None:
    """The timeout is for each piece: a large body may take longer than that as a whole."""
    taken = hashlib.sha256()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with closing(writer):
            await reader.readuntil(b"\r\n\r\n")
            for _ in range(PIECES):
                taken.update(await reader.readexactly(len(LARGE) // PIECES))
                await asyncio.sleep(0.1)
            writer.write(response(b"taken"))
            await writer.drain()

    server = await asyncio.start_server(talk, HOST, 0)
    async with server, fetching() as fetcher:
        url = f"http://{HOST}:{server.sockets[0].getsockname()[1]}/"
        slow = {"connect": "5s", "read": "5s", "write": "1s"}
        end = await ending(fetcher, job(url, method="PUT", body=LARGE, timeout=slow), PATIENCE)
    assert end.why == "ok"
    assert end.took > 1
    assert taken.digest() == hashlib.sha256(LARGE.encode()).digest()


@pytest.mark.parametrize("then", ["keeps silent", "closes", "reads on"])
async def test_an_answer_before_the_end(then: str) -> None:
    """A server that refuses a body answers before it has it all: that answer is the result, not a broken pipe."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with closing(writer):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(response(b"too much", status=413))
            await writer.drain()
            if then == "keeps silent":
                await over.wait()
            while then == "reads on" and await reader.read(MIB):
                pass

    over = asyncio.Event()
    server = await asyncio.start_server(talk, HOST, 0)
    async with server, fetching() as fetcher:
        url = f"http://{HOST}:{server.sockets[0].getsockname()[1]}/"
        end = await ending(fetcher, job(url, method="POST", body=LARGE, timeout="5s"), PATIENCE)
        over.set()
        if then == "closes":  # its kernel resets the connection for the bytes it did not read, and may drop the answer
            assert end.why in {"http_4xx", "protocol"}
        else:
            assert end.why == "http_4xx"
            assert end.error is not None
            assert end.error.status == 413
        assert end.took < 4  # no limit had to pass for it
        assert (await ending(fetcher, job(url, method="POST", timeout="5s"), PATIENCE)).why == "http_4xx"


@pytest.mark.parametrize("method", ["POST", "PUT"])
async def test_sending_for_a_sink(method: str, upstream: UpstreamProcess, tmp_path: Path) -> None:
    """A delivery goes over the same client: framed by its length, from memory or from a file."""
    spooled = tmp_path / "body"
    spooled.write_bytes(b"y" * (3 * MIB))
    async with answering(response(status=204)) as server, fetching() as fetcher:
        for body in (Body.of(b"hello"), Body.of(b""), Body(spooled, size=3 * MIB, sha256="")):
            headers = {"Content-Type": "text/plain", "Idempotency-Key": "1"}
            status = await fetcher.send(method, upstream.url("echo"), headers, body, Timeouts())
            assert status == 200
        assert await fetcher.send(method, server.url, {}, Body.of(b""), Timeouts()) == 204
    assert b"Content-Length: 0\r\n" in server.heads[0]
    assert server.heads[0].startswith(method.encode())


@pytest.mark.parametrize(
    ("mode", "status"), [("redir/1", 302), ("status/404", 404), ("status/503", 503), ("redirbig/300", 302)]
)
async def test_a_sink_is_told_the_status(mode: str, status: int, upstream: UpstreamProcess) -> None:
    """What it means is the sink's to judge; redirects are not followed with somebody's data."""
    async with fetching() as fetcher:
        assert await fetcher.send("POST", upstream.url(mode), {}, Body.of(b"x"), Timeouts()) == status


@pytest.mark.parametrize(("mode", "reason"), [("hang", Reason.TIMEOUT_READ), ("close", Reason.PROTOCOL)])
async def test_a_sink_is_told_the_reason(mode: str, reason: Reason, upstream: UpstreamProcess) -> None:
    """Its timeouts are its own, not those of the job."""
    timeouts = Timeouts.model_validate("200ms")
    async with fetching() as fetcher:
        with pytest.raises(FetchError) as caught:
            await fetcher.send("POST", upstream.url(mode), {}, Body.of(b"x"), timeouts)
    assert caught.value.reason is reason
    assert caught.value.transient


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_no_more_is_sent_than_declared(method: str, upstream: UpstreamProcess) -> None:
    """What is sent beyond the declared length would be the beginning of the next job's request."""
    async with guarded() as client:
        url, smuggled = upstream.url("echo"), b"helloGET /close HTTP/1.1\r\n\r\n"
        answer = await client.request("POST", url, content=smuggled, headers={"Content-Length": "5"})
        assert answer.json()["body"] == "aGVsbG8="
        assert (await client.request(method, url)).json()["method"] == method


async def test_a_body_in_chunks(upstream: UpstreamProcess) -> None:
    """A function may stream what it sends, without knowing the length."""

    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(3):
            yield b"x" * 100_000

    async with guarded() as client:
        for content in (pieces(), b"", "text"):
            answer = await client.post(upstream.url("echo"), content=content)
            assert answer.status_code == 200
        answer = await client.post(upstream.url("echo"), files={"file": b"y" * 100_000}, data={"name": "value"})
        assert len(answer.json()["body"]) > 100_000


async def test_a_put_over_a_stale_connection(upstream: UpstreamProcess) -> None:
    """The body can be sent again from its beginning, so that a connection that went stale costs nothing."""
    async with fetching() as fetcher:
        for _ in range(3):
            assert await fetcher.send("PUT", upstream.url("once"), {}, Body.of(b"hello"), Timeouts()) == 200


async def test_a_spool_file_that_is_gone(upstream: UpstreamProcess, tmp_path: Path) -> None:
    """It ends with a reason, and without the URL's secret."""
    gone = Body(tmp_path / "gone", size=5, sha256="")
    async with fetching() as fetcher:
        with pytest.raises(FetchError) as caught:
            await fetcher.send("POST", upstream.url("echo?key=canary"), {}, gone, Timeouts())
    assert "canary" not in str(caught.value)
    assert "No such file" in str(caught.value)
