"""Whether there is another attempt, and when: decided without I/O; and that attempts are counted as they are sent."""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fetchd.errors import FetchError, Reason
from fetchd.fetch.exchange import Exchange, Limits
from fetchd.fetch.failures import ExchangeError, HostHeldError, ProxyError
from fetchd.fetch.retry import PASSING, PASSING_REASONS, SPREAD, Attempt, again, backoff, passing_by, spread
from fetchd.fetch.verdict import judge
from fetchd.job import Expect, Retry, Timeouts
from fetchd.run import Progress
from tests.fetch.room import answering, ending, fetching, job, response
from tests.upstream import UpstreamProcess

URL = "http://upstream.test/"


def error(reason: Reason = Reason.HTTP_5XX, *, transient: bool = True, **given: Any) -> FetchError:
    """Return a failure."""
    failed = FetchError(reason, "it failed", transient=transient, status=given.get("status"))
    failed.retry_after = given.get("retry_after")
    return failed


def verdict(failed: FetchError, *, number: int = 1, sent: bool = True, remaining: float = 60.0, **keys: Any) -> Any:
    """Return the seconds until the next attempt, with lots that are always the highest."""
    return again(job(URL, **{"retries": 3, **keys}), failed, Attempt(number, sent, remaining), lambda: 1.0)


@pytest.mark.parametrize(("number", "wait"), [(1, 0.5), (2, 1.0), (3, 2.0), (4, None)])
def test_attempts_have_an_end(number: int, wait: float | None) -> None:
    """``retries`` are further attempts: with three of them the fourth attempt is the last."""
    assert verdict(error(), number=number) == wait


@pytest.mark.parametrize(
    ("on", "failed", "repeated"),
    [
        ((), error(), True),
        ((), error(transient=False), False),
        ((502,), error(status=502), True),
        ((502,), error(status=503), False),
        ((502,), error(Reason.DNS), False),
        ((404,), error(Reason.HTTP_4XX, status=404, transient=False), True),
        (("http_4xx",), error(Reason.HTTP_4XX, status=410, transient=False), True),
        (("dns", 500), error(Reason.DNS), True),
        (("dns", 500), error(Reason.CONNECT), False),
        (("unexpected",), error(Reason.UNEXPECTED, status=200, transient=False), True),
        ((500,), error(Reason.HTTP_429, status=429, retry_after=1.0), False),
    ],
)
def test_what_the_job_says_replaces_the_defaults(on: Any, failed: FetchError, repeated: bool) -> None:
    """Who names what is worth another attempt has named all of it."""
    assert (verdict(failed, retry={"on": on}) is not None) == repeated


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "OPTIONS", "POST", "PATCH"])
@pytest.mark.parametrize("sent", [False, True])
@pytest.mark.parametrize("unsafe", [False, True])
@pytest.mark.parametrize("on", [(), ("protocol",)])
def test_what_may_have_been_done_is_not_done_twice(method: str, sent: bool, unsafe: bool, on: Any) -> None:
    """A second order is worse than none, unless the job says that it is not."""
    harmful = method in {"POST", "PATCH"} and sent and not unsafe
    wait = verdict(error(Reason.PROTOCOL), sent=sent, method=method, retry={"unsafe": unsafe, "on": on})
    assert (wait is None) == harmful


@pytest.mark.parametrize(
    ("retry_after", "remaining", "wait"),
    [
        (None, 0.6, 0.5),
        (None, 0.5, None),
        (None, -1.0, None),
        (0.0, 60.0, 0.5),
        (4.0, 60.0, 5.0),
        (4.0, 5.0, None),
        (40.0, 60.0, 45.0),
        (math.inf, 60.0, None),
    ],
)
def test_a_wait_fits_into_the_run(retry_after: float | None, remaining: float, wait: float | None) -> None:
    """What would outlast the deadline is not begun; a server that names no time worth the name gets the usual one."""
    assert verdict(error(retry_after=retry_after), remaining=remaining) == wait


@given(st.integers(1, 10_000), st.floats(0.0, 1.0), st.floats(0.001, 1e6), st.floats(0.001, 1e6))
def test_the_backoff_is_bounded(attempts: int, lot: float, first: float, longest: float) -> None:
    """It grows from ``first`` to ``longest``, lots are drawn below it, and no number of attempts breaks it."""
    retry = Retry.model_construct(first=first, longest=longest)
    highest = backoff(retry, attempts, lambda: 1.0)
    assert 0 <= backoff(retry, attempts, lambda: lot) <= highest <= longest
    assert highest == longest or attempts <= 64
    assert backoff(retry, 1, lambda: 1.0) == min(first, longest)


