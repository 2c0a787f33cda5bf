"""Redirects are walked by hand: a few of them, nowhere else than to HTTP, and with no secret to foreign origins."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from fetchd.fetch.auth import BasicAuth, BearerAuth
from fetchd.secret import Secret
from tests.fetch.room import answering, ending, fetching, guarded, job, response
from tests.upstream import UpstreamProcess

SECRET = "canary-4711"
HEADERS = {"X-Api-Key": SECRET, "Cookie": f"session={SECRET}", "Accept": "text/plain", "User-Agent": "tester"}


def leading(upstream: UpstreamProcess, target: str, status: int = 302) -> str:
    """Return a URL that redirects to ``target``."""
    return upstream.url(f"locstatus/{status}/{quote(target, safe='')}")


def foreign(upstream: UpstreamProcess) -> str:
    """Return the URL of ``echo`` at another origin."""
    return upstream.url("echo", host="localhost")


def echoed(content: bytes) -> dict[str, Any]:
    """Return the request that came, its headers as a table."""
    document: dict[str, Any] = json.loads(content)
    return document | {"headers": dict(document["headers"])}


async def test_the_same_origin_gets_everything(upstream: UpstreamProcess) -> None:
    """A job's headers belong to the URL's own origin, whatever path it sends the client to."""
    auth = BearerAuth(kind="bearer", token=Secret(SECRET))
    wanted = job(leading(upstream, "/echo?a=1"), headers=HEADERS, auth=auth, params={"key": SECRET})
    async with fetching() as fetcher:
        end = await ending(fetcher, wanted)
    request = echoed(end.content)
    assert request["headers"]["x-api-key"] == SECRET
    assert request["headers"]["authorization"] == f"Bearer {SECRET}"
    assert request["headers"]["cookie"] == f"session={SECRET}"
    assert request["query"] == "a=1"
    assert end.fetched is not None
    assert end.fetched.url == upstream.url("echo")


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("user", ["", f"user:{SECRET}@"])
async def test_a_foreign_origin_gets_no_secret(status: int, user: str, upstream: UpstreamProcess) -> None:
    """httpx drops Authorization alone; an API key in a header of its own is a secret as well."""
    url = leading(upstream, foreign(upstream), status).replace("://", f"://{user}")
    auth = None if user else BasicAuth(kind="basic", username=Secret("user"), password=Secret(SECRET))
    async with fetching() as fetcher:
        end = await ending(fetcher, job(url, headers=HEADERS, auth=auth, params={"key": SECRET}))
    request = echoed(end.content)
    assert SECRET not in end.content.decode()
    assert set(request["headers"]) <= {"host", "accept", "accept-encoding", "user-agent"}
    assert request["headers"]["host"] == f"localhost:{upstream.ports['http']}"
    assert request["headers"]["user-agent"] == "tester"


async def test_the_way_back_brings_no_secret_along(upstream: UpstreamProcess) -> None:
    """What was dropped at a foreign origin stays dropped: that origin chose where it goes on."""
    back = upstream.url("echo")
    through = upstream.url(f"loc/{quote(back, safe='')}", host="localhost")
    async with fetching() as fetcher:
        end = await ending(fetcher, job(leading(upstream, through), headers=HEADERS))
    assert SECRET not in end.content.decode()


@pytest.mark.parametrize(("status", "method"), [(301, "GET"), (302, "GET"), (303, "GET"), (307, "POST"), (308, "POST")])
async def test_a_body_stays_at_its_origin(status: int, method: str, upstream: UpstreamProcess) -> None:
    """What the method becomes is RFC 9110's matter; what a foreign origin gets is ours."""
    wanted = {"method": "POST", "body": SECRET}
    async with fetching() as fetcher:
        at_home = await ending(fetcher, job(leading(upstream, "/echo", status), **wanted))
        abroad = await ending(fetcher, job(leading(upstream, foreign(upstream), status), **wanted))
    request = echoed(at_home.content)
    assert request["method"] == method
    assert request["body"] == ("Y2FuYXJ5LTQ3MTE=" if method == "POST" else "")
    assert abroad.why == ("redirect_refused" if method == "POST" else "ok")
    assert SECRET not in abroad.content.decode()


