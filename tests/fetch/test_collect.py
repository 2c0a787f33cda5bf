"""Jobs in code: whatever their function asks for is held to the job's limits, and fails as httpx says it does."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from fetchd.body import MemoryBudget
from fetchd.errors import FetchError, Reason, UserCodeError
from fetchd.fetch.context import Context
from fetchd.fetch.fetcher import Fetcher
from fetchd.fetch.spool import Spool
from fetchd.run import Progress
from fetchd.worker import Workers
from tests.fetch.room import (
    MIB,
    PATIENCE,
    RUN,
    SHORT,
    answering,
    connections,
    ending,
    fetcher_over,
    fetching,
    guarded,
    job,
    lag,
    response,
    settled,
)
from tests.processes import descriptors
from tests.upstream import UpstreamProcess

asked: dict[str, Any] = {}


def client_of(context: Context) -> httpx.AsyncClient:
    """Return the function's client."""
    assert context.client is not None
    return context.client


async def get(context: Context) -> bytes:
    """Get what the test asks for, without a thought."""
    answer = await client_of(context).get(asked["url"], **asked.get("options", {}))
    return answer.content


async def survive(context: Context) -> str:
    """Catch what httpx documents."""
    try:
        await client_of(context).get(asked["url"])
    except httpx.HTTPError as error:
        return next(kind.__name__ for kind in type(error).__mro__ if kind.__module__ == "httpx")
    return "nothing"


async def fail(context: Context) -> bytes:
    """Fail by a mistake of its own."""
    await client_of(context).get(asked["url"])
    raise LookupError("my own mistake")


async def think(context: Context) -> bytes:
    """Get something, then take for ever."""
    await client_of(context).get(asked["url"])
    await asyncio.Event().wait()
    return b""


async def leave_open(context: Context) -> None:
    """Leave responses open, and a task that reads one for ever."""
    client = client_of(context)
    for _ in range(3):
        await client.send(client.build_request("GET", asked["url"]), stream=True)

    async def read() -> None:
        async with client.stream("GET", asked["url"]) as answer:
            async for _ in answer.aiter_raw():
                pass

    asked["task"] = asyncio.create_task(read())
    await asyncio.sleep(SHORT / 2)


async def give(context: Context) -> Any:
    """Return what the test wants returned."""
    return asked["result"]


def collecting(function: str, url: str = "", **keys: Any) -> Any:
    """Return a job that calls ``function`` of this module, which finds ``url`` in ``asked``."""
    asked.clear()
    asked["url"] = url
    return job(collect=f"tests.fetch.test_collect:{function}", **keys)


@pytest.mark.parametrize(
    ("mode", "why"),
    [
        ("ok", "ok"),
        ("bomb/gzip/40", "too_large"),
        ("big/300", "too_large"),
        ("infchunk", "too_large"),
        ("redirbig/300", "ok"),
        ("hang", "timeout_read"),
        ("drip/0.05", "deadline"),
        ("redir", "too_many_redirects"),
        ("short", "protocol"),
        ("truncgzip", "decode"),
        ("loc/javascript:alert(1)", "redirect_refused"),
    ],
)
async def test_a_get_is_bounded(mode: str, why: str, upstream: UpstreamProcess) -> None:
    """Nobody who writes ``client.get`` thinks of bombs; and what they let through keeps its reason."""
    async with fetching() as fetcher:
        end = await ending(fetcher, collecting("get", upstream.url(mode), max_body="2MiB"), deadline=3 * SHORT)
    assert end.why == why


@pytest.mark.parametrize(
    ("mode", "caught"),
    [
        ("hang", "ReadTimeout"),
        ("big/300", "DecodingError"),
        ("close", "RemoteProtocolError"),
        ("redir", "TooManyRedirects"),
    ],
)
async def test_failures_are_httpx_s_own(mode: str, caught: str, upstream: UpstreamProcess) -> None:
    """Code that was written for httpx goes on working."""
    async with fetching() as fetcher:
        end = await ending(fetcher, collecting("survive", upstream.url(mode), max_body="1MiB"))
    assert (end.why, end.content.decode()) == ("ok", caught)


async def test_other_failures_are_the_user_s(upstream: UpstreamProcess) -> None:
    """Whose mistake it was decides who is called."""
    async with fetching() as fetcher:
        with pytest.raises(UserCodeError, match="my own mistake"):
            await fetcher.fetch(collecting("fail", upstream.url("ok")), RUN, Progress())


