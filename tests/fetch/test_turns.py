"""The Run's turn at its host, with the real runner: what is waited for, what that costs, and whom it keeps waiting."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

from fetchd.clock import SystemClock
from fetchd.errors import Reason
from fetchd.fetch.fetcher import Fetcher
from fetchd.fetch.hosts import Hosts
from fetchd.fetch.turns import HostLimits, Turn
from fetchd.job import Job
from fetchd.outbox import Outbox
from fetchd.run import Fetched, Outcome, Progress, Report, Run
from fetchd.runner import Runner
from fetchd.store import Memory
from fetchd.store.memory import MemoryStore
from tests.fetch.room import HOST, PATIENCE, ending, fetching, job, response
from tests.fetch.test_retry_after import limiting
from tests.processes import until

SLOT = datetime(2026, 3, 1, tzinfo=UTC)
TAKES = 0.06
SHORTLY = 0.5


class Source:
    """What the runner asks, straight from a Fetcher."""

    def __init__(self, fetcher: Fetcher) -> None:
        self._fetcher = fetcher

    def held(self, job: Job) -> Reason | None:
        """Return why the job is held."""
        held = self._fetcher.held(job)
        return held[0] if held else None

    def turn(self, job: Job) -> Turn | None:
        """Return the job's turn."""
        return self._fetcher.turn(job)

    async def results(self, job: Job, run: Run, progress: Progress, memory: Memory) -> AsyncGenerator[Fetched, None]:
        """Yield what is fetched."""
        result = await self._fetcher.fetch(job, run, progress, memory.validators)
        if result is not None:
            yield result


