"""Tokens of a token server: asked for once, renewed in time, never hammered for, and never told."""

from __future__ import annotations

import asyncio
import logging
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from aiohttp import web

from fetchd.body import MemoryBudget
from fetchd.clock import FakeClock
from fetchd.fetch.auth import OAuth2Auth
from fetchd.fetch.auth.vault import PREFIX, Vault
from fetchd.fetch.fetcher import Fetcher
from fetchd.fetch.retry import Pace
from fetchd.fetch.spool import Spool
from fetchd.job import Job
from fetchd.run import Progress
from fetchd.secret import MASK, Redactor, Secret
from fetchd.worker import Workers
from tests.fetch.room import HOST, MIB, PATIENCE, RUN, Ending, connections, ending, job
from tests.fetch.test_secrets import told
from tests.fetch.token_server import CLIENT, FIRST_REFRESH, SECRET, USER, TokenServer, token_server
from tests.processes import until
from tests.upstream import UpstreamProcess

SAID = "Thu, 01 Jan 2026 10:00:00 GMT"
"""The date of a server whose clock is ten hours ahead."""


@dataclass
class Room:
    """A fetcher whose time stands still, and the secrets that it has told."""

    fetcher: Fetcher
    clock: FakeClock
    told: list[str] = field(default_factory=list)

    async def ending(self, wanted: Job) -> Ending:
        """Fetch, with patience."""
        return await ending(self.fetcher, wanted, PATIENCE)


@asynccontextmanager
async def room(notes: dict[str, str] | None = None) -> AsyncIterator[Room]:
    """Give a fetcher over real connections; ``notes`` is what it keeps over restarts."""

    def keep(name: str, secret: str | None) -> None:
        assert notes is not None
        notes.pop(name, None)
        if secret is not None:
            notes[name] = secret

    clock, secrets = FakeClock(datetime(2026, 1, 1, tzinfo=UTC)), []
    spool = Spool(Path(tempfile.gettempdir()), MIB, MemoryBudget(64 * MIB))
    pace = Pace(clock, jitter=lambda: 0.0)
    async with connections() as transport:
        vault = Vault(secrets.append, notes, None if notes is None else keep)
        yield Room(Fetcher(transport, spool, Workers(), pace=pace, vault=vault), clock, secrets)


def wanted(server: TokenServer, url: str = "", name: str = "test", more: Any = None, **keys: Any) -> Job:
    """Return a job that is authorised by ``server``; ``keys`` are those of its auth, ``more`` its own."""
    given = {"client_secret": Secret(SECRET)} | keys
    auth = OAuth2Auth(kind="oauth2", token_url=Secret(server.token_url), client_id=Secret(CLIENT), **given)
    return job(url or f"{server.url}/api", name=name, auth=auth, timeout="5s", **(more or {}))


def quick(server: TokenServer, **keys: Any) -> Job:
    """Return a job that waits for its token for a moment only."""
    return wanted(server, deadline="100ms", **keys)


async def hang(request: web.Request) -> web.StreamResponse:
    """Take the question and say nothing."""
    await asyncio.Event().wait()
    raise AssertionError


async def drip(request: web.Request) -> web.StreamResponse:
    """Say something again and again, and never come to an end."""
    response = web.StreamResponse()
    await response.prepare(request)
    while True:
        await response.write(b" ")
        await asyncio.sleep(0.01)


def saying(status: int, text: str, **headers: str) -> Any:
    """Return a conduct that always answers the same."""

    async def conduct(request: web.Request) -> web.StreamResponse:
        return web.Response(status=status, text=text, headers=headers)

    return conduct


