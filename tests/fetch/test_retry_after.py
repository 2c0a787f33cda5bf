"""A server that names a time gets no request before it, from any job; and no job waits longer than it may."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fetchd.body import Body, MemoryBudget
from fetchd.clock import SystemClock
from fetchd.errors import FetchError, Reason
from fetchd.fetch.auth import DigestAuth
from fetchd.fetch.dates import LONGEST, date_in, seconds_in
from fetchd.fetch.exchange import EXTENSION
from fetchd.fetch.fetcher import Fetcher
from fetchd.fetch.hosts import Hosts
from fetchd.fetch.retry import Pace, retry_after
from fetchd.fetch.spool import Spool
from fetchd.fetch.turns import HostLimits
from fetchd.job import Job, Timeouts
from fetchd.run import Progress, Run
from fetchd.worker import Workers
from tests.fetch.room import HOST, Ending, answering, ending, fetching, job, response
from tests.fetch.timing import Timing

NOW = datetime(2026, 1, 1, 12, 0, 0, tzinfo=UTC)
URL = "http://api.test/"
PATIENT: dict[str, Any] = {"deadline": "60s", "interval": "2m", "retries": 2}


def said(value: str | None, status: int = 429, **headers: str) -> httpx.Response:
    """Return a response that names a time."""
    named = {} if value is None else {"Retry-After": value}
    return httpx.Response(status, headers={**named, **headers})


@pytest.mark.parametrize(
    "text",
    [
        "Thu, 01 Jan 2026 12:00:30 GMT",
        "thu, 01 jan 2026 12:00:30 gmt",
        "Thursday, 01-Jan-26 12:00:30 GMT",
        "Thu, 01-Jan-2026 12:00:30 GMT",
        "Thu Jan  1 12:00:30 2026",
        " Thu, 1 Jan 2026 12:00:30 UTC ",
    ],
)
def test_dates(text: str) -> None:
    """The present form, the two obsolete ones, and what servers make of them."""
    assert date_in(text, NOW) == datetime(2026, 1, 1, 12, 0, 30, tzinfo=UTC)
    assert retry_after(said(text), NOW) == 30.0


@given(st.datetimes(timezones=st.just(UTC)))
def test_dates_are_read_as_they_are_written(date: datetime) -> None:
    """Whatever the day, whatever the locale."""
    date = date.replace(microsecond=0)
    assert date_in(date.strftime("%a, %d %b ") + f"{date.year:04}" + date.strftime(" %H:%M:%S GMT"), NOW) == date


@pytest.mark.parametrize(("year", "meant"), [("26", 2026), ("76", 2076), ("77", 1977), ("99", 1999), ("00", 2000)])
def test_years_of_two_digits(year: str, meant: int) -> None:
    """RFC 9110, 5.6.7: more than 50 years ahead is in the past."""
    date = date_in(f"Sunday, 06-Nov-{year} 08:49:37 GMT", NOW)
    assert date is not None
    assert date.year == meant


@pytest.mark.parametrize(
    "text",
    [
        *("", "soon", "-5", "+5", "0x10", "5 s", "٣", "1e3", "nan", "inf", "5, 10", "\x00", "Thu, 01 Jan 2026"),
        "Thu, 32 Jan 2026 12:00:30 GMT",
        "Thu, 01 Jan 2026 25:00:30 GMT",
        "Thu, 01 Jan 2026 12:00:61 GMT",
        "Thu, 01 Jan 2026 12:00:30 +0100",
        "Thu, 01 Foo 2026 12:00:30 GMT",
        "Thu, 01 Jan 0000 12:00:30 GMT",
        "Sunday, 30-Feb-26 12:00:30 GMT",
    ],
)
def test_nonsense_says_nothing(text: str) -> None:
    """Neither an error nor a wait."""
    assert seconds_in(text) is None
    assert date_in(text, NOW) is None
    assert retry_after(said(None, **({"Retry-After": text} if text.isascii() else {})), NOW) is None


@given(st.text(max_size=60))
def test_no_text_breaks_it(text: str) -> None:
    """What comes over the wire is anything."""
    seconds, date = seconds_in(text), date_in(text, NOW)
    assert seconds is None or 0 <= seconds <= LONGEST
    assert date is None or date.tzinfo is UTC


@pytest.mark.parametrize(
    ("response", "seconds"),
    [
        (said("5"), 5.0),
        (said("5", 503), 5.0),
        (said("5", 403), 5.0),
        (said(" 0 "), 0.0),
        (said("1.5"), 1.5),
        (said("000000000000000000005"), 5.0),
        (said("9" * 5000), LONGEST),
        (said("5", 500), None),
        (said("5", 404), None),
        (said("5", 301), None),
        (said("5", 200), None),
        (said(None), None),
        (said("Thu, 01 Jan 2026 11:00:00 GMT"), 0.0),
        (said("Fri, 31 Dec 9999 23:59:60 GMT"), None),
        (said("Fri, 31 Dec 9999 23:59:59 GMT"), LONGEST),
        (said("Wed, 31 Dec 2025 23:59:60 GMT", Date="Wed, 31 Dec 2025 23:59:50 GMT"), 10.0),
        (said("Thu, 01 Jan 2026 11:00:10 GMT", Date="Thu, 01 Jan 2026 11:00:00 GMT"), 10.0),
        (said("Fri, 01 Jan 2027 00:00:10 GMT", Date="Fri, 01 Jan 2027 00:00:00 GMT"), 10.0),
        (said("Thu, 01 Jan 2026 12:00:10 GMT", Date="yesterday"), 10.0),
    ],
)
def test_what_a_response_says(response: httpx.Response, seconds: float | None) -> None:
    """With few statuses; dates by the server's own clock, for ours may be another; what is past is over."""
    assert retry_after(response, NOW) == seconds