@asynccontextmanager
async def slow(takes: float = TAKES) -> AsyncIterator[tuple[int, list[int]]]:
    """Serve on a port, each answer after so many seconds; /away leads to /. Besides, how many were asked at once."""
    at_once: list[int] = []
    open_now = 0

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal open_now
        with contextlib.closing(writer), contextlib.suppress(OSError, EOFError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                open_now += 1
                at_once.append(open_now)
                await asyncio.sleep(takes)
                open_now -= 1
                away = head.startswith(b"GET /away")
                writer.write(response(b"", "Location: /", status=302) if away else response(b"hello"))
                await writer.drain()

    server = await asyncio.start_server(talk, HOST, 0)
    with contextlib.closing(server):  # not waiting, as newer Pythons do, for connections that clients keep
        yield server.sockets[0].getsockname()[1], at_once


@asynccontextmanager
async def running(runs: int = 10, **limits: Any) -> AsyncIterator[tuple[Runner, Hosts, MemoryStore]]:
    """Give a runner for so many Runs at one time, for a host with these limits."""
    store, clock = MemoryStore(), SystemClock()
    hosts = Hosts({HOST: HostLimits(**limits)}, clock)
    async with fetching(hosts=hosts) as fetcher:
        yield Runner(Source(fetcher), Outbox(store, {}, clock), store, clock, max_concurrent=runs), hosts, store


def begin(runner: Runner, *jobs: Job) -> list[asyncio.Task[Report | None]]:
    """Begin a Run of each of ``jobs``."""
    return [asyncio.create_task(runner.run(one, SLOT)) for one in jobs]


def jobs_of(url: str, count: int, **keys: Any) -> list[Job]:
    """Return so many jobs of ``url``."""
    return [job(url, name=f"job{number}", **{"timeout": "5s", **keys}) for number in range(count)]


async def test_waiting_for_a_turn_is_not_part_of_the_deadline() -> None:
    """Ten Runs at a host that bears one: the last of them waits for twice its deadline, and succeeds."""
    async with slow() as (port, at_once), running(max_concurrent=1) as (runner, _, _store):
        jobs = jobs_of(
            f"http://{HOST}:{port}/", 10, deadline=f"{int(TAKES * 4500)}ms", timeout=f"{int(TAKES * 4000)}ms"
        )
        reports = await asyncio.gather(*begin(runner, *jobs))
    assert {report and report.outcome for report in reports} == {Outcome.SUCCEEDED}
    assert at_once == [1] * 10
    waits = [report.waited for report in reports if report]
    assert waits == sorted(waits)
    assert waits[0] < TAKES * 4.5 < waits[-1]
    assert sum(report.timings["pool"] for report in reports if report) < waits[-1]


async def test_who_waits_for_a_host_takes_nobody_s_place() -> None:
    """With two places for Runs and ten Runs at a host that bears one, another host's job begins at once."""
    async with slow() as (port, _), running(runs=2, max_concurrent=1) as (runner, _, _store):
        waiting = begin(runner, *jobs_of(f"http://{HOST}:{port}/", 10))
        await asyncio.sleep(0)
        (other,) = begin(runner, job(f"http://localhost:{port}/", name="other", timeout="5s"))
        report = await other
        assert report is not None
        assert report.outcome is Outcome.SUCCEEDED
        assert sum(task.done() for task in waiting) < 9
        await asyncio.gather(*waiting)


async def test_who_waits_out_a_time_takes_nobody_s_place() -> None:
    """Those that sleep until their host takes requests again leave the only place for Runs to another host's job."""
    async with limiting(SHORTLY) as (port, requests), running(runs=1) as (runner, hosts, _store):
        waiting = begin(runner, *jobs_of(f"http://{HOST}:{port}/", 5, deadline="20s", retries=2))
        await until(lambda: hosts.left(f"{HOST}:{port}") > 0)
        (other,) = begin(runner, job(f"http://localhost:{port}/", name="other", timeout="5s"))
        report = await other
        assert report is not None
        assert report.outcome is Outcome.SUCCEEDED
        assert not any(task.done() for task in waiting)
        reports = await asyncio.gather(*waiting)
    assert {report and report.outcome for report in reports} == {Outcome.SUCCEEDED}
    assert sum(status == 429 for _, _, status in requests) == 1


async def test_runs_do_not_wait_for_each_other_in_a_circle() -> None:
    """One place for Runs, one at the host, and a second hop: whoever has the turn is not the one who has the place."""
    async with slow(0.01) as (port, at_once), running(runs=1, max_concurrent=1) as (runner, _, _store):
        reports = await asyncio.gather(*begin(runner, *jobs_of(f"http://{HOST}:{port}/away", 5)))
    assert {report and report.outcome for report in reports} == {Outcome.SUCCEEDED}
    assert at_once == [1] * 10


async def test_a_slot_that_comes_while_its_run_waits_is_skipped() -> None:
    """It has not begun: the slot is starved. Cancelled, it leaves its turn to the others."""
    async with slow() as (port, _), running(max_concurrent=1) as (runner, _, store):
        first, second, third = jobs_of(f"http://{HOST}:{port}/", 3)
        tasks = begin(runner, first, second, third)
        await asyncio.sleep(0)
        assert await runner.run(second, SLOT) is None
        tasks[1].cancel()
        reports = await asyncio.gather(*tasks)
    assert [report and report.outcome for report in reports] == [
        Outcome.SUCCEEDED,
        Outcome.CANCELLED,
        Outcome.SUCCEEDED,
    ]
    assert store.skipped == {("job1", Reason.STARVED): 1}


async def test_slots_of_a_host_that_wants_no_request() -> None:
    """They are skipped, each job's; a Run that waited for its turn meanwhile sends nothing either."""
    async with slow() as (port, at_once), running(max_concurrent=1) as (runner, hosts, store):
        url = f"http://{HOST}:{port}/"
        first, second, third = jobs_of(url, 3, deadline="5s")
        tasks = begin(runner, first, second)
        await asyncio.sleep(TAKES / 2)
        hosts.hold(HOST, 60.0)
        reports = await asyncio.gather(*tasks)
        assert await runner.run(third, SLOT) is None
    assert reports[0] is not None
    assert reports[0].outcome is Outcome.SUCCEEDED
    assert reports[1] is None
    assert store.skipped == {("job1", Reason.RETRY_AFTER): 1, ("job2", Reason.RETRY_AFTER): 1}
    assert at_once == [1]


async def test_spacing_is_no_silence() -> None:
    """A further exchange of a Run, such as a page's, waits for its turn: that may take longer than timeout.pool."""
    spaced = Hosts({HOST: HostLimits(min_spacing=0.2)}, SystemClock())
    async with slow(0.0) as (port, _), fetching(hosts=spaced) as fetcher:
        page = job(f"http://{HOST}:{port}/", timeout={"pool": "50ms"}, retries=0)
        ends = [await ending(fetcher, page, PATIENCE) for _ in range(3)]
        crowd = await asyncio.gather(*(ending(fetcher, page, PATIENCE) for _ in range(3)))
    assert [end.why for end in (*ends, *crowd)] == ["ok"] * 6
