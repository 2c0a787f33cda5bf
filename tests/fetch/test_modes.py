"""Every way in which an upstream misbehaves ends in time, with its reason, and holds nobody else up."""

from __future__ import annotations

import asyncio
import gzip
import zlib

import pytest

from tests.fetch.room import DEADLINE, MIB, PATIENCE, SHORT, answering, ending, fetching, job, lag, patient, response
from tests.upstream import UpstreamProcess

HELD_UP = 0.1

ENDINGS = {
    "ok": ("ok", "body"),
    "lat/3": ("timeout_read", "headers"),
    "hang": ("timeout_read", "headers"),
    "hangbody": ("timeout_read", "body"),
    "drip/0.05": ("deadline", "body"),
    "driphdr/0.05": ("timeout_read", "headers"),
    "1xx/0.05": ("timeout_read", "headers"),
    "1xx/0.005": ("protocol", "headers"),
    "1xx/0": ("protocol", "headers"),
    "infchunk": ("too_large", "body"),
    "hdrbomb": ("protocol", "headers"),
    "floodhdr": ("protocol", "headers"),
    "redir/5": ("ok", "body"),
    "redir/6": ("too_many_redirects", "headers"),
    "redir": ("too_many_redirects", "headers"),
    "slowredir/0.05": ("deadline", "headers"),
    "slowredir/1": ("timeout_read", "headers"),
    "redirbig/300": ("ok", "body"),
    "redirdrip/0.05": ("ok", "body"),
    "big/1": ("ok", "body"),
    "big/300": ("too_large", "body"),
    "short": ("protocol", "body"),
    "extra": ("ok", "body"),
    "twocl": ("protocol", "headers"),
    "hugecl": ("too_large", "body"),
    "hugecl/100": ("timeout_read", "body"),
    "hugecl/-5": ("protocol", "headers"),
    "hugecl/5x": ("protocol", "headers"),
    "rst": ("protocol", "headers"),
    "close": ("protocol", "headers"),
    "once": ("ok", "body"),
    "cookie": ("ok", "body"),
    "charset/utf-8": ("ok", "body"),
    "charset/punycode": ("ok", "body"),
    "charset/zip": ("ok", "body"),
    "charset/%00": ("protocol", "headers"),
    "retryafter/86400": ("http_5xx", "headers"),
    "retryafter/0/429": ("http_429", "headers"),
    "status/99": ("protocol", "headers"),
    "status/101": ("unexpected", "headers"),
    "status/204": ("ok", "body"),
    "status/304": ("unexpected", "headers"),
    "status/404": ("http_4xx", "headers"),
    "status/500": ("http_5xx", "headers"),
    "status/999": ("http_5xx", "headers"),
    "gzipok": ("ok", "body"),
    "deflateok": ("ok", "body"),
    "truncgzip": ("decode", "body"),
    "badgzip": ("decode", "body"),
    "bomb/gzip/40": ("too_large", "body"),
    "bomb/deflate/40": ("too_large", "body"),
    "bomb/gzip+gzip/40": ("decode", "body"),
    "bomb/zstd/40": ("decode", "body"),
    "bomb/br/40": ("decode", "body"),
}


@pytest.mark.parametrize("mode", ENDINGS)
async def test_ends_in_time_with_its_reason(mode: str, upstream: UpstreamProcess) -> None:
    """An operator reads the reason and knows what the upstream does; a job beside it must not notice."""
    most = {"redirects": 20} if mode == "slowredir/0.05" else {}
    hostile, healthy = job(upstream.url(mode), max_body="4MiB", **most), patient(upstream.url("lat/0"))
    async with fetching() as fetcher:
        if mode.startswith("bomb"):
            await ending(fetcher, hostile, deadline=10)  # the upstream packs it at the first request
        async with lag() as held_up:
            task = asyncio.create_task(ending(fetcher, hostile))
            beside = await ending(fetcher, healthy, PATIENCE)
            end = await task
    assert (end.why, end.phase) == ENDINGS[mode]
    assert end.took < DEADLINE + 0.5
    assert beside.why == "ok"
    assert held_up.worst < HELD_UP
    if end.error is not None:
        assert str(end.error)
        assert 0 < end.error.elapsed <= end.took
        assert "\n" not in str(end.error)


async def test_slow_redirects_count_together(upstream: UpstreamProcess) -> None:
    """Twenty hops of a second each are twenty seconds: time spent on redirects is the attempt's, not the last hop's."""
    async with fetching() as fetcher:
        end = await ending(fetcher, job(upstream.url("slowredir/0.1"), redirects=3))
    assert end.error is not None
    assert end.why == "too_many_redirects"
    assert end.error.elapsed > 0.4
    assert end.progress.timings["headers"] > 0.4


