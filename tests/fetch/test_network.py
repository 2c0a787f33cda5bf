"""How a job's requests travel: over which addresses, to sockets of this machine, and apart from those of others."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import socket
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from urllib.parse import quote

import pytest

from fetchd.fetch.context import Context
from fetchd.fetch.exchange import Limits
from fetchd.fetch.network import DIRECT, Network, carried, chosen
from fetchd.fetch.pools import Pools
from fetchd.fetch.resolver import Names, Resolver
from fetchd.fetch.tls import Contexts, tls_context
from fetchd.job import public_url, url_problem
from tests.fetch.room import (
    Scripted,
    answering,
    connections,
    ending,
    fetcher_over,
    fetching,
    job,
    response,
    settled,
)
from tests.fetch.test_egress import Answering, answers
from tests.processes import descriptors
from tests.upstream import HOST

BOTH = answers("192.0.2.1", "2001:db8::1", "192.0.2.2")


def has_ipv6() -> bool:
    """Return whether this machine can listen at ::1."""
    with socket.socket(socket.AF_INET6) as probe:
        try:
            probe.bind(("::1", 0))
        except OSError:
            return False
    return True


@asynccontextmanager
async def at_both() -> AsyncIterator[int]:
    """Give a port at which a server answers "IPv4" or "IPv6", by the address that it was asked at."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.closing(writer), contextlib.suppress(OSError, EOFError):
            await reader.readuntil(b"\r\n\r\n")
            version = b"IPv6" if ":" in writer.get_extra_info("sockname")[0] else b"IPv4"
            writer.write(response(version))
            await writer.drain()

    first = await asyncio.start_server(talk, HOST, 0)
    port = first.sockets[0].getsockname()[1]
    async with first, await asyncio.start_server(talk, "::1", port):
        yield port


@pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6 loopback")
@pytest.mark.parametrize(
    ("ip", "answer"), [("ipv4", b"IPv4"), ("ipv6", b"IPv6"), ("prefer_ipv4", b"IPv4"), ("prefer_ipv6", b"IPv6")]
)
async def test_which_addresses_are_asked(ip: str, answer: bytes) -> None:
    """Some upstreams let in one version alone, and some machines have a version that leads nowhere."""
    for addresses in (("127.0.0.1", "::1"), ("::1", "127.0.0.1")):
        async with at_both() as port, fetching(ask=Answering(*addresses)) as fetcher:
            end = await ending(fetcher, job(f"http://both.test:{port}/", ip=ip))
        assert (end.why, end.content) == ("ok", answer)


@pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6 loopback")
async def test_a_preferred_version_may_be_missing() -> None:
    """A preference is none: where the first address does not answer, the others are tried."""
    async with answering(response(b"hello")) as server, fetching(ask=Answering("::1", "127.0.0.1")) as fetcher:
        port = server.url.rpartition(":")[2]
        end = await ending(fetcher, job(f"http://both.test:{port}/", ip="prefer_ipv6", timeout="5s"), deadline=5)
    assert (end.why, end.content) == ("ok", b"hello")


@pytest.mark.parametrize(
    ("ip", "hosts"),
    [
        ("any", ["192.0.2.1", "2001:db8::1", "192.0.2.2"]),
        ("ipv4", ["192.0.2.1", "192.0.2.2"]),
        ("ipv6", ["2001:db8::1"]),
        ("prefer_ipv4", ["192.0.2.1", "192.0.2.2", "2001:db8::1"]),
        ("prefer_ipv6", ["2001:db8::1", "192.0.2.1", "192.0.2.2"]),
    ],
)
def test_the_order_of_addresses(ip: str, hosts: list[str]) -> None:
    """The resolver's order within a version stays: it balances the load."""
    assert [address["host"] for address in chosen(Network(ip=ip), "a.test", BOTH)] == hosts  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("host", "ip", "said"),
    [
        ("only.test", "ipv6", "cannot resolve only.test: it has no IPv6 address"),
        ("127.0.0.1", "ipv6", "cannot resolve 127.0.0.1: it has no IPv6 address"),
        ("[::1]", "ipv4", "cannot resolve ::1: it has no IPv4 address"),
    ],
)
async def test_a_host_without_such_an_address(host: str, ip: str, said: str) -> None:
    """The reason is the name's, and the message tells it from a name that does not exist."""
    async with fetching(ask=Answering("127.0.0.1")) as fetcher:
        end = await ending(fetcher, job(f"http://{host}:1/", ip=ip))
    assert (end.why, str(end.error)) == ("dns", said)