async def test_what_takes_long_is_told_apart(upstream: UpstreamProcess) -> None:
    """A function that computes past its deadline is not an upstream that hangs."""
    async with fetching() as fetcher:
        thinking = await ending(fetcher, collecting("think", upstream.url("ok")), deadline=SHORT)
        dripping = await ending(fetcher, collecting("get", upstream.url("drip/0.05")), deadline=SHORT)
    assert (thinking.why, thinking.phase) == ("deadline", "collect")
    assert (dripping.why, dripping.phase) == ("deadline", "body")


@pytest.mark.parametrize("given", [0.1, httpx.Timeout(5.0, read=0.1)])
async def test_a_shorter_timeout_counts(given: Any, upstream: UpstreamProcess) -> None:
    """The job's timeouts are the longest; a request may be more impatient."""
    wanted = collecting("get", upstream.url("hang"), timeout="5s")
    asked["options"] = {"timeout": given}
    async with fetching() as fetcher:
        end = await ending(fetcher, wanted)
    assert end.why == "timeout_read"
    assert 0.1 <= end.took < 0.3


@pytest.mark.parametrize("given", [60.0, None, httpx.Timeout(None)])
async def test_a_longer_timeout_does_not(given: Any, upstream: UpstreamProcess) -> None:
    """Nothing in a function can wait for longer than the job's file says."""
    wanted = collecting("get", upstream.url("hang"))
    asked["options"] = {"timeout": given}
    async with fetching() as fetcher:
        end = await ending(fetcher, wanted, deadline=2)
    assert end.why == "timeout_read"
    assert end.took < 2 * SHORT


async def test_what_is_left_open_is_closed(upstream: UpstreamProcess) -> None:
    """A function that forgets a response must not take a place at its host with it, nor a connection, nor a task."""
    tasks, files = asyncio.all_tasks(), descriptors()
    wanted = collecting("leave_open", upstream.url("drip/0.01"))
    async with fetching(max_concurrent={"127.0.0.1": 4}) as fetcher:
        assert (await ending(fetcher, wanted)).why == "nothing"
        await asyncio.wait([asked["task"]], timeout=PATIENCE)
        assert asked["task"].done()
        assert isinstance(asked["task"].exception(), FetchError)
        probes = await asyncio.gather(*(ending(fetcher, job(upstream.url("ok"))) for _ in range(4)))
        assert {probe.why for probe in probes} == {"ok"}
    asked.clear()
    await settled(tasks, files)


@pytest.mark.parametrize("charset", ["punycode", "zip", "idna", "unicode_escape", "utf-7", "nonsense", "%22"])
async def test_text_does_not_block(charset: str, upstream: UpstreamProcess) -> None:
    """``punycode`` is decoded in quadratic time: a megabyte of it would hold the loop for minutes."""
    async with guarded() as client, lag() as held_up:
        answer = await client.get(upstream.url(f"charset/{charset}"))
        assert answer.text == "a" * MIB
    assert held_up.worst < 0.1


@pytest.mark.parametrize("charset", ["utf-8", "iso-8859-1", "Windows-1252", "latin-1", "UTF-16LE", "shift_jis"])
async def test_text_in_honest_charsets(charset: str) -> None:
    """Ordinary charsets stay what they are."""
    word = "naïf" if charset != "shift_jis" else "日本"
    said = response(word.encode(charset), f"Content-Type: text/plain; charset={charset}")
    async with answering(said) as server, guarded() as client:
        assert (await client.get(server.url)).text == word


async def test_cookies_live_as_long_as_the_run(upstream: UpstreamProcess) -> None:
    """A function may log in; its session ends with its Run."""
    async with guarded() as client:
        await client.get(upstream.url("cookie"))
        assert (await client.get(upstream.url("cookie"))).content.startswith(b"c")
    async with guarded() as client:
        assert (await client.get(upstream.url("cookie"))).content == b""


async def test_what_is_no_url() -> None:
    """httpx would say UnsupportedProtocol; so does the guard."""
    async with guarded() as client:
        for url in ("/relative", "ftp://127.0.0.1/", "http://127.0.0.1:99999/", "http:///"):
            with pytest.raises((httpx.UnsupportedProtocol, httpx.InvalidURL)):
                await client.get(url)


@pytest.mark.parametrize(
    ("result", "content", "kind"),
    [
        (b"\x00\xff", b"\x00\xff", "application/octet-stream"),
        ("naïf", "naïf".encode(), "text/plain; charset=utf-8"),
        ({"a": ["ž", None, 1.5]}, '{"a": ["ž", null, 1.5]}'.encode(), "application/json"),
        ([], b"[]", "application/json"),
        ("", b"", "text/plain; charset=utf-8"),
    ],
)
async def test_results(result: Any, content: bytes, kind: str) -> None:
    """What a function returns is what the sinks get."""
    wanted = collecting("give")
    asked["result"] = result
    async with fetching() as fetcher:
        end = await ending(fetcher, wanted)
    assert end.fetched is not None
    assert (end.content, end.fetched.content_type, end.progress.bytes) == (content, kind, len(content))


