"""Digests: worked out as RFC 7616 says, from one challenge for as long as the server goes on taking it."""

from __future__ import annotations

import asyncio
import shutil
from typing import Any
from urllib.parse import quote

import pytest

from fetchd.fetch.auth import DigestAuth
from fetchd.job import Job
from fetchd.secret import Secret
from tests.fetch.digest_server import PASSWORD, REALM, USER, digest_server, response_to
from tests.fetch.room import PATIENCE, answering, ending, fetching, job, response
from tests.fetch.test_secrets import told
from tests.upstream import UpstreamProcess

MD5 = f'Digest realm="{REALM}", qop="auth, auth-int", algorithm=MD5, nonce="{{nonce}}", opaque="op=a,que"'
SHA = f'Digest realm="{REALM}", qop="auth", algorithm=SHA-256, nonce="{{nonce}}"'
PLAIN = f'Digest realm="{REALM}",qop=auth,nonce="{{nonce}}"'


def wanted(url: str, password: str = PASSWORD, **keys: Any) -> Job:
    """Return a job that is authorised by digests."""
    auth = DigestAuth(kind="digest", username=Secret(USER), password=Secret(password))
    return job(url, auth=auth, timeout="5s", **keys)


@pytest.mark.parametrize(
    ("algorithm", "expected"),
    [
        ("MD5", "8ca523f5e9506fed4657c9700eebdbec"),
        ("SHA-256", "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1"),
    ],
)
def test_the_server_works_it_out_as_the_rfc_does(algorithm: str, expected: str) -> None:
    """What judges the client is itself judged by the example of RFC 7616, 3.9.1."""
    given = {
        "algorithm": algorithm,
        "uri": "/dir/index.html",
        "nonce": "7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v",
        "nc": "00000001",
        "cnonce": "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ",
        "qop": "auth",
    }
    assert response_to("GET", given) == expected


@pytest.mark.parametrize(
    "challenges",
    [
        [MD5],
        [SHA],
        [PLAIN],
        [SHA, MD5],
        [f'Basic realm="a, b", {SHA}'],
        [f'Negotiate, {SHA}, Bearer realm="x"'],
        ["Basic realm=x", MD5],
        [SHA.replace("SHA-256", "SHA-512-256"), MD5],
        [SHA.replace('"auth"', '"auth-int"'), MD5],
        [f"{SHA.replace('SHA-256', 'X')}, {MD5}"],
        [MD5.replace("Digest", "dIGEST").replace(", ", " ,  ").replace("=MD5", ' = "MD5"')],
    ],
)
async def test_challenges(challenges: list[str]) -> None:
    """Servers offer several, in one header or in many; the first one that can be answered counts."""
    async with digest_server(*challenges) as server, fetching() as fetcher:
        end = await ending(fetcher, wanted(f"{server.url}/a/b?c=d%20e"), PATIENCE)
        assert (end.why, end.content) == ("ok", b"ok"), end.error
        assert len(server.given) == 2
        assert PASSWORD not in str(server.given)


async def test_a_challenge_serves_many_runs() -> None:
    """Half of the requests would else be there to be refused; the count goes up, for nobody may repeat a response."""
    async with digest_server(SHA, uses=5) as server, fetching() as fetcher:
        own = wanted(server.url)
        for _ in range(7):
            assert (await ending(fetcher, own, PATIENCE)).why == "ok"
    counts = [given.get("nc", "-") for given in server.given]
    assert counts == ["-", *(f"{number:08x}" for number in range(1, 7)), "00000001", "00000002"]


async def test_a_body_is_sent_again() -> None:
    """The refused request has had it as well, and has not used it."""
    async with digest_server(SHA) as server, fetching() as fetcher:
        end = await ending(fetcher, wanted(server.url, method="POST", body="hello"), PATIENCE)
        assert (end.why, server.bodies) == ("ok", ["hello", "hello"])
        assert end.progress.attempts == 1