def test_a_job_that_says_nothing_travels_as_ever() -> None:
    """The way of nearly all jobs must not cost a search: it is recognised by what it is."""
    assert Limits.of(job("http://a.test/")).network is DIRECT
    assert Limits.of(job("http://a.test/", ip="any", proxy="", tls={})).network is DIRECT
    assert Limits.of(job("http://a.test/", ip="ipv4")).network == Network(ip="ipv4")


async def test_pools_are_few_and_close_when_idle() -> None:
    """Ten thousand jobs may name ten thousand identities: what is idle goes, what is in use stays."""
    contexts, resolver = Contexts(tls_context(), None), Resolver(Names())
    pools = Pools(contexts, resolver, at_most=2)
    with ExitStack() as using:
        first = await pools.take(Network(ip="ipv4"), "", using)
        others = []
        for number in range(4):
            with ExitStack() as held:
                others.append(await pools.take(DIRECT, f"/run/{number}.sock", held))
        assert not first.closed
        assert [session.closed for session in others] == [True, True, True, False]
        assert await pools.take(Network(ip="ipv4"), "", using) is first
        await pools.renew()
        assert not first.closed
    await pools.renew()
    assert first.closed
    await pools.aclose()
    await resolver.close()


async def test_pools_may_go_while_exchanges_begin() -> None:
    """Certificates that are replaced let go of all pools; each exchange that begins then looks for such ones, too."""
    async with answering(response(b"here")) as server, connections() as transport:
        ways = [job(server.url, name=ip, ip=ip) for ip in ("ipv4", "prefer_ipv4", "prefer_ipv6")]
        fetcher = fetcher_over(transport)
        for way in ways:
            assert (await ending(fetcher, way)).why == "ok"  # each leaves an idle connection
        _, *ends = await asyncio.gather(transport.renew(), *(ending(fetcher, way) for way in ways))
    assert [end.why for end in ends] == ["ok", "ok", "ok"]


@asynccontextmanager
async def at_socket(path: Path, *responses: bytes) -> AsyncIterator[Scripted]:
    """Serve ``responses``, one after the other, at the socket ``path``."""
    heads: list[bytes] = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.closing(writer), contextlib.suppress(OSError, EOFError):
            while True:
                heads.append(await reader.readuntil(b"\r\n\r\n"))
                writer.write(responses[min(len(heads), len(responses)) - 1])
                await writer.drain()

    async with await asyncio.start_unix_server(talk, path):
        yield Scripted(f"http+unix://{quote(str(path), safe='')}", heads)


async def test_a_socket(tmp_path: Path) -> None:
    """Capitals in the path count, the server is told a name that it knows, and nothing is left open."""
    tasks, files = asyncio.all_tasks(), descriptors()
    async with at_socket(tmp_path / "App ü.sock", response(b"hello")) as server, fetching() as fetcher:
        url = f"{server.url}/v1/info?all=1"
        for _ in range(2):
            end = await ending(fetcher, job(url, headers={"X-Own": "1"}, params={"more": "2"}))
            assert (end.why, end.content) == ("ok", b"hello")
            assert end.fetched is not None
            assert end.fetched.url == f"{server.url}/v1/info"
        assert server.heads[0].startswith(b"GET /v1/info?all=1&more=2 HTTP/1.1\r\nHost: localhost\r\n")
        assert b"X-Own: 1" in server.heads[0]
    gc.collect()
    await settled(tasks, files)