def test_of_several_times_the_longest_holds() -> None:
    """A proxy adds its own."""
    headers = [("Retry-After", "5"), ("Retry-After", "soon"), ("Retry-After", "Thu, 01 Jan 2026 12:00:30 GMT")]
    assert retry_after(httpx.Response(429, headers=headers), NOW) == 30.0


class Api:
    """A server in a time that the test moves, and a Fetcher on it. ``asked`` are hosts and when they were asked."""

    def __init__(self, *answers: httpx.Response, lot: float = 0.0) -> None:
        self.timing = Timing()
        self.asked: list[tuple[str, float]] = []
        self._answers = [*answers]
        self.hosts = Hosts({}, self.timing.clock, self.timing.later)
        self.fetcher = Fetcher(
            httpx.MockTransport(self._answer),
            Spool(Path(tempfile.gettempdir()), 2**20, MemoryBudget(2**20)),
            Workers(),
            self.hosts,
            pace=Pace(self.timing.clock, lambda: lot, self.timing.sleep),
        )

    def _answer(self, request: httpx.Request) -> httpx.Response:
        self.asked.append((request.url.host, self.timing.now))
        request.extensions[EXTENSION].sent = True
        return self._answers.pop(0) if self._answers else httpx.Response(200)

    @property
    def times(self) -> list[float]:
        """When it was asked."""
        return [when for _, when in self.asked]

    async def begin(self, wanted: Job, deadline: float | None = None) -> tuple[asyncio.Task[Ending], Progress]:
        """Begin a fetch, which has so many seconds by the clock of the test."""
        progress = Progress(deadline=None if deadline is None else self.timing.clock.monotonic() + deadline)
        task = asyncio.create_task(self._fetch(wanted, progress))
        await self.timing.settle()
        return task, progress

    async def _fetch(self, wanted: Job, progress: Progress) -> Ending:
        try:
            fetched = await self.fetcher.fetch(wanted, Run("run-1", wanted.name, NOW), progress)
        except FetchError as error:
            return Ending(str(error.reason), 0.0, progress, error)
        return Ending("ok", 0.0, progress, None, fetched)


@pytest.mark.parametrize(("status", "reason"), [(403, Reason.HTTP_4XX), (429, Reason.HTTP_429), (503, Reason.HTTP_5XX)])
async def test_a_run_waits_if_it_has_the_time(status: int, reason: Reason) -> None:
    """In the phase that says so, and for no longer than the server wants."""
    api = Api(said("5", status))
    task, progress = await api.begin(job(URL, **PATIENT))
    assert (progress.phase, progress.failed) == ("backoff", reason)
    await api.timing.advance(4.9)
    assert api.times == [0]
    await api.timing.advance(0.1)
    end = await task
    assert (end.why, end.progress.attempts, api.times) == ("ok", 2, [0, 5])


