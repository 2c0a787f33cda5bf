"""Places at a host, connections and tasks: given back after every ending, at whatever moment it comes."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from fetchd.fetch.fetcher import Fetcher
from fetchd.fetch.resolver import Names
from fetchd.job import Job
from tests.fetch.room import PATIENCE, SHORT, ending, fetching, job, patient, settled
from tests.fetch.test_modes import ENDINGS
from tests.processes import descriptors
from tests.upstream import HOST, UpstreamProcess

PLACES = 2
STEPS = 41


@asynccontextmanager
async def crowded(upstream: UpstreamProcess, **options: Any) -> AsyncIterator[Fetcher]:
    """Give a Fetcher with few places at the upstream's names; afterwards everything must be back as it was."""
    tasks, files = asyncio.all_tasks(), descriptors()
    places = {HOST: PLACES, "localhost": PLACES}
    async with fetching(max_concurrent=places, ca_file=upstream.ca_file, **options) as fetcher:
        yield fetcher
    await settled(tasks, files)


async def assert_healthy(fetcher: Fetcher, url: str) -> None:
    """Fetch as often at once as there are places, and once more: a lost place would show."""
    ends = await asyncio.gather(*(ending(fetcher, patient(url), PATIENCE) for _ in range(PLACES + 1)))
    assert [end.why for end in ends] == ["ok"] * (PLACES + 1), [end.error for end in ends]


async def test_a_host_has_few_places(upstream: UpstreamProcess) -> None:
    """The limit is the upstream's protection: it must hold, and waiting for it must not be for ever."""
    async with crowded(upstream) as fetcher:
        slow = job(upstream.url("lat/0.1"), timeout="2s")
        ends = await asyncio.gather(*(ending(fetcher, slow, deadline=3) for _ in range(6)))
        assert {end.why for end in ends} == {"ok"}
        assert (await asyncio.to_thread(upstream.stats))["peak"]["lat"] <= PLACES
        hung = job(upstream.url("hang"), timeout={"read": "2s", "pool": "100ms"})
        ends = await asyncio.gather(*(ending(fetcher, hung, deadline=0.3) for _ in range(PLACES + 3)))
        assert sorted(end.why for end in ends) == ["deadline"] * PLACES + ["timeout_pool"] * 3
        waited = [end for end in ends if end.why == "timeout_pool"]
        assert all((end.phase, str(end.error)) == ("pool", waited[0].error and str(waited[0].error)) for end in waited)
        assert "no place among the host's exchanges within 0.1 s" in str(waited[0].error)
        await assert_healthy(fetcher, upstream.url("ok"))


async def test_other_hosts_have_places_of_their_own(upstream: UpstreamProcess) -> None:
    """One host whose places are all taken is no reason to wait at another."""
    async with crowded(upstream) as fetcher:
        hung = [asyncio.create_task(ending(fetcher, job(upstream.url("hang")))) for _ in range(PLACES)]
        await asyncio.sleep(0)
        end = await ending(fetcher, patient(upstream.url("ok", host="localhost")), PATIENCE)
        assert end.why == "ok"
        await asyncio.gather(*hung)


@pytest.mark.parametrize("written", ["bücher.good.test", "xn--bcher-kva.good.test"])
@pytest.mark.parametrize("asked", ["bücher.good.test", "BÜCHER.good.test", "xn--bcher-kva.good.test"])
async def test_international_names_have_places_too(written: str, asked: str, upstream: UpstreamProcess) -> None:
    """However the host is written, in the configuration and in the job's URL."""
    names = Names(nameservers=(f"{HOST}:{upstream.ports['dns']}",))
    hung = job(upstream.url("hang", host=asked), timeout={"read": "150ms", "pool": "50ms"})
    async with fetching(max_concurrent={written: 1}, names=names) as fetcher:
        ends = await asyncio.gather(*(ending(fetcher, hung) for _ in range(2)))
    assert {end.why for end in ends} == {"timeout_read", "timeout_pool"}


@pytest.mark.parametrize(
    "mode", ["ok", "status/500", "redir/3", "big/300", "hang", "hangbody", "close", "truncgzip", "redir", "bomb/br/1"]
)
async def test_a_place_is_given_back(mode: str, upstream: UpstreamProcess) -> None:
    """After each ending, the good as well as the bad."""
    async with crowded(upstream) as fetcher:
        for _ in range(PLACES + 1):
            await ending(fetcher, job(upstream.url(mode), timeout="50ms", max_body="1MiB"))
        await assert_healthy(fetcher, upstream.url("ok"))


