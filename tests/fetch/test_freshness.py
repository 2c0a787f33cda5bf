"""How long a response is fresh by its own word, and that a job which respects that is held for so long."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from fetchd.body import MemoryBudget
from fetchd.errors import Reason
from fetchd.fetch.fetcher import Fetcher
from fetchd.fetch.freshness import fresh_for
from fetchd.fetch.retry import Pace
from fetchd.fetch.spool import Spool
from fetchd.run import Progress, Run
from fetchd.worker import Workers
from tests.fetch.room import answering, ending, fetching, job, response
from tests.fetch.timing import Timing

NOW = datetime(2026, 1, 1, tzinfo=UTC)
URL = "http://upstream.test/"


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, 0),
        ({"Cache-Control": "max-age=60"}, 60),
        ({"Cache-Control": "Public, MAX-AGE = 60"}, 60),
        ({"Cache-Control": 'max-age="60"'}, 60),
        ({"Cache-Control": "max-age=60, max-age=10"}, 10),
        ({"Cache-Control": "max-age=60", "Age": "45"}, 15),
        ({"Cache-Control": "max-age=60", "Age": "100"}, 0),
        ({"Cache-Control": "max-age=60", "Age": "old"}, 60),
        ({"Cache-Control": "max-age=60", "Age": "-5"}, 60),
        ({"Cache-Control": "s-maxage=60"}, 0),
        ({"Cache-Control": "s-maxage=600, max-age=60"}, 60),
        ({"Cache-Control": "no-store, max-age=60"}, 0),
        ({"Cache-Control": "max-age=60, no-cache"}, 0),
        ({"Cache-Control": 'no-cache="Set-Cookie", max-age=60'}, 0),
        ({"Cache-Control": "max-age=-60"}, 0),
        ({"Cache-Control": "max-age=soon"}, 0),
        ({"Cache-Control": "max-age="}, 0),
        ({"Cache-Control": "max-age"}, 0),
        ({"Cache-Control": ",=,;,"}, 0),
        ({"Cache-Control": "max-age=0", "Expires": "Thu, 01 Jan 2026 01:00:00 GMT"}, 0),
        ({"Expires": "Thu, 01 Jan 2026 01:00:00 GMT"}, 3600),
        ({"Expires": "Thu, 01 Jan 2026 01:00:00 GMT", "Date": "Thu, 01 Jan 2026 00:59:00 GMT"}, 60),
        ({"Expires": "Thu, 01 Jan 2026 01:00:00 GMT", "Cache-Control": "private"}, 3600),
        ({"Expires": "Thu, 01 Jan 2026 01:00:00 GMT", "Age": "600"}, 3000),
        ({"Expires": "Wed, 31 Dec 2025 23:00:00 GMT"}, 0),
        ({"Expires": "0"}, 0),
    ],
)
def test_fresh_for(headers: dict[str, str], seconds: float) -> None:
    """RFC 9111, 4.2 and 5.2, for a cache that serves nobody else."""
    assert fresh_for(httpx.Headers(headers), NOW) == seconds


def test_huge_ages_are_bounded() -> None:
    """Digits without end are a long time, not an error."""
    assert 0 < fresh_for(httpx.Headers({"Cache-Control": "max-age=" + "9" * 10_000}), NOW) < 1e10


class Held:
    """A Fetcher whose time the test moves, and whose server says what it is told to."""

    def __init__(self, *headers: dict[str, str], status: int = 200) -> None:
        self.timing = Timing()
        said = [httpx.Response(status, headers=one) for one in headers]
        self.fetcher = Fetcher(
            httpx.MockTransport(lambda _: said.pop(0)),
            Spool(Path(), 2**20, MemoryBudget(2**20)),
            Workers(),
            pace=Pace(self.timing.clock, lambda: 0.0, self.timing.sleep),
        )


def respecting(**keys: Any) -> Any:
    """Return a job that respects what responses say of themselves."""
    return job(URL, respect_cache_control=True, **keys)


async def test_a_job_is_held_while_its_response_is_fresh() -> None:
    """Its rhythm is stretched: the server has said that there is nothing new."""
    held, wanted = Held({"Cache-Control": "max-age=60"}, {}), respecting()
    assert held.fetcher.held(wanted) is None
    await ending(held.fetcher, wanted)
    assert held.fetcher.held(wanted) == (Reason.FRESH, 60.0)
    held.timing.clock.advance(59)
    assert held.fetcher.held(wanted) == (Reason.FRESH, 1.0)
    held.timing.clock.advance(1)
    assert held.fetcher.held(wanted) is None


async def test_a_step_of_the_clock_does_not_count() -> None:
    """A wrong date, put right, must not hold a job for a year."""
    held, wanted = Held({"Cache-Control": "max-age=60"}), respecting()
    await ending(held.fetcher, wanted)
    held.timing.clock.step(-86400 * 365)
    assert held.fetcher.held(wanted) == (Reason.FRESH, 60.0)


@pytest.mark.parametrize(
    "keys", [{"longest_fresh": "30s"}, {"respect_cache_control": False}, {"method": "POST", "body": "x"}]
)
async def test_what_the_job_says_about_it(keys: dict[str, Any]) -> None:
    """It is asked for, it has a bound, and what a POST brings is never fresh."""
    held, wanted = Held({"Cache-Control": "max-age=60"}), job(URL, **{"respect_cache_control": True, **keys})
    await ending(held.fetcher, wanted)
    assert held.fetcher.held(wanted) == ((Reason.FRESH, 30.0) if "longest_fresh" in keys else None)


async def test_a_job_that_has_changed_is_not_held() -> None:
    """After a reload it may ask for something else."""
    held, wanted = Held({"Cache-Control": "max-age=60"}), respecting()
    await ending(held.fetcher, wanted)
    assert held.fetcher.held(respecting()) is None


async def test_the_last_response_counts() -> None:
    """One that says nothing is not fresh, whatever the one before it said."""
    held, wanted = Held({"Cache-Control": "max-age=60"}, {}), respecting()
    await ending(held.fetcher, wanted)
    await held.fetcher.fetch(wanted, Run("run-2", "test", NOW), Progress())
    assert held.fetcher.held(wanted) is None


async def test_the_shortest_of_several_pages_counts() -> None:
    """What is new may be on any of them."""
    ages = [{"Cache-Control": f"max-age={age}"} for age in (60, 10, 600)]
    held, wanted = Held(*ages), respecting()
    for _ in range(3):
        await ending(held.fetcher, wanted)
    assert held.fetcher.held(wanted) == (Reason.FRESH, 10.0)


async def test_failures_are_not_fresh() -> None:
    """An error page that may be cached for a day is no reason to wait a day."""
    held, wanted = Held({"Cache-Control": "max-age=86400"}, status=404), respecting()
    assert (await ending(held.fetcher, wanted)).why == "http_4xx"
    assert held.fetcher.held(wanted) is None


async def test_fresh_on_the_wire() -> None:
    """A real response, and a real 304 to what was asked with its validators."""
    unchanged = response(status=304).replace(b"304 Said\r\n", b"304 Said\r\nCache-Control: max-age=500\r\n")
    async with answering(response(b"x", "Cache-Control: max-age=100"), unchanged) as server, fetching() as fetcher:
        wanted = respecting(headers={"If-None-Match": '"a"'}).model_copy(update={"url": job(server.url).url})
        assert (await ending(fetcher, wanted)).why == "ok"
        first = fetcher.held(wanted)
        await fetcher.fetch(wanted, Run("run-2", "test", NOW), Progress())
        second = fetcher.held(wanted)
    assert first is not None
    assert second is not None
    assert 0 < first[1] <= 100 < second[1] <= 500