@pytest.mark.parametrize("wanted", [{"deadline": "5s"}, {"retries": 0}, {"method": "POST"}, {"retry": {"on": [500]}}])
async def test_a_run_that_does_not_wait_leaves_the_time_behind(wanted: dict[str, Any]) -> None:
    """It has no time, no attempts, or may not repeat itself: the slots of all jobs of the host are held instead."""
    api = Api(said("5"))
    mine, other = job(URL, **{**PATIENT, **wanted}), job(URL, name="other", **PATIENT)
    task, _ = await api.begin(mine)
    end = await task
    assert end.error is not None
    assert (end.why, end.error.status, end.error.retry_after, end.progress.attempts) == ("http_429", 429, 5.0, 1)
    assert api.fetcher.held(mine) == api.fetcher.held(other) == (Reason.RETRY_AFTER, 5.0)
    await api.timing.advance(5)
    assert api.fetcher.held(mine) is api.fetcher.held(other) is None


async def test_the_runner_s_deadline_counts() -> None:
    """It began earlier than the fetch: what was waited for a claim is gone."""
    api = Api(said("5"))
    task, _ = await api.begin(job(URL, **PATIENT), deadline=4.0)
    assert (await task).why == "http_429"


async def test_a_time_has_a_bound() -> None:
    """A server that wants to be left alone for a year is asked again after an hour, or what the job says."""
    for keys, bound in (({}, 3600.0), ({"retry": {"longest_retry_after": "10m"}}, 600.0)):
        api = Api(said("31536000"))
        task, _ = await api.begin(job(URL, **PATIENT, **keys))
        assert (await task).why == "http_429"
        assert api.fetcher.held(job(URL)) == (Reason.RETRY_AFTER, bound)


async def test_without_a_time_429_is_not_repeated() -> None:
    """Asking on is what the server complains about; unless the job knows better."""
    for keys, attempts in (({}, 1), ({"retry": {"on": [429]}}, 2)):
        api = Api(said("nonsense"))
        task, _ = await api.begin(job(URL, **PATIENT, **keys))
        await api.timing.advance(1)
        assert (await task).progress.attempts == attempts
        assert api.fetcher.held(job(URL)) is None


async def test_a_run_that_begins_too_early_waits() -> None:
    """Its slot came before anybody knew; it sends nothing until the time, and counts no attempt for that."""
    api = Api()
    api.hosts.hold("api.test", 5.0)
    task, progress = await api.begin(job(URL, **PATIENT))
    assert (progress.phase, progress.failed, progress.attempts) == ("backoff", Reason.HTTP_429, 0)
    await api.timing.advance(2)
    api.hosts.hold("api.test", 10.0)
    await api.timing.advance(9)
    assert api.times == []
    await api.timing.advance(1)
    end = await task
    assert (end.why, end.progress.attempts, end.progress.failed, api.times) == ("ok", 1, None, [12])


async def test_a_run_that_cannot_wait_sends_nothing() -> None:
    """And says until when the host wants to be left alone; no more of the address, which may hold secrets."""
    api = Api()
    api.hosts.hold("api.test", 90.0)
    task, _ = await api.begin(job("http://me:canary@api.test/canary?key=canary", **PATIENT))
    end = await task
    assert (end.why, end.phase, end.progress.attempts, api.asked) == ("http_429", "backoff", 0, [])
    assert str(end.error) == "api.test asked for no request before 2026-01-01T00:01:30+00:00"


async def test_a_run_in_its_backoff_looks_again() -> None:
    """While it waited for its own reasons, another job was told to stay away."""
    api = Api(httpx.Response(500), lot=1.0)
    task, _ = await api.begin(job(URL, **PATIENT))
    api.hosts.hold("api.test", 20.0)
    await api.timing.advance(19)
    assert api.times == [0]
    await api.timing.advance(10)
    assert (await task).why == "ok"
    assert len(api.asked) == 2
    assert api.times[1] >= 20


async def test_other_hosts_are_asked() -> None:
    """The time is one host's."""
    api = Api(said("50"))
    first, _ = await api.begin(job(URL, **{**PATIENT, "retries": 0}))
    other, _ = await api.begin(job("http://other.test/", **PATIENT))
    assert (await first).why == "http_429"
    assert (await other).why == "ok"
    assert api.fetcher.held(job("http://other.test/")) is None
    assert api.asked == [("api.test", 0), ("other.test", 0)]


async def test_the_host_that_answered_is_the_one_that_is_left_alone() -> None:
    """After a redirect it is not the one that the job names."""
    api = Api(httpx.Response(302, headers={"Location": "http://other.test/"}), said("50"))
    task, _ = await api.begin(job(URL, **{**PATIENT, "retries": 0}))
    assert (await task).why == "http_429"
    assert api.fetcher.held(job(URL)) is None
    assert api.fetcher.held(job("http://other.test/")) == (Reason.RETRY_AFTER, 50.0)