@pytest.mark.parametrize("place", ["basic", "body"])
@pytest.mark.parametrize(
    ("keys", "sent"),
    [
        ({}, {"grant_type": "client_credentials"}),
        ({"scope": "read write"}, {"grant_type": "client_credentials", "scope": "read write"}),
        (
            {"audience": "https://api.test/", "params": {"resource": Secret("a b&c")}},
            {"grant_type": "client_credentials", "audience": "https://api.test/", "resource": "a b&c"},
        ),
        (
            {"grant": "password", "username": Secret(USER[0]), "password": Secret(USER[1])},
            {"grant_type": "password", "username": USER[0], "password": USER[1]},
        ),
        (
            {"grant": "refresh_token", "refresh_token": Secret(FIRST_REFRESH)},
            {"grant_type": "refresh_token", "refresh_token": FIRST_REFRESH},
        ),
    ],
)
async def test_each_grant_brings_a_token(place: str, keys: dict[str, Any], sent: dict[str, str]) -> None:
    """A server of another make takes the question, whichever way the client proves itself, and the API the token."""
    proof = {"client_id": CLIENT, "client_secret": SECRET} if place == "body" else {}
    async with token_server() as server, room() as here:
        end = await here.ending(wanted(server, client_auth=place, **keys))
        assert end.why == "ok", end.error
        assert server.asked == [sent | proof]
        assert server.shown == [f"Bearer {server.rules.tokens[0]}"]


async def test_one_question_for_all_jobs() -> None:
    """Fifty jobs that start together wait for one token, and so do those that come later."""
    async with token_server() as server, room() as here:
        jobs = [wanted(server, name=f"job-{number}") for number in range(50)]
        ends = await asyncio.gather(*map(here.ending, jobs))
        ends.append(await here.ending(wanted(server, name="late")))
    assert {end.why for end in ends} == {"ok"}
    assert len(server.asked) == 1
    assert len(set(server.shown)) == 1


async def test_other_credentials_are_another_token() -> None:
    """A job must never act with the rights of another one, nor with a secret that has been changed."""
    async with token_server() as server, room() as here:
        for name, keys in {
            "a": {"scope": "read"},
            "b": {"scope": "write"},
            "c": {"scope": "read"},
            "d": {"scope": "read", "client_auth": "body"},
        }.items():
            assert (await here.ending(wanted(server, name=name, **keys))).why == "ok"
        assert len(server.asked) == 3
        changed = await here.ending(wanted(server, name="a", client_secret=Secret("changed"), scope="read"))
        assert (changed.why, len(server.asked)) == ("auth", 4)
        assert (await here.ending(wanted(server, name="c", scope="read"))).why == "ok"
        assert len(server.asked) == 4


async def test_who_leaves_takes_nobody_along() -> None:
    """A Run that is cut off while it waits must not cost the others their token; the last one ends the question."""
    gate = asyncio.Event()
    async with token_server() as server, room() as here:

        async def later(request: web.Request) -> web.StreamResponse:
            await gate.wait()
            return web.json_response({"access_token": "granted", "token_type": "bearer"})

        server.conduct = later
        server.rules.tokens.append("granted")
        before = asyncio.all_tasks()
        runs = [asyncio.create_task(here.ending(wanted(server, name=f"job-{number}"))) for number in range(3)]
        await server.came.wait()
        runs[0].cancel()
        await asyncio.wait(runs[:1])
        gate.set()
        assert [(await run).why for run in runs[1:]] == ["ok", "ok"]
        assert len(server.asked) == 1

        gate.clear()
        server.came.clear()
        alone = asyncio.create_task(here.ending(wanted(server, name="alone", scope="other")))
        await server.came.wait()
        alone.cancel()
        await asyncio.wait([alone])
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert not [task for task in asyncio.all_tasks() - before if "_renew" in repr(task)]


@pytest.mark.parametrize(("lifetime", "early", "good_for"), [(3600, "60s", 3540), (100, "60s", 50), (100, "10s", 90)])
async def test_it_is_renewed_before_it_expires(lifetime: int, early: str, good_for: float) -> None:
    """Clocks differ and requests take time: a token that expires on its way is a failure that nobody needs."""
    async with token_server(lifetime=lifetime) as server, room() as here:
        own = wanted(server, early=early)
        await here.ending(own)
        here.clock.advance(good_for - 1)
        await here.ending(own)
        assert len(server.asked) == 1
        here.clock.advance(2)
        assert (await here.ending(own)).why == "ok"
        assert len(server.asked) == 2
        assert server.shown[-1] == f"Bearer {server.rules.tokens[1]}"


async def test_an_old_token_outlives_an_outage() -> None:
    """A token server that is down while a token is still good is no reason to fail."""
    async with token_server(lifetime=100) as server, room() as here:
        own = wanted(server)
        await here.ending(own)
        server.conduct = saying(503, "")
        here.clock.advance(60)
        assert (await here.ending(own)).why == "ok"
        here.clock.advance(60)
        assert (await here.ending(own)).why == "auth"
        server.conduct = None
        here.clock.advance(60)
        assert (await here.ending(own)).why == "ok"