@pytest.mark.parametrize(
    ("target", "why"),
    [
        ("ftp://127.0.0.1/", "redirect_refused"),
        ("file:///etc/passwd", "redirect_refused"),
        ("javascript:alert(1)", "redirect_refused"),
        ("data:text/plain,hello", "redirect_refused"),
        ("http://127.0.0.1:99999/", "redirect_refused"),
        ("http://127.0.0.1:0/", "redirect_refused"),
        ("http://[::1", "redirect_refused"),
        ("http://a b/", "dns"),
        ("http://127.0.0.1:1/", "connect"),
        ("//127.0.0.1:1/", "connect"),
        ("http://[bad]/", "redirect_refused"),
        ("http://" + "a" * 300 + ".test/", "redirect_refused"),
        ("http://2130706433/", "redirect_refused"),
        ("", "too_many_redirects"),
        ("?again", "too_many_redirects"),
        ("#again", "too_many_redirects"),
    ],
)
async def test_odd_targets(target: str, why: str) -> None:
    """A server can write anything there; each ends as what it is, and none as an error of ours."""
    async with answering(response(b"", f"Location: {target}", status=302)) as server, fetching() as fetcher:
        end = await ending(fetcher, job(server.url))
    assert end.why == why, end.error


@pytest.mark.parametrize(
    "target", ["\xff\xfe\xfd", "http:///ok", "http://", "http:", ":", "///", "%", "\\\\host\\x", "x" * 9000]
)
async def test_junk_as_target(target: str) -> None:
    """Whatever it is taken for, it ends with a reason."""
    async with answering(response(b"", f"Location: {target}", status=302)) as server, fetching() as fetcher:
        end = await ending(fetcher, job(server.url))
    assert end.error is not None


async def test_a_redirect_without_target_is_judged_itself() -> None:
    """There is nowhere to go, so the status is what counts."""
    async with answering(response(b"moved", status=302)) as server, fetching() as fetcher:
        end = await ending(fetcher, job(server.url))
    assert (end.why, str(end.error)) == ("unexpected", "the server answered 302")


@pytest.mark.parametrize(("allowed", "hops", "why"), [(0, 0, "ok"), (0, 1, "too_many_redirects"), (3, 3, "ok")])
async def test_the_hops_are_counted(allowed: int, hops: int, why: str, upstream: UpstreamProcess) -> None:
    """The job says how many."""
    async with fetching() as fetcher:
        end = await ending(fetcher, job(upstream.url(f"redir/{hops}"), redirects=allowed))
    assert end.why == why


@pytest.mark.parametrize(("allowed", "why"), [(False, "redirect_refused"), (True, "ok")])
async def test_down_to_plain_http(allowed: bool, why: str, upstream: UpstreamProcess) -> None:
    """Whoever wrote https meant it; only the job can say otherwise."""
    target = quote(upstream.url("echo", host="localhost"), safe="")
    wanted = job(upstream.tls_url(f"loc/{target}"), allow_insecure_redirects=allowed, headers=HEADERS)
    async with fetching(ca_file=upstream.ca_file) as fetcher:
        end = await ending(fetcher, wanted)
    assert end.why == why
    assert SECRET not in end.content.decode()


async def test_up_to_https(upstream: UpstreamProcess) -> None:
    """The everyday redirect."""
    async with fetching(ca_file=upstream.ca_file) as fetcher:
        end = await ending(fetcher, job(leading(upstream, upstream.tls_url("echo"))))
    assert end.why == "ok"


async def test_a_user_s_own_authorisation_stays_at_home(upstream: UpstreamProcess) -> None:
    """A collect function may authorise its client or one request; neither goes abroad, nor do its cookies."""
    for given in ("client", "request"):
        async with guarded() as client:
            client.headers["X-Api-Key"] = SECRET
            client.cookies.set("session", SECRET)
            options: dict[str, Any] = {"auth": ("user", SECRET)} if given == "request" else {}
            if given == "client":
                client.auth = httpx.BasicAuth("user", SECRET)
            at_home = await client.get(leading(upstream, "/echo"), **options)
            abroad = await client.get(leading(upstream, foreign(upstream)), **options)
            assert "authorization" in echoed(at_home.content)["headers"]
            assert "cookie" in echoed(at_home.content)["headers"]
            assert not {"authorization", "cookie", "x-api-key"} & set(echoed(abroad.content)["headers"])


async def test_a_user_may_stop_at_a_redirect(upstream: UpstreamProcess) -> None:
    """``follow_redirects`` means what httpx says, on the request and on the client."""
    async with guarded() as client:
        assert (await client.get(upstream.url("redir/1"))).status_code == 200
        assert (await client.get(upstream.url("redir/1"), follow_redirects=False)).status_code == 302
        client.follow_redirects = False
        assert (await client.get(upstream.url("redir/1"))).status_code == 302
        assert (await client.get(upstream.url("redir/1"), follow_redirects=True)).status_code == 200