def nested(depth: int) -> Any:
    """Return lists in lists."""
    value: Any = []
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize("result", [7, object(), "\ud800", ["\ud800"], {"a": {1, 2}}, nested(100_000)])
async def test_what_cannot_be_delivered(result: Any) -> None:
    """It is the function's failure, not the daemon's."""
    wanted = collecting("give")
    asked["result"] = result
    async with fetching() as fetcher:
        with pytest.raises(UserCodeError):
            await fetcher.fetch(wanted, RUN, Progress())
    asked.clear()


async def test_a_result_that_is_too_large() -> None:
    """The job's cap holds for what its function makes as well."""
    wanted = collecting("give", max_body="1KiB")
    asked["result"] = b"x" * 1025
    async with fetching() as fetcher:
        end = await ending(fetcher, wanted)
    assert (end.why, end.phase) == ("too_large", "collect")


async def test_a_result_from_a_process_that_is_too_large() -> None:
    """It is refused by its announced length, before it is in memory; one that only travels larger is taken."""
    async with connections() as transport:
        workers = Workers()
        fetcher = Fetcher(transport, Spool(Path(), MIB, MemoryBudget(MIB)), workers)
        large = await ending(fetcher, job(collect="tests.user_functions:much", max_body="64KiB"), PATIENCE)
        small = await ending(fetcher, job(collect="tests.user_functions:numbers", max_body="200000B"), PATIENCE)
        await workers.aclose()
    assert (large.why, large.phase) == ("too_large", "collect")
    assert large.error is not None
    assert "returned more than max_body" in str(large.error)
    assert (small.why, len(small.content)) == ("ok", 200_000)


async def test_a_function_that_waits_for_a_process_is_not_to_blame() -> None:
    """Slow functions of other jobs hold all places: the phase says that this one has not begun."""
    async with connections() as transport:
        workers, begun = Workers(limit=1), asyncio.Event()
        fetcher = Fetcher(transport, Spool(Path(), MIB, MemoryBudget(MIB)), workers)
        slow = asyncio.create_task(workers.call(time.sleep, 60, on_start=begun.set))
        await begun.wait()
        innocent = await ending(fetcher, job(collect="tests.user_functions:much"), SHORT)
        slow.cancel()
        await asyncio.wait({slow})
        guilty = asyncio.create_task(ending(fetcher, job(collect="tests.user_functions:stay"), 3 * SHORT))
        assert (innocent.why, innocent.phase) == ("deadline", "worker")
        assert ((await guilty).why, (await guilty).phase) == ("deadline", "collect")
        await workers.aclose()


async def test_a_result_that_cannot_be_spooled(tmp_path: Path) -> None:
    """A full or missing disk is this machine's failure, for a function's result as for a fetched one."""
    wanted = collecting("give")
    asked["result"] = b"x" * 100
    async with connections() as transport:
        spool = Spool(tmp_path / "missing", 10, MemoryBudget(MIB))
        end = await ending(Fetcher(transport, spool, Workers()), wanted)
    assert (end.why, end.error and end.error.reason) == ("local_resource", Reason.LOCAL_RESOURCE)


async def test_the_job_s_headers_go_along(upstream: UpstreamProcess) -> None:
    """They are the defaults of the function's client."""
    wanted = collecting("get", upstream.url("echo"), headers={"X-Mine": "é", "User-Agent": "tester"})
    async with fetching() as fetcher:
        end = await ending(fetcher, wanted)
    headers = dict(json.loads(end.content)["headers"])
    assert headers["user-agent"] == "tester"
    assert headers["x-mine"].encode("latin-1").decode() == "é"


async def test_no_function_is_imported_on_the_loop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An import runs the user's code, which may do anything, for any time."""
    (tmp_path / "slow_to_import.py").write_text("import time\ntime.sleep(0.3)\nasync def run(context): return b'x'\n")
    monkeypatch.syspath_prepend(tmp_path)
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0.01)
            turns += 1

    counting = asyncio.create_task(count())
    fetcher = fetcher_over(httpx.MockTransport(lambda request: httpx.Response(200)))
    end = await ending(fetcher, job(collect="slow_to_import:run"))
    counting.cancel()
    assert end.content == b"x"
    assert turns > 5