@given(st.floats(0.0, 1e9), st.floats(0.0, 1.0))
def test_never_before_the_time(seconds: float, lot: float) -> None:
    """Those who wait for one time come a little after it, each at another moment."""
    assert seconds <= spread(seconds, lambda: lot) <= seconds + SPREAD


@pytest.mark.parametrize("mode", ["close", "rst"])
async def test_the_connection_layer_repeats_nothing(mode: str, upstream: UpstreamProcess) -> None:
    """Attempts are what the server sees: it would else be asked twice as often as anybody knows."""

    async def seen() -> int:
        return Counter((await asyncio.to_thread(upstream.stats))["requests"])[mode]

    before = await seen()
    async with fetching() as fetcher:
        end = await ending(fetcher, job(upstream.url(mode), retries=2, timeout="5s", deadline="20s"), 20)
    assert (end.why, end.progress.attempts, await seen() - before) == ("protocol", 3, 3)


async def test_a_stale_connection_is_replaced_by_a_new_one(upstream: UpstreamProcess) -> None:
    """With several stale ones idle, one repeat is enough, and no attempt is counted for it."""

    async def seen() -> int:
        return Counter((await asyncio.to_thread(upstream.stats))["requests"])["once"]

    before = await seen()
    async with fetching() as fetcher:
        await asyncio.gather(*(ending(fetcher, job(upstream.url("once"))) for _ in range(4)))
        end = await ending(fetcher, job(upstream.url("once"), retries=2))
    assert (end.why, end.progress.attempts) == ("ok", 1)
    assert await seen() - before <= 6


async def test_a_new_connection_that_breaks_is_a_failure() -> None:
    """Only what was idle can be stale."""
    async with answering(response(b"hello"), b"", close=True) as server, fetching() as fetcher:
        assert (await ending(fetcher, job(server.url))).why == "ok"
        end = await ending(fetcher, job(server.url))
    assert (end.why, end.progress.attempts, len(server.heads)) == ("protocol", 1, 2)


async def test_a_stale_connection_whose_replacement_breaks() -> None:
    """One repeat, not one after the other; then it is the job's own affair."""
    heads = 0

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal heads
        first = heads == 0
        try:
            await reader.readuntil(b"\r\n\r\n")
            heads += 1
            if first:
                writer.write(response(b"hello"))
                await reader.readuntil(b"\r\n\r\n")
                heads += 1
        except EOFError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(talk, "127.0.0.1", 0)
    async with server, fetching() as fetcher:
        wanted = job(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/", retries=1)
        assert (await ending(fetcher, wanted)).why == "ok"
        end = await ending(fetcher, wanted)
    assert (end.why, end.progress.attempts, heads) == ("protocol", 2, 4)


async def test_uploads_over_a_stale_connection(upstream: UpstreamProcess) -> None:
    """What may be repeated is repeated whole, its body included."""
    put = job(upstream.url("once"), method="PUT", body="x" * 10_000)
    async with fetching() as fetcher:
        for _ in range(3):
            end = await ending(fetcher, put)
            assert (end.why, end.progress.attempts) == ("ok", 1), end.error


def test_what_is_said_to_pass_by_does() -> None:
    """What explain shows of it is a text; this keeps it true."""
    kinds = [*ExchangeError.__subclasses__(), *ProxyError.__subclasses__()]
    passing = {kind.kind for kind in kinds if kind.retryable} - {HostHeldError.kind}
    assert passing == set(PASSING_REASONS) - {Reason.AUTH}  # which the token server's answer decides
    for status in range(100, 600):
        error = judged(httpx.Response(status))
        assert (error is None) == (status in range(200, 300))
        assert error is None or error.transient == (f" {status}" in passing_by().partition(";")[0])
    assert {status for status in range(300, 600) if _passes(status)} == PASSING | {403, 429}


def _passes(status: int) -> bool:
    error = judged(httpx.Response(status, headers={"Retry-After": "5"}))
    return error is not None and error.transient


def judged(response: httpx.Response) -> FetchError | None:
    """Return why ``response`` is no result; None if it is one."""
    exchange = Exchange(Limits(Timeouts(), max_body=0, redirects=0, allow_insecure_redirects=False), Progress())
    try:
        judge(response, Expect(), exchange, datetime(2026, 1, 1, tzinfo=UTC))
    except FetchError as error:
        return error
    return None
