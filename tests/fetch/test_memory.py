"""Memory stays flat: whatever an upstream sends, at its peak and afterwards."""

from __future__ import annotations

import gc
from pathlib import Path

import pytest

from tests.fetch.child import run
from tests.fetch.room import MIB, ending, fetching, job, without_collector
from tests.upstream import UpstreamProcess

CAP = 8 * MIB
SLACK = 16 * MIB
HUGE = ["bomb/gzip/300", "bomb/deflate/300", "bomb/gzip+gzip/300", "bomb/zstd/300", "infchunk", "big/300"]
ENDS = ["too_large", "too_large", "decode", "decode", "too_large", "too_large"]


@pytest.fixture(scope="module")
def huge(upstream: UpstreamProcess) -> list[str]:
    """The URLs of what does not fit, each asked for once: the upstream packs a bomb at the first request."""
    urls = [upstream.url(mode) for mode in HUGE]
    run([{"url": url, "timeout": "20s", "max_body": "1KiB"} for url in urls])
    return urls


def test_peak_of_a_fetch(huge: list[str], upstream: UpstreamProcess) -> None:
    """A bomb must not take more than the cap allows, not even for a moment, and not in a tight container."""
    jobs = [{"url": url, "timeout": "5s", "max_body": "8MiB"} for url in (*huge, upstream.url("redirbig/300"))]
    ends = run(jobs, address_space=CAP + 64 * MIB, warm=[upstream.url("big/3")])
    assert [end["why"] for end in ends] == [*ENDS, "ok"]
    assert max(end["peak"] for end in ends) < CAP + SLACK, ends


def test_peak_of_a_get(huge: list[str]) -> None:
    """A user's own ``client.get`` buffers what it gets; the guard below it must bound that as well."""
    collect = "tests.fetch.child:get_all"
    jobs = [{"collect": collect, "timeout": "5s", "max_body": "8MiB", "gets": [url]} for url in huge]
    # An allocator's arena for one more thread would take as much address space as everything here may.
    ends = run(jobs, {"MALLOC_ARENA_MAX": "1"}, address_space=CAP + 64 * MIB)
    assert [end["why"] for end in ends] == ENDS
    assert max(end["peak"] for end in ends) < CAP + SLACK, ends


def test_gets_leave_nothing_behind(upstream: UpstreamProcess) -> None:
    """httpx keeps a response in a cycle with its stream: without care each body waits for the garbage collector."""
    gets = [upstream.url("big/5")] * 20
    [warm, cold] = run([{"collect": "tests.fetch.child:get_all", "gets": gets}] * 2, collector=False)
    assert (warm["why"], cold["why"]) == ("nothing", "nothing")
    assert cold["kept"] < 5 * MIB


def test_results_above_the_threshold_are_spooled(upstream: UpstreamProcess) -> None:
    """Large results shall cost disk, not memory."""
    [end] = run([{"url": upstream.url("big/30"), "max_body": "50MiB"}], warm=[upstream.url("big/3")])
    assert end["why"] == "ok"
    assert end["size"] == 30 * MIB
    # Reading it back in the test's own process is what takes memory; that comes after the fetch.
    assert end["content"].startswith("x")


@pytest.mark.parametrize(
    ("mode", "at_most"),
    [
        ("ok", 0),
        ("redir/3", 0),
        ("gzipok", 0),
        ("status/404", 0),
        ("echo", 0),
        # What remains is asyncio's own: a closed socket's transport and its bound methods, seven objects.
        ("hangbody", 10),
        ("1xx/0", 10),
        ("close", 20),  # on two connections: the connection layer tries what may be repeated once more
        ("badgzip", 10),
        ("infchunk", 10),
        ("short", 10),
    ],
)
async def test_garbage(mode: str, at_most: int, upstream: UpstreamProcess, tmp_path: Path) -> None:
    """Cycles keep bodies alive until the collector comes, and make it come often."""
    hostile = job(upstream.url(mode), max_body="1MiB", timeout="50ms")
    async with fetching(tmp_path) as fetcher:
        for _ in range(3):
            await ending(fetcher, hostile)
        with without_collector():
            for _ in range(10):
                await ending(fetcher, hostile)
            assert gc.collect() <= 10 * at_most