async def test_webhooks_are_told_too() -> None:
    """What a sink's host wants holds for its jobs as well."""
    api = Api(said("50", 503))
    status = await api.fetcher.send("POST", URL, {}, Body.of(b"x"), Timeouts())
    assert (status, api.fetcher.held(job(URL))) == (503, (Reason.RETRY_AFTER, 50.0))


async def test_jobs_in_code_are_not_held() -> None:
    """Nobody knows whom they are going to ask."""
    api = Api()
    coded = Job.model_validate({"name": "coded", "collect": "tests.user_functions:nothing"})
    assert (api.fetcher.held(coded), api.fetcher.turn(coded)) == (None, None)


async def test_those_who_wait_do_not_come_back_as_one() -> None:
    """Each draws lots for the moment after the time."""
    lots = [number / 50 for number in range(1000)]
    api = Api()
    api.fetcher = Fetcher(
        httpx.MockTransport(api._answer),
        Spool(Path(tempfile.gettempdir()), 2**20, MemoryBudget(2**20)),
        Workers(),
        api.hosts,
        pace=Pace(api.timing.clock, lambda: lots.pop(0) % 1, api.timing.sleep),
    )
    api.hosts.hold("api.test", 20.0)
    begun = [await api.begin(job(URL, name=f"job{number}", **PATIENT)) for number in range(50)]
    await api.timing.advance(40)
    assert {(await task).why for task, _ in begun} == {"ok"}
    assert len(set(api.times)) == 50
    assert min(api.times) >= 20


async def test_those_with_little_time_come_back_within_it() -> None:
    """The lot must not carry anybody past the deadline."""
    api = Api(lot=1.0)
    api.hosts.hold("api.test", 20.0)
    task, _ = await api.begin(job(URL, **PATIENT), deadline=21.0)
    await api.timing.advance(21)
    assert (await task).why == "ok"
    assert api.times == [20.5]


@pytest.mark.parametrize("name", ["", "http://", "http://[::1"])
async def test_what_is_no_address_is_not_held(name: str) -> None:
    """Its own failure says more."""
    api = Api()
    wanted = job(URL).model_copy(update={"url": job(URL).url.__class__(name)})  # type: ignore[union-attr]
    assert (api.fetcher.held(wanted), api.fetcher.turn(wanted)) == (None, None)