async def test_a_token_without_an_end_is_kept() -> None:
    """Not all servers say how long a token is good; then the API does, by refusing it."""
    async with token_server() as server, room() as here:
        server.conduct = saying(200, '{"access_token": "for-ever", "token_type": "Bearer"}')
        server.rules.tokens.append("for-ever")
        for _ in range(2):
            assert (await here.ending(wanted(server))).why == "ok"
            here.clock.advance(1e6)
        assert len(server.asked) == 1


async def test_a_rotated_refresh_token_is_used() -> None:
    """The old one is good once: whoever sends it again is locked out."""
    async with token_server(lifetime=100) as server, room() as here:
        own = wanted(server, grant="refresh_token", refresh_token=Secret(FIRST_REFRESH))
        for _ in range(3):
            assert (await here.ending(own)).why == "ok"
            here.clock.advance(200)
        sent = [asked["refresh_token"] for asked in server.asked]
        assert sent == server.rules.refresh_tokens[:3]
        assert set(here.told) == {*server.rules.tokens, *server.rules.refresh_tokens[1:]}

        server.rules.refresh_tokens.append("revoked")
        assert (await here.ending(own)).why == "auth"
        server.rules.refresh_tokens.append(FIRST_REFRESH)
        here.clock.advance(61)
        assert (await here.ending(own)).why == "ok"


async def test_a_rotated_refresh_token_outlives_the_process() -> None:
    """The one in the configuration is void by then: without the new one the job would be locked out for good."""
    notes: dict[str, str] = {}
    async with token_server(lifetime=100) as server:
        own = wanted(server, grant="refresh_token", refresh_token=Secret(FIRST_REFRESH))
        async with room(notes) as before:
            assert (await before.ending(own)).why == "ok"
        ((name, kept),) = notes.items()
        assert kept == server.rules.refresh_tokens[-1]
        assert name.startswith(PREFIX)
        assert not any(secret in name for secret in (FIRST_REFRESH, SECRET, kept))
        async with room(notes) as after:
            assert kept in after.told
            assert (await after.ending(own)).why == "ok"
            assert server.asked[-1]["refresh_token"] == kept
            assert notes[name] == server.rules.refresh_tokens[-1]

            server.rules.refresh_tokens.append("revoked")
            after.clock.advance(200)
            assert (await after.ending(own)).why == "auth"
            assert notes == {}


async def test_another_refresh_token_in_the_configuration_counts() -> None:
    """Whoever signs in anew puts the new token there; what was kept for the old one is not sent in its place."""
    notes: dict[str, str] = {}
    async with token_server(lifetime=100) as server:
        async with room(notes) as before:
            await before.ending(wanted(server, grant="refresh_token", refresh_token=Secret(FIRST_REFRESH)))
        server.rules.refresh_tokens.append("signed-in-anew")
        async with room(notes) as after:
            again = wanted(server, grant="refresh_token", refresh_token=Secret("signed-in-anew"))
            assert (await after.ending(again)).why == "ok"
            assert server.asked[-1]["refresh_token"] == "signed-in-anew"


async def test_a_refresh_token_is_not_lost_on_its_way() -> None:
    """The server has taken the old one back by then: whoever gave up waiting must still take the new one."""
    gate = asyncio.Event()
    async with token_server() as server, room({}) as here:

        async def late(request: web.Request) -> web.StreamResponse:
            await gate.wait()
            server.conduct = None
            return await server._token(request)

        server.conduct = late
        own = wanted(server, grant="refresh_token", refresh_token=Secret(FIRST_REFRESH), more={"deadline": "200ms"})
        end = await here.ending(own)
        assert (end.why, len(server.rules.refresh_tokens)) == ("auth", 1)
        gate.set()
        await until(lambda: len(here.told) == 2)
        assert (await here.ending(own)).why == "ok"
        assert server.shown == [f"Bearer {server.rules.tokens[0]}"]


