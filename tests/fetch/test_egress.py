"""Jobs that may reach public addresses only: whatever name, spelling, redirect or detour leads to others."""

from __future__ import annotations

import socket
from pathlib import Path

import httpx
import pytest
from aiohttp.abc import AbstractResolver, ResolveResult

from fetchd.fetch.network import Network, RefusedAddressError, chosen, is_private
from fetchd.fetch.proxies import Proxies
from fetchd.fetch.resolver import Names
from fetchd.secret import Secret
from tests.fetch.room import answering, connections, ending, fetcher_over, fetching, job, response
from tests.upstream import UpstreamProcess

PRIVATE = """
    127.0.0.1 127.255.0.9 0.0.0.0 10.0.0.1 172.16.0.1 172.31.255.255 192.168.1.1 169.254.169.254 100.64.0.1
    100.127.255.255 192.0.0.1 198.18.0.1 224.0.0.1 239.255.255.250 240.0.0.1 255.255.255.255 ::1 :: fe80::1
    fe80::1%eth0 fc00::1 fd12:3456::1 ff02::1 fec0::1 ::ffff:127.0.0.1 ::ffff:10.0.0.1 ::127.0.0.1
    64:ff9b::127.0.0.1 64:ff9b::a00:1 64:ff9b:1::808:808 2002:7f00:1:: 2002:a00:1::1 2001:db8::1 nonsense
"""
PUBLIC = "8.8.8.8 93.184.216.34 172.32.0.1 2001:4860:4860::8888 ::ffff:8.8.8.8 64:ff9b::808:808 2002:808:808::1"


class Answering(AbstractResolver):
    """Answers each name with the same addresses."""

    def __init__(self, *addresses: str) -> None:
        self.addresses = addresses

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Answer."""
        return answers(*self.addresses)

    async def close(self) -> None:
        """Nothing is open."""


def answers(*addresses: str) -> list[ResolveResult]:
    """Return ``addresses`` as resolvers tell them."""
    versions = [socket.AF_INET6 if ":" in address else socket.AF_INET for address in addresses]
    return [
        {"hostname": "a.test", "host": address, "port": 0, "family": version, "proto": 0, "flags": 0}
        for address, version in zip(addresses, versions, strict=True)
    ]


@pytest.mark.parametrize("address", PRIVATE.split())
def test_what_is_private(address: str) -> None:
    """Each range is somebody's way in, and so is each IPv6 form that leads to one of them."""
    assert is_private(address)


@pytest.mark.parametrize("address", PUBLIC.split())
def test_what_is_public(address: str) -> None:
    """A rule that refuses these is one that people switch off."""
    assert not is_private(address)


def test_only_public_addresses_are_tried() -> None:
    """A name with a good and a bad address must not lead to the bad one once the good one is down."""
    network = Network(deny_private=True)
    left = chosen(network, "a.test", answers("127.0.0.1", "8.8.8.8", "fd00::1", "2001:4860:4860::8888"))
    assert [address["host"] for address in left] == ["8.8.8.8", "2001:4860:4860::8888"]
    with pytest.raises(RefusedAddressError, match=r"a\.test"):
        chosen(network, "a.test", answers("10.0.0.1"))


@pytest.mark.parametrize(
    ("host", "why"),
    [
        *[(host, "address_refused") for host in ("127.0.0.1", "[::1]", "2130706433", "127.1", "localhost")],
        *[(host, "address_refused") for host in ("[::ffff:7f00:1]", "[64:ff9b::7f00:1]")],
        *[(host, "dns") for host in ("0x7f.1", "0x7f000001")],  # to our resolver these are names, and there are none
        ("0177.0.0.1", "protocol"),  # to our client this is neither
    ],
)
async def test_however_it_is_written(host: str, why: str) -> None:
    """Some spellings are addresses to some resolvers only, and none may reach the server that listens there."""
    names = Names(timeout=0.1, attempts=1)
    async with answering(response(b"secret")) as server, fetching(names=names) as fetcher:
        port = server.url.rpartition(":")[2]
        # A configuration may not hold some of them; what a URL is filled in with may.
        url = Secret(f"http://{host}:{port}/")
        end = await ending(fetcher, job("http://a.test/", deny_private=True).model_copy(update={"url": url}))
    assert (end.why, server.heads) == (why, [])


@pytest.mark.parametrize("address", ["127.0.0.1", "::1", "169.254.169.254", "::ffff:127.0.0.1"])
async def test_names_that_lead_inside(address: str) -> None:
    """The address that is judged is the one that is connected to: a second look-up could answer otherwise."""
    async with answering(response(b"secret")) as server, fetching(ask=Answering(address)) as fetcher:
        port = server.url.rpartition(":")[2]
        end = await ending(fetcher, job(f"http://public.test:{port}/", deny_private=True, retries=3))
    assert (end.why, end.progress.attempts, server.heads) == ("address_refused", 1, [])
    assert "public.test" in str(end.error)
    assert "deny_private" in str(end.error)
    assert end.error is not None
    assert not end.error.transient


async def test_connections_of_others_are_not_used() -> None:
    """An idle connection of a job that may go there would lead past the rule."""
    async with answering(response(b"secret")) as server, fetching() as fetcher:
        assert (await ending(fetcher, job(server.url))).why == "ok"
        assert (await ending(fetcher, job(server.url, deny_private=True))).why == "address_refused"
        assert (await ending(fetcher, job(server.url))).why == "ok"
    assert len(server.heads) == 2


class _PublicSite(httpx.AsyncBaseTransport):
    """Answers for public.test, where no test can go, with a redirect; the rest is left to real connections."""

    def __init__(self, real: httpx.AsyncBaseTransport, to: str) -> None:
        self._real = real
        self._to = to

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if request.url.host == "public.test":
            return httpx.Response(302, headers={"Location": self._to}, stream=httpx.ByteStream(b""))
        return await self._real.handle_async_request(request)


@pytest.mark.parametrize("to", ["http://127.0.0.1:{port}/", "http://inside.test:{port}/", "http://[::1]:{port}/"])
async def test_redirects_inside(to: str) -> None:
    """The classic way in: a public page that redirects to the machine's own services."""
    async with answering(response(b"secret")) as server, connections(ask=Answering("127.0.0.1")) as real:
        site = _PublicSite(real, to.format(port=server.url.rpartition(":")[2]))
        end = await ending(fetcher_over(site), job("http://public.test/", deny_private=True))
    assert (end.why, server.heads) == ("address_refused", [])


async def test_a_socket_is_of_this_machine(tmp_path: Path) -> None:
    """Behind sockets are the container engine and the like."""
    path = str(tmp_path / "app.sock").replace("/", "%2F")
    async with fetching() as fetcher:
        end = await ending(fetcher, job(f"http+unix://{path}/", deny_private=True, retries=3))
    assert (end.why, end.progress.attempts) == ("address_refused", 1)


@pytest.mark.parametrize("named", [True, False], ids=["named", "environment"])
async def test_a_proxy_would_look_names_up_itself(named: bool, upstream: UpstreamProcess) -> None:
    """Nobody can judge an address that somebody else looks up, so nothing is sent."""
    address = upstream.url("")
    proxies = Proxies.of({"http_proxy": address})
    async with fetching(proxies=proxies) as fetcher:
        end = await ending(fetcher, job("http://public.test/", deny_private=True, proxy=address if named else "env"))
    assert end.why == "address_refused"
    assert "proxy" in str(end.error)
