"""What is tried again, and what is not; which responses are results."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import httpx
import pytest
import respx

from fetchd.fetch.fetcher import Fetcher
from fetchd.job import Retry
from tests.fetch.room import (
    HOST,
    PATIENCE,
    SHORT,
    answering,
    connections,
    ending,
    fetcher_over,
    fetching,
    job,
    response,
)
from tests.upstream import UpstreamProcess

URL = "http://upstream.test/"


def told(*responses: httpx.Response | Exception) -> tuple[respx.MockRouter, Fetcher]:
    """Return a router that answers in this order, and a Fetcher on it."""
    router = respx.MockRouter(assert_all_called=False)
    router.route(url=URL).mock(side_effect=[*responses])
    return router, fetcher_over(httpx.MockTransport(router.async_handler))


@pytest.mark.parametrize("status", [408, 425, 500, 502, 503, 504])
async def test_statuses_that_pass(status: int) -> None:
    """Another attempt may be answered otherwise."""
    router, fetcher = told(httpx.Response(status), httpx.Response(status), httpx.Response(200))
    end = await ending(fetcher, job(URL, retries=2))
    assert (end.why, end.progress.attempts, end.progress.status) == ("ok", 3, 200)
    assert router.calls.call_count == 3


@pytest.mark.parametrize("status", [304, 400, 401, 403, 404, 410, 429, 501, 505])
async def test_statuses_that_stay(status: int) -> None:
    """The same question would get the same answer, or do harm."""
    router, fetcher = told(*[httpx.Response(status)] * 3)
    end = await ending(fetcher, job(URL, retries=2))
    assert end.error is not None
    assert (end.progress.attempts, end.error.status, end.error.transient) == (1, status, False)
    assert router.calls.call_count == 1


@pytest.mark.parametrize("value", ["86400", "Wed, 21 Oct 2099 07:28:00 GMT"])
async def test_a_server_that_names_a_time(value: str) -> None:
    """It gets no attempt before that, and no Run sleeps past its deadline: a later slot is the retry."""
    router, fetcher = told(*[httpx.Response(503, headers={"Retry-After": value})] * 3)
    end = await ending(fetcher, job(URL, retries=2))
    assert (end.why, end.progress.attempts, router.calls.call_count) == ("http_5xx", 1, 1)


@pytest.mark.parametrize("retries", [0, 1, 3])
async def test_attempts_are_counted(retries: int) -> None:
    """The last attempt's failure is the Run's."""
    router, fetcher = told(*[httpx.Response(500)] * retries, httpx.Response(502))
    end = await ending(fetcher, job(URL, retries=retries))
    assert end.error is not None
    assert (end.error.status, end.progress.attempts, router.calls.call_count) == (502, retries + 1, retries + 1)


@pytest.mark.parametrize(
    ("mode", "attempts"),
    [
        ("hang", 2),
        ("hangbody", 2),
        ("close", 2),
        ("rst", 2),
        ("short", 2),
        ("twocl", 2),
        ("big/300", 1),
        ("truncgzip", 1),
        ("redir", 1),
        ("loc/ftp:%2F%2Fx", 1),
    ],
)
async def test_failures_on_the_wire(mode: str, attempts: int, upstream: UpstreamProcess) -> None:
    """What broke may hold next time; what is too large stays so."""
    async with fetching() as fetcher:
        end = await ending(fetcher, job(upstream.url(mode), retries=1, timeout="100ms"))
    assert end.error is not None
    assert end.progress.attempts == attempts


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "OPTIONS"])
async def test_what_may_be_repeated(method: str, upstream: UpstreamProcess) -> None:
    """RFC 9110, 9.2.2."""
    async with fetching() as fetcher:
        end = await ending(fetcher, job(upstream.url("close"), method=method, retries=2))
    assert end.progress.attempts == 3


@pytest.mark.parametrize(
    ("where", "attempts", "why"),
    [
        ("refused", 3, "connect"),
        ("syn_hang", 3, "timeout_connect"),
        ("name", 3, "dns"),
        ("silent", 3, "timeout_connect"),
        ("hang", 1, "timeout_read"),
        ("close", 1, "protocol"),
        ("short", 1, "protocol"),
        ("status/503", 1, "http_5xx"),
    ],
)
async def test_a_post_is_repeated_only_where_nothing_was_sent(
    where: str, attempts: int, why: str, upstream: UpstreamProcess
) -> None:
    """A second order is worse than none."""
    urls = {
        "refused": f"http://{HOST}:1/",
        "syn_hang": upstream.url("ok", port="syn_hang"),
        "name": "http://missing.invalid/",
        "silent": upstream.tls_url("ok", port="silent"),
    }
    timeout = "100ms" if why.startswith("timeout") else "2s"  # a busy machine must not make one of the others
    post = job(urls.get(where) or upstream.url(where), method="POST", body="x", retries=2, timeout=timeout)
    async with fetching() as fetcher:
        end = await ending(fetcher, post, deadline=3)
    assert (end.why, end.progress.attempts) == (why, attempts)


async def test_a_post_that_was_redirected_has_been_sent(upstream: UpstreamProcess) -> None:
    """What cannot be reached is where the answer led, not where the order went."""
    async with answering(response(b"", "Location: http://127.0.0.1:1/", status=303)) as server, fetching() as fetcher:
        end = await ending(fetcher, job(server.url, method="POST", body="x", retries=2))
    assert (end.why, end.progress.attempts, len(server.heads)) == ("connect", 1, 1)


async def test_a_post_that_cannot_be_spooled_has_been_sent(upstream: UpstreamProcess, tmp_path: Path) -> None:
    """The disk is full, and the order is placed."""
    async with fetching(tmp_path / "missing") as fetcher:
        end = await ending(fetcher, job(upstream.url("big/2"), method="POST", body="x", retries=2))
        again = await ending(fetcher, job(upstream.url("big/2"), retries=2))
    assert (end.why, end.phase, end.progress.attempts) == ("local_resource", "body", 1)
    assert (again.why, again.progress.attempts) == ("local_resource", 3)
    assert "missing: No such file or directory" in str(end.error)


async def test_a_retry_does_not_outlive_the_deadline(upstream: UpstreamProcess) -> None:
    """Attempts and the time between them fit under the one deadline."""
    async with fetching() as fetcher:
        end = await ending(fetcher, job(upstream.url("hang"), retries=10, timeout="100ms"), deadline=0.35)
    assert (end.why, end.phase) == ("deadline", "headers")
    assert 3 <= end.progress.attempts <= 4
    assert end.took < 0.5


async def test_the_time_between_attempts() -> None:
    """It doubles up to a bound, and chance takes any part of it: a herd of jobs must not come back as one."""
    transport = httpx.MockTransport(lambda _: httpx.Response(500))
    end = await ending(fetcher_over(transport, jitter=lambda: 0.01), job(URL, retries=10), deadline=3)
    waits = [min(Retry().longest, Retry().first * 2.0**number) * 0.01 for number in range(10)]
    assert end.progress.attempts == 11
    assert sum(waits) <= end.took < sum(waits) + 0.5


@pytest.mark.parametrize(
    ("expect", "status", "why"),
    [
        ({}, 200, "ok"),
        ({}, 206, "ok"),
        ({}, 299, "ok"),
        ({}, 204, "ok"),
        ({}, 302, "unexpected"),
        ({"status": (200,)}, 201, "unexpected"),
        ({"status": (404, 200)}, 404, "ok"),
        ({"status": (304,)}, 304, "ok"),
        ({"status": (503,)}, 503, "ok"),
        ({"status": (200,)}, 599, "http_5xx"),
    ],
)
async def test_expected_statuses(expect: Any, status: int, why: str) -> None:
    """The job says what is a result."""
    _, fetcher = told(httpx.Response(status))
    assert (await ending(fetcher, job(URL, expect=expect))).why == why


@pytest.mark.parametrize(
    ("declared", "why"),
    [
        ("application/json", "ok"),
        ("Application/JSON; charset=utf-8", "ok"),
        ("application/json;charset", "ok"),
        ("text/html", "unexpected"),
        ("application/jsonp", "unexpected"),
        ("", "unexpected"),
        (None, "unexpected"),
    ],
)
@pytest.mark.parametrize("expected", ["application/json", "application/json; charset=utf-8", "Application/JSON;v=1"])
async def test_expected_content_types(expected: str, declared: str | None, why: str) -> None:
    """A login page with status 200 is no result."""
    headers = {} if declared is None else {"Content-Type": declared}
    _, fetcher = told(httpx.Response(200, headers=headers, content=b"{}"))
    end = await ending(fetcher, job(URL, expect={"content_type": expected}))
    assert end.why == why
    if end.error is not None:
        assert f'the content type is "{declared or ""}"' in str(end.error)
        assert not end.error.transient


@pytest.mark.parametrize(
    "said",
    [
        response(b"", status=204).replace(b"Content-Length: 0\r\n", b""),
        b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\nContent-Encoding: gzip\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Encoding: br\r\n\r\n",
    ],
)
async def test_head_has_no_body(said: bytes) -> None:
    """What its headers say is of the body that a GET would bring."""
    head = job("http://unused.test", method="HEAD", max_body="1KiB")
    async with answering(said) as server, fetching() as fetcher:
        for _ in range(3):
            end = await ending(fetcher, head.model_copy(update={"url": job(server.url).url}))
            assert (end.why, end.content) == ("ok", b"")


async def test_statuses_without_a_body(upstream: UpstreamProcess) -> None:
    """204 has none whatever its headers say, and its connection goes on."""
    said = b"HTTP/1.1 204 No Content\r\nContent-Length: 5\r\nContent-Encoding: gzip\r\n\r\n"
    async with answering(said) as server, fetching() as fetcher:
        for _ in range(3):
            end = await ending(fetcher, job(server.url))
            assert (end.why, end.content, end.fetched and end.fetched.status) == ("ok", b"", 204)
        end = await ending(fetcher, job(upstream.url("status/304"), expect={"status": (304,)}))
        assert (end.why, end.content) == ("ok", b"")


async def test_a_deadline_between_attempts() -> None:
    """The Run failed for what the last attempt did, not for the phase in which that happened."""
    async with connections() as transport, answering(response(status=503)) as server:
        fetcher = fetcher_over(transport, jitter=lambda: 1.0)
        refused = await ending(fetcher, job(f"http://{HOST}:1/", retries=1), SHORT)
        failed = await ending(fetcher, job(server.url, retries=1), SHORT)
    assert (refused.why, refused.phase, refused.progress.failed) == ("deadline", "backoff", "connect")
    assert (failed.why, failed.phase, failed.progress.failed) == ("deadline", "backoff", "http_5xx")
    assert failed.progress.status == 503


async def test_a_deadline_in_the_next_attempt() -> None:
    """What failed before is of no interest once the next attempt is under way."""
    async with fetching() as fetcher, answering(response(status=503), b"HTTP/1.1 200 OK\r\n") as server:
        end = await ending(fetcher, job(server.url, retries=1, timeout="5s"), SHORT)
    assert (end.why, end.phase, end.progress.failed, end.progress.attempts) == ("deadline", "headers", None, 2)


async def test_what_is_kept_of_a_response() -> None:
    """Validators and what sinks may want; not what the upstream tells of itself, and no cookies."""
    said = response(
        b"hello",
        'ETag: "abc"',
        "Last-Modified: Wed, 01 Jan 2025 00:00:00 GMT",
        "Content-Type: text/plain; charset=\xe9",
        "Set-Cookie: session=canary",
        "X-Powered-By: canary",
        "Link: <http://a.test>; rel=next",
    )
    async with answering(said) as server, fetching() as fetcher:
        end = await ending(fetcher, job(server.url + "/path?key=canary#fragment"))
    assert end.fetched is not None
    assert set(end.fetched.headers) == {"etag", "last-modified", "content-type", "link"}
    assert end.fetched.validators.etag == '"abc"'
    assert end.fetched.validators.last_modified == "Wed, 01 Jan 2025 00:00:00 GMT"
    assert end.fetched.content_type == "text/plain; charset=\xe9"
    assert end.fetched.url == server.url + "/path"
    assert {"pool", "connect", "headers", "body"} <= set(end.fetched.timings)
    assert "canary" not in repr(end.fetched)


async def test_two_runs_at_once_do_not_meet(upstream: UpstreamProcess) -> None:
    """One Fetcher serves all jobs: nothing of one fetch is another's."""
    async with fetching() as fetcher:
        wanted = [job(upstream.url(f"echo/{number}"), name=f"job{number}", timeout="5s") for number in range(20)]
        ends = await asyncio.gather(*(ending(fetcher, one, PATIENCE) for one in wanted * 2))
    for number, end in enumerate(ends):
        assert f'"/echo/{number % 20}"'.encode() in end.content
