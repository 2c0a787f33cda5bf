"""HTTP as hostile clients speak it."""

from __future__ import annotations

import asyncio
import socket
from contextlib import closing

import pytest
from structlog.testing import capture_logs

from fetchd.errors import StateError
from fetchd.run import Report
from fetchd.web import Limits
from tests.web.made import House, job


def house(**given: object) -> House:
    return House({"a": job("a")}, **given)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "path", ["/", "/healthz", "/metrics", "/api/jobs", "/style.css", "/page.js", "/icon.svg", "/no"]
)
async def test_every_answer_is_fenced(path: str) -> None:
    """No answer can be framed, sniffed, kept, or made to run what is not ours."""
    async with house().served() as client:
        headers = (await client.get(path)).headers
    policy = headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; style-src 'self'; script-src 'self'")
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    assert (headers["X-Content-Type-Options"], headers["Cache-Control"]) == ("nosniff", "no-store")
    assert (headers["Referrer-Policy"], headers["Server"]) == ("no-referrer", "fetchd")


async def test_a_head_is_answered_without_a_body() -> None:
    """Its length is that of the answer to a GET."""
    async with house().served() as client:
        answer = await client.raw(b"HEAD /style.css HTTP/1.1\r\nHost: localhost\r\n\r\n")
        length = len(await client.text("/style.css"))
    head, _, body = answer.partition(b"\r\n\r\n")
    assert f"Content-Length: {length}".encode() in head
    assert body == b""


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
async def test_nothing_can_be_changed(method: str) -> None:
    """Whatever is sent along is not even read."""
    async with house().served() as client:
        response = await client.get("/", method=method, data=b"x" * 100_000)
    assert response.status == 405
    assert response.headers["Allow"] == "GET, HEAD"


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost:80", 200),
        ("127.0.0.1", 200),
        ("LOCALHOST.", 200),
        ("[::1]:9475", 200),
        ("evil.example", 421),
        ("evil.example:9475", 421),
        ("127.0.0.1.evil.example", 421),
        ("[::2]", 421),
        ("", 421),
    ],
)
async def test_a_name_that_was_bound_to_this_machine_gets_nothing(host: str, status: int) -> None:
    """A page on the internet can give its own name this address and let the visitor's browser read what is here."""
    async with house().served() as client:
        assert (await client.get("/api/jobs", headers={"Host": host})).status == status


async def test_a_request_without_a_host_gets_nothing() -> None:
    """HTTP/1.0 knows no Host; nobody has a reason to use it here."""
    async with house().served() as client:
        assert b" 421 " in (await client.raw(b"GET / HTTP/1.0\r\n\r\n")).partition(b"\n")[0]


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"<script>alert(1)</script> garbage\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 20_000 + b"\r\n\r\n",
        b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"A: b\r\n" * 500 + b"\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    ],
)
async def test_what_is_no_request_is_refused_in_one_line(request_bytes: bytes) -> None:
    """Nothing of it comes back, and nothing of it reaches the log."""
    with capture_logs() as lines:
        async with house().served() as client:
            answer = await client.raw(request_bytes)
    assert answer == b"" or b" 400 " in answer.partition(b"\n")[0]
    assert b"alert" not in answer
    assert [line["event"] for line in lines] == ["page_served"]


async def test_one_connection_serves_one_request() -> None:
    """What a client smuggles behind it is not answered."""
    one = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
    async with house().served() as client:
        answer = await client.raw(one + one)
    assert answer.count(b"HTTP/1.1 200") == 1


async def test_slow_clients_are_cut_off() -> None:
    """One that never ends its headers, and one that never reads, hold a connection for a bounded time."""
    async with house().served(limits=Limits(wall=0.2)) as client:
        reader, writer = await asyncio.open_connection("127.0.0.1", client.port)
        writer.write(b"GET / HTTP/1.1\r\nHost: loc")
        assert await reader.read() == b""
        writer.close()
        assert await client.text("/healthz") == "ok\n"