async def test_a_socket_s_host_may_be_named(tmp_path: Path) -> None:
    """Behind one socket may be many hosts."""
    async with at_socket(tmp_path / "app.sock", response()) as server, fetching() as fetcher:
        assert (await ending(fetcher, job(server.url, headers={"Host": "shop.example.com"}))).why == "ok"
    assert b"Host: shop.example.com\r\n" in server.heads[0]


async def test_redirects_stay_at_their_socket(tmp_path: Path) -> None:
    """A relative redirect is followed; one that leads off is not, for a socket has no names."""
    moved = [response(b"", f"Location: {to}", status=302) for to in ("/next", "http://127.0.0.1:1/")]
    path = tmp_path / "app.sock"
    async with at_socket(path, moved[0], response(b"here"), moved[1]) as server, fetching() as fetcher:
        assert (await ending(fetcher, job(server.url))).content == b"here"
        end = await ending(fetcher, job(server.url))
    assert server.heads[1].startswith(b"GET /next HTTP/1.1\r\nHost: localhost\r\n")
    assert (end.why, "from a socket to a host" in str(end.error)) == ("redirect_refused", True)


@pytest.mark.parametrize("how", ["http+unix://{}/", "HTTP+UNIX://{}/", "http://{}/", "//{}/"])
async def test_no_redirect_leads_to_a_socket(how: str, tmp_path: Path) -> None:
    """Else any upstream could have the container engine asked."""
    async with at_socket(tmp_path / "app.sock", response(b"secret")) as secret:
        location = how.format(secret.url.partition("://")[2].lower())
        moved = response(b"", f"Location: {location}", status=302)
        async with answering(moved) as server, fetching() as fetcher:
            end = await ending(fetcher, job(server.url))
    assert (end.why, secret.heads) == ("redirect_refused", [])


async def test_a_socket_that_is_not_there(tmp_path: Path) -> None:
    """The message names the socket, not the name that stands in for it."""
    path = tmp_path / "missing.sock"
    async with fetching() as fetcher:
        end = await ending(fetcher, job(f"http+unix://{quote(str(path), safe='')}/"))
    assert (end.why, str(end.error)) == ("connect", f"cannot connect to the socket {path}: No such file or directory")


asked: list[str] = []


async def ask_socket(context: Context) -> str:
    """Get what the test names."""
    assert context.client is not None
    return (await context.client.get(asked[-1])).text


async def test_functions_reach_sockets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The client of a function takes the same addresses."""
    monkeypatch.chdir(tmp_path)  # whose own path may have capitals, which httpx makes small before we see them
    short = Path("/proc/self/cwd/app.sock")
    async with at_socket(short, response(b"hello")) as server, fetching() as fetcher:
        asked.append(server.url)
        end = await ending(fetcher, job(collect=f"{__name__}:ask_socket", deadline="5s"), deadline=5)
    assert (end.why, end.content) == ("ok", b"hello")


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http+unix://%2Frun%2Fapp.sock", None),
        ("http+unix://user:word@%2Frun%2Fapp.sock/path?query", None),
        ("http+unix:///run/app.sock", "percent-encoded"),
        ("http+unix://run/app.sock", "percent-encoded"),
        ("http+unix://%2Frun%2Fapp.sock:80/", "no port"),
        (f"http+unix://%2F{'a' * 107}/", "107 bytes"),
        ("http+unix://%2Frun%00/", "NUL"),
        ("https+unix://%2Frun%2Fapp.sock/", "no TLS over a socket"),
        ("http://%2Frun%2Fapp.sock/", "http+unix only"),
    ],
)
def test_what_a_socket_s_url_is(url: str, said: str | None) -> None:
    """Each of the usual mistakes gets its own words when the configuration is read."""
    problem = url_problem(url)
    assert (problem is None) if said is None else (problem is not None and said in problem)


def test_a_socket_s_url_is_shown_as_it_is_written() -> None:
    """Neither the user nor the query, and not the form in which it travels."""
    url = "http+unix://user:word@%2Frun%2FApp.sock/path?query"
    assert public_url(url) == public_url(carried(url)) == "http+unix://%2Frun%2FApp.sock/path"
