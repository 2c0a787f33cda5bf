"""What a job knows stays with the job: no failure tells it, and no log line."""

from __future__ import annotations

import asyncio
import gc
import logging
import traceback
from urllib.parse import quote

import httpx
import pytest

from fetchd.body import Body
from fetchd.errors import FetchError
from fetchd.fetch.context import Context
from fetchd.job import Job, Timeouts
from fetchd.run import Progress
from tests.fetch.room import RUN, answering, fetching, job, response
from tests.upstream import HOST, UpstreamProcess

CANARY = "canary4711"

FAILING = [
    "hang",
    "hangbody",
    "close",
    "rst",
    "short",
    "twocl",
    "hdrbomb",
    "status/404",
    "status/500",
    "status/99",
    "badgzip",
    "truncgzip",
    "bomb/br/1",
    "big/300",
    "redir",
    "loc/ftp:%2F%2Fx%2F",
    "loc/http:%2F%2F[x",
    "noread/1",
]


@pytest.fixture
def every_line(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    """Everything that any logger would say, but for the two that the daemon's log holds at WARNING."""
    caplog.set_level(logging.DEBUG)
    for name in ("httpx", "asyncio"):
        caplog.set_level(logging.WARNING, name)
    return caplog


def with_secrets(url: str, **keys: object) -> Job:
    """Return a job that has a secret in every place where it may have one."""
    address = url.replace("://", f"://user:{CANARY}@") + f"?key={CANARY}"
    headers = {"X-Api-Key": CANARY, "Cookie": CANARY}
    return job(address, headers=headers, params={"token": CANARY}, max_body="1MiB", timeout="100ms", **keys)


def told(error: BaseException) -> str:
    """Return all that a handler may show of ``error``: with its causes, as a traceback, without local values."""
    return "\n".join([str(error), repr(error), *traceback.format_exception(error)])


async def failure(fetcher: object, wanted: Job) -> str:
    """Return what the failure of ``wanted`` tells."""
    with pytest.raises(FetchError) as caught:
        await fetcher.fetch(wanted, RUN, Progress())  # type: ignore[attr-defined]
    return told(caught.value)


@pytest.mark.parametrize("mode", FAILING)
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_no_failure_tells(
    mode: str, method: str, upstream: UpstreamProcess, every_line: pytest.LogCaptureFixture
) -> None:
    """Messages, tracebacks and log lines go to places that the secrets' owner does not choose."""
    body = {"body": CANARY + "x" * 9_000_000 * (mode == "noread/1")} if method == "POST" else {}
    async with fetching() as fetcher:
        wanted = with_secrets(upstream.url(mode), method=method, **body)
        if mode == "noread/1" and method == "GET":
            wanted = wanted.model_copy(update={"timeout": Timeouts.model_validate("50ms")})
        said = await failure(fetcher, wanted)
    assert CANARY not in said
    assert said.strip()
    assert CANARY not in every_line.text


@pytest.mark.parametrize("where", ["http://127.0.0.1:1/", "http://missing.invalid/", "tls", "tls_unknown", "silent"])
async def test_no_connection_tells(where: str, upstream: UpstreamProcess, every_line: pytest.LogCaptureFixture) -> None:
    """Those that fail before anything is sent, too."""
    url = where if where.startswith("http") else upstream.tls_url("ok", port=where)
    async with fetching() as fetcher:
        assert CANARY not in await failure(fetcher, with_secrets(url))
    assert CANARY not in every_line.text


@pytest.mark.parametrize(
    "said",
    [
        response(b"", "X-Echo: \x00 canary4711"),
        b"HTTP/1.1 canary4711\r\n\r\n",
        b"canary4711\r\n\r\n",
        response(b"", "Content-Length: canary4711"),
        response(b"", "Location: http://a.test:canary4711/", status=302),
        response(b"", "Location: ftp://canary4711@a.test/?canary4711", status=302),
        response(b"", "Location: http://user:canary4711@127.0.0.1:1/?canary4711#canary4711", status=302),
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\ncanary4711\r\n",
    ],
)
async def test_no_echo_tells(said: bytes, every_line: pytest.LogCaptureFixture) -> None:
    """An upstream may send back what it got, in the very bytes that are not HTTP."""
    async with answering(said) as server, fetching() as fetcher:
        assert CANARY not in await failure(fetcher, job(server.url))
    assert CANARY not in every_line.text


async def test_no_delivery_tells(upstream: UpstreamProcess) -> None:
    """A webhook's URL is often the secret itself."""
    async with fetching() as fetcher:
        for mode in ("hang", "close"):
            url = upstream.url(f"{mode}?key={CANARY}")
            headers = {"Authorization": f"Bearer {CANARY}"}
            with pytest.raises(FetchError) as caught:
                await fetcher.send("POST", url, headers, Body.of(CANARY.encode()), Timeouts.model_validate("100ms"))
            assert CANARY not in told(caught.value)


async def rethrow(context: Context) -> bytes:
    """Fail because a request has failed, as careful code does it."""
    assert context.client is not None
    try:
        await context.client.get(f"http://user:{CANARY}@{HOST}:1/?key={CANARY}", headers={"X-Key": CANARY})
    except httpx.HTTPError as error:
        raise LookupError("no rates today") from error
    return b""


async def test_no_user_s_traceback_tells() -> None:
    """A user's traceback is logged as a whole, with the failures of ours that are behind it."""
    async with fetching() as fetcher:
        with pytest.raises(Exception, match="no rates today") as caught:
            await fetcher.fetch(job(collect="tests.fetch.test_secrets:rethrow"), RUN, Progress())
    assert "cannot connect to 127.0.0.1:1: Connection refused" in str(caught.value)
    assert CANARY not in told(caught.value)


async def test_nothing_is_said_of_what_is_cut_off(
    upstream: UpstreamProcess, every_line: pytest.LogCaptureFixture
) -> None:
    """A deadline in the middle of an upload leaves tasks of the connection layer behind: they end in silence."""
    async with fetching() as fetcher:
        sent = with_secrets(upstream.url("noread/1"), method="POST", body="x" * 9_000_000)
        for after in (0.0, 0.005, 0.02, 0.05):
            task = asyncio.create_task(fetcher.fetch(sent, RUN, Progress()))
            await asyncio.sleep(after)
            task.cancel()
            await asyncio.wait([task])
            del task
    gc.collect()
    await asyncio.sleep(0)
    assert not [record for record in every_line.records if record.levelno >= logging.WARNING]
    assert CANARY not in quote(every_line.text)