async def test_who_says_nothing_makes_room() -> None:
    """A probe comes in however many connections are held open: it failing would end the daemon."""
    async with house().served(limits=Limits(connections=2)) as client:
        silent = [await asyncio.open_connection("127.0.0.1", client.port) for _ in range(2)]
        silent[0][1].write(b"GET / HTTP/1.1\r\nHost: loc")
        assert await client.text("/healthz") == "ok\n"
        assert await silent[0][0].read() == b"", "the one that was silent for longest"
        silent[1][1].write(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert b" 200 " in await silent[1][0].readline()
        for _, writer in silent:
            writer.close()


async def test_who_waits_for_an_answer_keeps_the_place() -> None:
    """It is not given up for somebody who comes later; that one is told, and a probe needs no place."""
    asked, answer = asyncio.Event(), asyncio.Event()

    async def slow(job: str, limit: int) -> list[Report]:
        asked.set()
        await answer.wait()
        return []

    async with house(history=slow).served(limits=Limits(connections=1)) as client:
        request = asyncio.create_task(client.json("/api/jobs/a/runs"))
        await asked.wait()
        assert (await client.get("/api/jobs")).status == 503
        for probe in ("/healthz", "/readyz"):
            assert await client.text(probe)
        answer.set()
        assert await request == []
        assert await client.json("/api/jobs")


async def test_who_does_not_read_makes_room() -> None:
    """Probes, and whoever else asks, come in however many let their answers lie; the longest of them has to go."""
    large = [b"x" * 2**23]
    given = asyncio.Condition()
    count = 0

    async def metrics() -> tuple[str, list[bytes]]:
        nonlocal count
        async with given:
            count += 1
            given.notify_all()
        return "text/plain", large

    async with house(metrics=metrics).served(limits=Limits(connections=2)) as client:
        lazy = []
        for number in (1, 2):
            lazy.append(await asyncio.open_connection("127.0.0.1", client.port, limit=1024))
            lazy[-1][1].write(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")
            async with given:
                await given.wait_for(lambda number=number: count == number)
        for probe in ("/healthz", "/readyz"):
            assert await client.text(probe)
        assert await client.json("/api/jobs")
        assert await _all_of(lazy[0][0]) < len(large[0]), "it was cut off"
        assert await _all_of(lazy[1][0]) > len(large[0]), "it has a place still"
        for _, writer in lazy:
            writer.close()


async def _all_of(reader: asyncio.StreamReader) -> int:
    """Return how many bytes come up to the end."""
    size = 0
    while piece := await reader.read(65536):
        size += len(piece)
    return size


async def test_the_end_waits_for_nobody() -> None:
    """Neither a request that hangs nor a client that says nothing holds the daemon's stop."""
    asked, never = asyncio.Event(), asyncio.Event()

    async def hang(job: str, limit: int) -> list[Report]:
        asked.set()
        await never.wait()
        return []

    made = house(history=hang)
    async with made.served(limits=Limits(leave_within=0.1)) as client:
        _, idle = await asyncio.open_connection("127.0.0.1", client.port)
        request = asyncio.create_task(client.raw(b"GET /api/jobs/a/runs HTTP/1.1\r\nHost: localhost\r\n\r\n"))
        await asked.wait()
    await asyncio.wait([request])
    idle.close()
    request.exception()


async def test_a_defect_is_told_to_the_log_alone() -> None:
    """The client learns that there is one, not where."""

    async def defect() -> tuple[str, list[bytes]]:
        raise ZeroDivisionError("inner workings")

    with capture_logs() as lines:
        async with house(metrics=defect).served() as client:
            response = await client.get("/metrics")
    assert response.status == 500
    assert "inner" not in await response.text()
    assert [line["event"] for line in lines] == ["page_served", "internal_error"]


async def test_a_port_that_is_taken_is_an_error_that_says_so() -> None:
    """The start fails with the address and the remedy."""
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        listen = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(StateError, match=rf"cannot listen on {listen}: Address already in use; .* daemon\.listen"):
            async with house().served(listen):
                pass


async def test_the_address_says_which_port_was_found() -> None:
    """Who asks for any port has to be told which one it is; names and IPv6 addresses are addresses too."""
    for listen, begin in (("localhost:0", "http://127.0.0.1:"), ("[::1]:0", "http://[::1]:")):
        if listen.startswith("[") and not socket.has_ipv6:
            pytest.skip("this machine has no IPv6")
        async with house().served(listen) as client:
            assert client.url.startswith(begin)
            assert await client.text("/healthz") == "ok\n"