@asynccontextmanager
async def limiting(names: float) -> AsyncIterator[tuple[int, list[tuple[str, float, int]]]]:
    """Serve on a port: 429 with a time to those who name the address, from the first answer on up to that time.

    What is given besides are the requests: the host that they name, when they came, the status that they got.
    """
    requests: list[tuple[str, float, int]] = []
    opens = 0.0

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal opens
        with contextlib.closing(writer), contextlib.suppress(OSError, EOFError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
                host = head.partition("\r\nhost: ")[2].partition(":")[0]
                now = asyncio.get_running_loop().time()
                opens = opens or (now + names if host == HOST else 0.0)
                status = 429 if host == HOST and now < opens else 200
                requests.append((host, now, status))
                more = [f"Retry-After: {names}"] if status == 429 else []
                writer.write(response(b"", *more, status=status))
                await writer.drain()

    server = await asyncio.start_server(talk, HOST, 0)
    with contextlib.closing(server):  # not waiting, as newer Pythons do, for connections that clients keep
        yield server.sockets[0].getsockname()[1], requests


@pytest.mark.parametrize("limits", [HostLimits(), HostLimits(max_concurrent=2), HostLimits(min_spacing=0.004)])
async def test_fifty_jobs_of_one_host(limits: HostLimits) -> None:
    """None of them asks before the time that one of them was told, whether it waits or begins meanwhile.

    Another host's job goes on all the while.
    """
    names = 0.5
    hosts = Hosts({HOST: limits}, SystemClock())
    async with limiting(names) as (port, requests), fetching(hosts=hosts) as fetcher:
        keys = {"deadline": "20s", "interval": "1m", "timeout": "10s", "retries": 2}
        jobs = [job(f"http://{HOST}:{port}/", name=f"job{number}", **keys) for number in range(50)]
        runs = [asyncio.create_task(ending(fetcher, one, 20)) for one in jobs]
        meanwhile = []
        while not all(run.done() for run in runs):
            other = await ending(fetcher, job(f"http://localhost:{port}/", timeout="5s"), 5)
            meanwhile.append((fetcher.held(jobs[0]) is not None, other.why))
        ends = [await run for run in runs]
    assert {end.why for end in ends} == {"ok"}
    assert {why for _, why in meanwhile} == {"ok"}
    assert (True, "ok") in meanwhile
    told = [when for _, when, status in requests if status == 429]
    later = [when for host, when, status in requests if host == HOST and status == 200]
    assert len(told) + len(later) == sum(end.progress.attempts for end in ends)
    assert len(later) == 50
    assert min(later) >= max(told) + names
    if limits.max_concurrent:
        assert len(told) <= limits.max_concurrent


async def test_a_turn_on_the_wire() -> None:
    """What a Run has waited for is what its exchange begins with, and the place is free again after it."""
    hosts = Hosts({HOST: HostLimits(max_concurrent=1)}, SystemClock())
    async with answering(response(b"hello")) as server, fetching(hosts=hosts) as fetcher:
        wanted = [job(server.url, name=name, timeout="5s") for name in ("first", "second")]
        first, second = (fetcher.turn(one) for one in wanted)
        assert first is not None
        assert second is not None
        await first.taken()
        waiting = asyncio.create_task(second.taken())
        progress = Progress()
        fetched = await fetcher.fetch(wanted[0], Run("run-1", "first", NOW), progress)
        assert fetched is not None
        await waiting
        first.release()
        assert (await fetcher.fetch(wanted[1], Run("run-2", "second", NOW), progress)) is not None
        second.release()
        assert (await ending(fetcher, wanted[0], 5)).why == "ok"


@pytest.mark.parametrize(("seconds", "why", "attempts"), [(60.0, "http_429", 1), (0.2, "ok", 2)])
async def test_a_redirect_to_a_host_that_wants_no_request(seconds: float, why: str, attempts: int) -> None:
    """Its second half is not sent; the whole is tried again once the time is over, if there is time for that."""
    hosts = Hosts({}, SystemClock())
    async with answering(response(b"hello")) as goal:
        hosts.hold(hosts.name(httpx.URL(goal.url)), seconds)
        away = response(b"", f"Location: {goal.url}/", status=302)
        async with answering(away) as server, fetching(hosts=hosts) as fetcher:
            url = server.url.replace(HOST, "localhost")
            end = await ending(fetcher, job(url, retries=1, timeout="5s", deadline="10s"), 10)
    assert (end.why, end.progress.attempts) == (why, attempts)
    assert (len(server.heads), len(goal.heads)) == (attempts, attempts - 1)


async def test_a_place_is_free_before_the_next_hop_needs_it() -> None:
    """A redirect within a host that takes one exchange at a time, and a digest's second question, wait for nobody."""
    hosts = Hosts({HOST: HostLimits(max_concurrent=1)}, SystemClock())
    away = response(b"", "Location: /there", status=302)
    async with answering(away, response(b"hello")) as server, fetching(hosts=hosts) as fetcher:
        end = await ending(fetcher, job(server.url, timeout="5s"), 5)
    assert (end.why, end.content) == ("ok", b"hello")
    challenge = response(b"who?", 'WWW-Authenticate: Digest realm="r", nonce="n", qop="auth"', status=401)
    digest = DigestAuth.model_validate({"kind": "digest", "username": "u", "password": "p"})
    async with answering(challenge, response(b"hello")) as server, fetching(hosts=hosts) as fetcher:
        end = await ending(fetcher, job(server.url, timeout="5s", auth=digest), 5)
    assert (end.why, end.content, len(server.heads)) == ("ok", b"hello", 2)


async def test_every_exchange_is_held_whoever_makes_it() -> None:
    """Deliveries and the clients of the user's own code, which sees an exception that httpx documents."""
    hosts = Hosts({}, SystemClock())
    async with answering(response(b"hello")) as server, fetching(hosts=hosts) as fetcher:
        hosts.hold(hosts.name(httpx.URL(server.url)), 60.0)
        with pytest.raises(FetchError, match="asked for no request before") as caught:
            await fetcher.send("POST", server.url, {}, Body.of(b"x"), Timeouts())
        assert (caught.value.reason, server.heads) == (Reason.HTTP_429, [])
        assert isinstance(caught.value, httpx.PoolTimeout)
        until = datetime.now(UTC) + timedelta(seconds=60)
        assert str(until.year) in str(caught.value)