async def test_jobs_that_differ_share_their_refresh_token() -> None:
    """It is good once, whatever else the jobs ask for: each has to go on with what the last one of them was given."""
    given = {"grant": "refresh_token", "refresh_token": Secret(FIRST_REFRESH)}
    async with token_server(lifetime=100) as server, room({}) as here:
        jobs = [wanted(server, name=scope, scope=scope, **given) for scope in ("read", "write")]
        for _ in range(2):
            ends = await asyncio.gather(*map(here.ending, jobs))
            assert [end.why for end in ends] == ["ok", "ok"], [end.error for end in ends]
            here.clock.advance(200)
        assert [asked["refresh_token"] for asked in server.asked] == server.rules.refresh_tokens[:4]


async def test_a_refused_token_is_replaced_once() -> None:
    """Tokens can be revoked at any time; the job's next Run must not need anybody's hand."""
    async with token_server() as server, room() as here:
        own = wanted(server)
        await here.ending(own)
        server.rules.tokens.clear()
        end = await here.ending(own)
        assert (end.why, end.progress.attempts, len(server.asked)) == ("ok", 1, 2)
        assert server.shown[1:] == [server.shown[0], f"Bearer {server.rules.tokens[0]}"]


async def test_many_that_are_refused_ask_once() -> None:
    """All jobs find out at the same moment that their token is void."""
    async with token_server() as server, room() as here:
        jobs = [wanted(server, name=f"job-{number}") for number in range(20)]
        await asyncio.gather(*map(here.ending, jobs))
        server.rules.tokens.clear()
        ends = await asyncio.gather(*map(here.ending, jobs))
    assert {end.why for end in ends} == {"ok"}
    assert len(server.asked) == 2


async def test_an_api_that_refuses_every_token() -> None:
    """It wants something else than a token, and asking for others each time would only hurt the token server."""
    async with token_server() as server, room() as here:
        server.conduct = saying(200, '{"access_token": "never-good", "expires_in": 3600}')
        own = wanted(server)
        assert (await here.ending(own)).why == "http_4xx"
        assert len(server.shown) == 1  # a new one was refused: another one would be as well
        for _ in range(5):
            assert (await here.ending(own)).why == "http_4xx"
        assert len(server.asked) == 2
        here.clock.advance(61)
        await here.ending(own)
        assert len(server.asked) == 3


async def test_a_post_is_repeated_with_its_body() -> None:
    """The request that was refused has done nothing; the one that takes its place must be whole."""
    async with token_server() as server, room() as here:
        own = wanted(server, more={"method": "POST", "body": "hello"})
        await here.ending(own)
        server.rules.tokens.clear()
        assert (await here.ending(own)).why == "ok"
        assert server.bodies == ["hello"] * 3


async def flood(request: web.Request) -> web.StreamResponse:
    """Say more and more, without saying how much it is going to be."""
    response = web.StreamResponse()
    await response.prepare(request)
    while True:
        await response.write(b" " * 65536)


async def test_a_token_server_that_floods() -> None:
    """It is cut off, and told in words of its own: nobody has set a max_body for tokens."""
    async with token_server(conduct=flood) as server, room() as here:
        end = await here.ending(wanted(server))
    assert (end.why, str(end.error)) == ("auth", f"no token from {HOST}: its answer is longer than 64 KiB")


@pytest.mark.parametrize("conduct", [hang, drip])
async def test_a_token_server_that_hangs(conduct: Any) -> None:
    """It ends by itself within the Run, is told as what it is, and is left alone as long as it has taken."""
    async with token_server(conduct=conduct) as server, room() as here:
        own = quick(server, more={"retries": 2})
        end = await here.ending(own)
        assert (end.why, end.phase) == ("auth", "auth")
        assert f"no token from {HOST}: no answer within 0.1 s" in str(end.error)
        assert len(server.asked) == 1
        assert (await here.ending(own)).why == "auth"
        assert len(server.asked) == 1
        here.clock.advance(0.2)
        assert (await here.ending(own)).why == "auth"
        assert len(server.asked) == 2


async def test_it_hangs_longer_than_the_run_may_take() -> None:
    """The deadline of the job is shorter than that of its token: it still ends as what it is."""
    async with token_server(conduct=hang) as server, room() as here:
        own = wanted(server, more={"deadline": "200ms"})
        end = await ending(here.fetcher, own, 0.2)
        assert (end.why, end.phase) == ("auth", "auth")