async def test_timings_are_those_of_the_last_attempt(upstream: UpstreamProcess) -> None:
    """A result's timings tell how the exchange went that brought it, not how long the Run was."""
    async with fetching() as fetcher:
        slow = await ending(fetcher, job(upstream.url("hang"), retries=1))
    assert slow.progress.attempts == 2
    assert SHORT * 0.9 < slow.progress.timings["headers"] < 2 * SHORT


async def test_many_hostile_ones_beside_a_healthy_one(upstream: UpstreamProcess) -> None:
    """One pool for all must not become one queue for all."""
    hostile = [job(upstream.url("hang"), timeout="1s") for _ in range(120)]
    async with fetching() as fetcher:
        tasks = [asyncio.create_task(ending(fetcher, one)) for one in hostile]
        for _ in range(5):
            assert (await ending(fetcher, patient(upstream.url("ok", host="localhost")), PATIENCE)).why == "ok"
        assert {(await task).why for task in tasks} == {"deadline"}


async def test_a_declared_length_is_judged_before_anything_is_read(upstream: UpstreamProcess) -> None:
    """What says itself that it is too large need not be fetched to find out."""
    async with fetching() as fetcher:
        end = await ending(fetcher, job(upstream.url("big/300"), max_body="1MiB"))
    assert end.progress.bytes == 0
    assert str(300 * MIB) in str(end.error)


async def test_a_failure_in_a_foreign_encoding_is_still_the_failure() -> None:
    """A 503 is worth another attempt, whatever its error page is packed in."""
    async with answering(response(b"junk", "Content-Encoding: br", status=503)) as server, fetching() as fetcher:
        end = await ending(fetcher, job(server.url))
    assert end.error is not None
    assert end.why == "http_5xx"
    assert end.error.transient


@pytest.mark.parametrize(
    "header",
    [
        "X-Junk: \xff\xfe",
        "Content-Type: ;;;=,\xe9; charset",
        "Content-Type:",
        "Set-Cookie: =;=;,\xff",
        "Location: \xff\xfe",
        "Link: <<<>>>;;;,",
        "Content-Encoding: ,, identity ,",
        "ETag: " + "x" * 8000,
        "Retry-After: never",
        "Content-Disposition: attachment; filename*=utf-99''%FF",
    ],
)
async def test_junk_in_headers_does_no_harm(header: str) -> None:
    """Most headers are nobody's business here: what is in them must not decide whether a fetch succeeds."""
    async with answering(response(b"hello", header)) as server, fetching() as fetcher:
        end = await ending(fetcher, job(server.url))
    assert end.content == b"hello"


@pytest.mark.parametrize(
    ("encoding", "packed"),
    [
        ("gzip", gzip.compress(b"hel", mtime=0) + gzip.compress(b"lo", mtime=0) + bytes(100)),
        ("x-gzip", gzip.compress(b"hello", mtime=0)),
        ("deflate", zlib.compress(b"hello")),
        ("deflate", zlib.compress(b"hello", wbits=-zlib.MAX_WBITS)),
        ("identity", b"hello"),
        ("GZIP", gzip.compress(b"hello", mtime=0)),
    ],
)
async def test_encodings_as_servers_use_them(encoding: str, packed: bytes) -> None:
    """In members, padded, with zlib's header or without it."""
    async with answering(response(packed, f"Content-Encoding: {encoding}")) as server, fetching() as fetcher:
        end = await ending(fetcher, job(server.url))
    assert (end.why, end.content, end.progress.bytes) == ("ok", b"hello", 5)


@pytest.mark.parametrize("packed", [gzip.compress(b"") * 250_000, gzip.compress(b"") + bytes(5 * MIB)])
async def test_work_without_output(packed: bytes) -> None:
    """Five megabytes that decode to nothing: the cap on what is decoded alone would let them hold the loop."""
    async with answering(response(packed, "Content-Encoding: gzip")) as server, fetching() as fetcher, lag() as held_up:
        whole = await ending(fetcher, job(server.url, timeout="5s"), deadline=5)
        capped = await ending(fetcher, job(server.url, max_body="1MiB", timeout="5s"), deadline=5)
    assert (whole.why, whole.content, capped.why) == ("ok", b"", "too_large")
    assert held_up.worst < HELD_UP