@pytest.mark.parametrize("padding", [0, 100, 1_000_000])
async def test_the_refusal_s_body_is_not_kept(padding: int) -> None:
    """It is the server's to choose; a small one is read for the connection's sake, a large one is left alone."""
    async with digest_server(MD5, padding=padding) as server, fetching() as fetcher:
        end = await ending(fetcher, wanted(server.url, max_body="1KiB"), PATIENCE)
        assert end.why == "ok", end.error


async def test_a_refusal_that_never_ends() -> None:
    """It declares a body and brings none: the read timeout ends the wait, and the fetch goes on."""
    refusal = b"HTTP/1.1 401 No\r\nWWW-Authenticate: " + MD5.encode() + b"\r\nContent-Length: 10\r\n\r\nfive."
    async with answering(refusal, response(b"hello")) as server, fetching() as fetcher:
        own = wanted(server.url).model_copy(update={"timeout": job("http://h.test").timeout})
        end = await ending(fetcher, own, PATIENCE)
        assert (end.why, end.content) == ("ok", b"hello")


async def test_a_wrong_password_is_tried_once() -> None:
    """A server may lock out whoever guesses."""
    async with digest_server(MD5) as server, fetching() as fetcher:
        end = await ending(fetcher, wanted(server.url, password="canary", retries=3), PATIENCE)
        assert (end.why, end.progress.attempts, len(server.given)) == ("http_4xx", 1, 2)
        assert end.error is not None
        assert "canary" not in told(end.error)


async def test_a_server_that_wants_no_digest() -> None:
    """Its refusal is what counts: the password does not go out in another way."""
    async with digest_server('Basic realm="x"') as server, fetching() as fetcher:
        end = await ending(fetcher, wanted(server.url), PATIENCE)
        assert (end.why, server.given) == ("http_4xx", [{}])


@pytest.mark.parametrize(
    "challenge",
    [
        SHA.replace("SHA-256", "SHA-3"),
        SHA.replace('"auth"', '"auth-int"'),
        SHA.replace(f'realm="{REALM}", ', ""),
        "Digest realm",
        "Digest realm=",
        'Digest realm="a", nonce=, opaque=',
        'Digest realm="a", nonce="b", qop=""',
        'Digest realm="a", nonce="b", canary',
        'Digest realm="a, nonce="b"c',
        'Digest nonce="' + "x" * 4000,
    ],
)
async def test_challenges_that_cannot_be_answered(challenge: str) -> None:
    """A server can write anything there; it ends as a failure of authorisation, and none of ours."""
    async with digest_server(challenge) as server, fetching() as fetcher:
        end = await ending(fetcher, wanted(server.url), PATIENCE)
    assert end.why in {"auth", "http_4xx"}
    if end.why == "auth":
        assert str(end.error).startswith("the server's challenge cannot be answered: ")


@pytest.mark.parametrize("status", [302, 307])
async def test_a_foreign_origin_gets_no_digest(status: int, upstream: UpstreamProcess) -> None:
    """Nor is one that challenges answered there: it could be anybody."""
    async with digest_server(SHA) as home, digest_server(SHA) as abroad, fetching() as fetcher:
        away = abroad.url.replace("127.0.0.1", "localhost")
        own = wanted(upstream.url(f"locstatus/{status}/{quote(away, safe='')}"))
        end = await ending(fetcher, own, PATIENCE)
        assert (end.why, abroad.given, home.given) == ("http_4xx", [{}], [])


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs the Debian package curl")
@pytest.mark.parametrize("challenge", [MD5, SHA])
async def test_curl_and_the_server_agree(challenge: str) -> None:
    """The server that judges our client takes another one's digests as well."""
    async with digest_server(challenge) as server:
        command = ("curl", "-s", "--noproxy", "*", "--digest", "-u", f"{USER}:{PASSWORD}", f"{server.url}/a?b=c")
        curl = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
        out, _ = await curl.communicate()
        assert out == b"ok"