async def test_it_cannot_be_reached() -> None:
    """The message tells which server it was: the API is fine."""
    async with room() as here:
        end = await here.ending(wanted(TokenServer(url=f"http://{HOST}:1"), url=f"http://{HOST}:2/"))
    assert end.why == "auth"
    assert "no token from 127.0.0.1: cannot connect to 127.0.0.1:1: Connection refused" in str(end.error)
    assert end.error is not None
    assert end.error.transient


@pytest.mark.parametrize(
    ("status", "text", "headers", "message", "pause"),
    [
        (401, '{"error": "invalid_client", "error_description": "canary"}', {}, "it answered 401 invalid_client", 60),
        (400, '{"error": "invalid_grant"}', {}, "it answered 400 invalid_grant", 60),
        (200, '{"error": "invalid_scope"}', {}, "it answered 200 invalid_scope", 60),
        (400, '{"error": "canary"}', {}, "it answered 400", 60),
        (503, "canary", {}, "it answered 503", 0.1),
        (503, "canary", {"Retry-After": "7"}, "it answered 503", 7),
        (429, "{}", {"Retry-After": "90000"}, "it answered 429", 300),
        (429, "{}", {"Date": SAID, "Retry-After": "Wed, 21 Oct 2026 07:28:00 GMT"}, "it answered 429", 300),
        (429, "{}", {"Date": SAID, "Retry-After": "Thu, 01 Jan 2026 10:00:40 GMT"}, "it answered 429", 40),
        (503, "{}", {"Date": SAID, "Retry-After": "Thu, 01 Jan 2026 09:59:00 GMT"}, "it answered 503", 0.1),
        (400, '{"error": "slow_down"}', {"Retry-After": "2.5"}, "it answered 400 slow_down", 2.5),
        (503, "{}", {"Retry-After": "soon"}, "it answered 503", 0.1),
        (503, "{}", {"Retry-After": "-7"}, "it answered 503", 0.1),
        (400, '{"error": "temporarily_unavailable"}', {}, "it answered 400 temporarily_unavailable", 0.1),
        (302, "", {"Location": "/canary"}, "it answered 302", 60),
        (500, '{"access_token": "canary"}', {}, "it answered 500", 0.1),
        (200, "<html>canary</html>", {}, "what it answered holds no token", 60),
        (200, "[" * 20_000, {}, "what it answered holds no token", 60),
        (200, '["canary"]', {}, "what it answered holds no token", 60),
        (200, "7", {}, "what it answered holds no token", 60),
        (200, '{"token_type": "bearer"}', {}, "what it answered holds no token", 60),
        (200, '{"access_token": "a", "expires_in": "soon"}', {}, "what it answered holds no token", 60),
        (200, '{"access_token": "a", "scope": 7}', {}, "what it answered holds no token", 60),
        (200, '{"access_token": ["canary"]}', {}, "what it answered as a token cannot be sent", 60),
        (200, '{"access_token": "canary\\r\\nX-Evil: 1"}', {}, "what it answered as a token cannot be sent", 60),
        (200, '{"access_token": "canary", "token_type": "mac"}', {}, "its token is of a type other than Bearer", 60),
        (200, "x" * 70_000, {}, "its answer is longer than 64 KiB", 60),
    ],
)
async def test_what_a_token_server_may_say_instead(
    status: int, text: str, headers: dict[str, str], message: str, pause: float
) -> None:
    """Each ends as a failure of authorisation, repeats nothing of what came, and is not asked again at once."""
    async with token_server(conduct=saying(status, text, **headers)) as server, room() as here:
        own = wanted(server)
        end = await here.ending(own)
        assert (end.why, str(end.error)) == ("auth", f"no token from {HOST}: {message}")
        assert end.error is not None
        assert end.error.transient == (pause != 60)
        assert "canary" not in told(end.error)
        here.clock.advance(pause * 0.9)
        again = await here.ending(own)
        assert str(again.error).startswith(f"no token from {HOST}: {message}; it is asked again in ")
        assert len(server.asked) == 1
        here.clock.advance(pause * 0.2)
        await here.ending(own)
        assert len(server.asked) == 2
        assert server.shown == []