async def after_steps(steps: int, fetcher: Fetcher, wanted: Job) -> str:
    """Fetch, cancel that after so many turns of the loop, and return how it has ended."""
    task = asyncio.create_task(ending(fetcher, wanted, deadline=5))
    for _ in range(steps):
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    return "cancelled" if task.cancelled() else task.result().why


@pytest.mark.parametrize("warm", [False, True], ids=["cold", "warm"])
@pytest.mark.parametrize("secure", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize("mode", ["ok", "redir/2"])
async def test_cancelled_at_every_step(mode: str, secure: bool, warm: bool, upstream: UpstreamProcess) -> None:
    """The classic pool loses a place when it is cancelled in the one turn between connecting and sending."""
    address = upstream.tls_url if secure else upstream.url
    seen = set()
    async with crowded(upstream) as fetcher:
        wanted, probe = patient(address(mode, host="localhost")), address("ok", host="localhost")
        for steps in range(STEPS):
            if warm:
                await ending(fetcher, patient(probe), PATIENCE)
            seen.add(await after_steps(steps, fetcher, wanted))
        await assert_healthy(fetcher, probe)
    assert "cancelled" in seen


@pytest.mark.parametrize("steps", range(0, 60, 3))
async def test_cancelled_uploads(steps: int, upstream: UpstreamProcess) -> None:
    """A body is sent by a task of its own, which must end with the exchange."""
    sent = job(upstream.url("echo"), method="POST", body="x" * 3_000_000)
    async with crowded(upstream) as fetcher:
        await after_steps(steps, fetcher, sent)
        await assert_healthy(fetcher, upstream.url("ok"))


async def test_random_deadlines(upstream: UpstreamProcess) -> None:
    """Two seconds of chaos: every mode, cut off after any time; then everything is as it was."""
    dice = random.Random(4711)
    modes = [mode for mode in ENDINGS if not mode.startswith("redirbig")]
    end_of_chaos = asyncio.get_running_loop().time() + 2

    async def suffer(fetcher: Fetcher, count: list[int]) -> None:
        while asyncio.get_running_loop().time() < end_of_chaos:
            mode = dice.choice(modes)
            address = upstream.tls_url(mode) if dice.random() < 0.3 else upstream.url(mode)
            asked = {"longest_retry_after": "10ms"}  # one of the modes names a day, for the whole host
            wanted = job(address, timeout="30ms", max_body="1MiB", retries=dice.choice([0, 1]), retry=asked)
            await ending(fetcher, wanted, deadline=dice.uniform(0.001, 0.05))
            count.append(1)

    async with crowded(upstream) as fetcher:
        done: list[int] = []
        await asyncio.gather(*(suffer(fetcher, done) for _ in range(12)))
        assert len(done) > 200
        for url in (upstream.url("ok"), upstream.tls_url("ok"), upstream.url("redir/2")):
            await assert_healthy(fetcher, url)


async def test_idle_connections_are_few(upstream: UpstreamProcess) -> None:
    """Connections are kept for the next exchange, and closed with the client; none is opened without need."""
    before = (await asyncio.to_thread(upstream.stats))["accepted"]
    async with crowded(upstream) as fetcher:
        for _ in range(20):
            assert (await ending(fetcher, job(upstream.url("ok")))).why == "ok"
        accepted = (await asyncio.to_thread(upstream.stats))["accepted"]
    assert accepted - before <= 2  # one of ours; the other asks for the counts


async def test_waiting_in_turn(upstream: UpstreamProcess) -> None:
    """Those who wait for a place and are cut off do not hold up those behind them."""
    async with crowded(upstream) as fetcher:
        holders = [asyncio.create_task(ending(fetcher, job(upstream.url("lat/0.1")))) for _ in range(PLACES)]
        await asyncio.sleep(0)
        queue = [asyncio.create_task(ending(fetcher, job(upstream.url("ok"), timeout="2s"))) for _ in range(6)]
        await asyncio.sleep(SHORT / 10)
        for task in queue[::2]:
            task.cancel()
        assert {(await task).why for task in queue[1::2]} == {"ok"}
        await asyncio.gather(*holders)