async def test_pauses_grow_and_end_with_the_first_token() -> None:
    """A server that is down is asked once a minute in the end; one that is back is as good as new."""
    async with token_server(conduct=saying(503, "")) as server, room() as here:
        own, pauses = wanted(server), []
        for _ in range(14):
            before = here.clock.monotonic()
            asked = len(server.asked)
            while len(server.asked) == asked:
                here.clock.advance(0.05 if here.clock.monotonic() - before < 1 else 1.0)
                await here.ending(own)
            pauses.append(here.clock.monotonic() - before)
        assert pauses[-1] == pytest.approx(60, abs=1.1)
        assert pauses == sorted(pauses)
        server.conduct = None
        here.clock.advance(60)
        assert (await here.ending(own)).why == "ok"


@pytest.mark.parametrize("status", [302, 307])
async def test_a_foreign_origin_gets_no_token(status: int, upstream: UpstreamProcess) -> None:
    """The API chooses where it redirects to; its choice must not get what authorises."""
    async with token_server() as server, room() as here:
        home = upstream.url(f"locstatus/{status}/{quote('/echo', safe='')}")
        abroad = upstream.url(f"locstatus/{status}/{quote(upstream.url('echo', host='localhost'), safe='')}")
        at_home = await here.ending(wanted(server, url=home))
        away = await here.ending(wanted(server, url=abroad))
        token = server.rules.tokens[0]
        assert token in at_home.content.decode()
        assert away.why == "ok"
        assert token not in away.content.decode()


async def test_nothing_is_told(caplog: pytest.LogCaptureFixture) -> None:
    """Tokens are secrets that no configuration names: the log learns them as they come."""
    caplog.set_level(logging.DEBUG)
    for name in ("httpx", "asyncio", "oauthlib"):
        caplog.set_level(logging.WARNING, name)  # as the daemon's log holds them
    async with token_server() as server, room() as here:
        own = wanted(server, grant="password", username=Secret(USER[0]), password=Secret(USER[1]))
        assert (await here.ending(own)).why == "ok"
        assert (await here.ending(wanted(server, client_secret=Secret("canary-wrong")))).why == "auth"
        token = server.rules.tokens[0]
    redact = Redactor()
    for secret in here.told:
        redact.note(secret)
    assert redact(f"GET /?t={token} HTTP/1.1") == f"GET /?t={MASK} HTTP/1.1"
    assert here.told == [token, server.rules.refresh_tokens[-1]]
    assert "canary" not in caplog.text
    assert token not in caplog.text
    assert "canary" not in repr(own)


async def test_another_definition_keeps_the_token() -> None:
    """A reload makes new jobs of the same credentials; it is no reason to bother the token server."""
    async with token_server() as server, room() as here:
        for interval in ("1m", "2m", "3m"):
            assert (await here.ending(wanted(server, more={"interval": interval}))).why == "ok"
        assert len(server.asked) == 1


async def test_where_the_time_goes() -> None:
    """A slow token server shows in the Run's timings, and not as a slow API."""
    async with token_server() as server, room() as here:
        progress = Progress()
        fetched = await here.fetcher.fetch(wanted(server), RUN, progress)
        assert fetched is not None
        fetched.body.close()
        assert progress.timings["auth"] > 0


async def test_questions_travel_as_the_job_s_requests() -> None:
    """A job that must not reach into the private network must not do so for its token either."""
    async with token_server() as server, room() as here:
        end = await here.ending(wanted(server, more={"deny_private": True}))
        assert (end.why, server.asked) == ("auth", [])
        assert "private network" in str(end.error)


@pytest.mark.parametrize(("host", "message"), [("localhost", "unknown CA"), (HOST, "it answered 404")])
async def test_trust_does_not_spread(host: str, message: str, upstream: UpstreamProcess) -> None:
    """Who gives up on checking one API's certificate has said nothing about the server that gets the secret."""
    server = TokenServer(
        url=upstream.tls_url("status/404").replace("//localhost", f"//{host}").removesuffix("/status/404")
    )
    async with room() as here:
        end = await here.ending(wanted(server, url=upstream.url("echo"), more={"tls": {"verify": False}}))
    assert end.why == "auth"
    assert message in str(end.error)
