"""Proxies: real ones and hostile ones. Who is told which secret, and whose fault it was."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import socket
import ssl
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import trustme
from yarl import URL

from fetchd.fetch.auth import basic
from fetchd.fetch.proxies import Proxies, Proxy
from fetchd.fetch.resolver import Names
from fetchd.job import Job
from tests.fetch.room import SHORT, answering, ending, fetching, job, response, settled
from tests.processes import descriptors
from tests.upstream import HOST, UpstreamProcess

WORD = "pass:w@rd"
USER = f"user:{WORD.replace(':', '%3A').replace('@', '%40')}@"
LET_IN = basic("user", WORD)
TINYPROXY = shutil.which("tinyproxy")


def patient(url: str, **keys: Any) -> Job:
    """Return a job that is to succeed, however busy the machine is."""
    return job(url, timeout="5s", **keys)


@pytest.fixture(scope="module")
def tinyproxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Give the address of a real proxy that asks for a user and a password."""
    if TINYPROXY is None:
        pytest.skip("needs the Debian package tinyproxy")
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port = probe.getsockname()[1]
    file = tmp_path_factory.mktemp("proxy") / "tinyproxy.conf"
    file.write_text(f"Port {port}\nListen {HOST}\nTimeout 20\nBasicAuth user word\n")
    process = subprocess.Popen([TINYPROXY, "-d", "-c", file], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(2000):
            with contextlib.suppress(OSError), socket.create_connection((HOST, port), 1):
                break
            assert process.poll() is None
        yield f"{HOST}:{port}"
    finally:
        process.kill()
        process.wait()


async def test_a_real_proxy(tinyproxy: str, upstream: UpstreamProcess) -> None:
    """Plain requests are forwarded, others tunnelled, and the target hears of neither user nor password."""
    async with fetching(ca_file=upstream.ca_file) as fetcher:
        for url in (upstream.url("echo"), upstream.tls_url("echo")):
            wanted = patient(url, proxy=f"http://user:word@{tinyproxy}", headers={"X-Own": "1"})
            for _ in range(2):
                end = await ending(fetcher, wanted, deadline=5)
                assert end.why == "ok", end.error
                heard = dict(json.loads(end.content)["headers"])
                assert heard["x-own"] == "1"
                assert "proxy-authorization" not in heard


@pytest.mark.parametrize(("user", "secure"), [("", False), ("", True), ("user:wrong@", True)])
async def test_a_real_proxy_that_refuses(user: str, secure: bool, tinyproxy: str, upstream: UpstreamProcess) -> None:
    """A wrong password is the proxy's matter, not the target's, and trying again does not help."""
    wanted = patient(upstream.tls_url("echo") if secure else upstream.url("echo"), proxy=f"http://{user}{tinyproxy}")
    async with fetching(ca_file=upstream.ca_file) as fetcher:
        end = await ending(fetcher, wanted, deadline=5)
    assert (end.why, end.progress.attempts) == ("connect", 1)
    assert str(end.error).startswith(f"the proxy {tinyproxy} ")
    assert "wrong" not in str(end.error)


@dataclass
class Relay:
    """A proxy of our own. ``heads`` is what it was told, before any tunnel."""

    address: str
    heads: list[bytes] = field(default_factory=list)
    certificates: list[Any] = field(default_factory=list)
    """What its clients have shown."""


@asynccontextmanager
async def relaying(tls: ssl.SSLContext | None = None) -> AsyncIterator[Relay]:
    """Give a proxy that tunnels, and forwards plain requests to wherever they say."""
    relay = Relay("")
    talks: set[asyncio.Task[None] | None] = set()

    async def pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while chunk := await reader.read(2**16):
            writer.write(chunk)
            await writer.drain()
        writer.close()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        talks.add(asyncio.current_task())
        with contextlib.closing(writer), contextlib.suppress(OSError, EOFError):
            head = await reader.readuntil(b"\r\n\r\n")
            relay.heads.append(head)
            relay.certificates.append(writer.get_extra_info("peercert") or None)
            method, target, _ = head.split(b"\r\n")[0].decode().split(" ")
            url = URL(f"//{target}") if method == "CONNECT" else URL(target)
            far_reader, far_writer = await asyncio.open_connection(url.host, url.port)
            if method == "CONNECT":
                writer.write(b"HTTP/1.1 200 Connected\r\n\r\n")
            else:
                far_writer.write(head.replace(target.encode(), url.raw_path_qs.encode(), 1))
            with contextlib.closing(far_writer):
                await asyncio.gather(pipe(reader, far_writer), pipe(far_reader, writer))

    server = await asyncio.start_server(talk, HOST, 0, ssl=tls)
    with contextlib.closing(server):  # not waiting, as newer Pythons do, for connections that clients keep
        relay.address = f"{'https' if tls else 'http'}://{USER}localhost:{server.sockets[0].getsockname()[1]}"
        yield relay
    await asyncio.gather(*filter(None, talks))  # whoever spoke to it has gone


async def test_each_hears_its_own(upstream: UpstreamProcess) -> None:
    """Behind a tunnel the target's secrets are not the proxy's to read; the proxy's never go further."""
    async with relaying() as relay, fetching(ca_file=upstream.ca_file) as fetcher:
        secure = patient(upstream.tls_url("echo"), proxy=relay.address, headers={"X-Api-Key": "canary"})
        for _ in range(3):
            end = await ending(fetcher, secure, deadline=5)
            assert end.why == "ok", end.error
            assert "proxy-authorization" not in dict(json.loads(end.content)["headers"])
        [head] = relay.heads  # one tunnel for all three
        assert b"canary" not in head
        assert head.startswith(b"CONNECT localhost:%d HTTP/1.1\r\n" % upstream.ports["tls"])
        assert f"Proxy-Authorization: {LET_IN}\r\n".encode() in head
        assert b"User-Agent: fetchd/" in head
        end = await ending(fetcher, patient(upstream.url("echo"), proxy=relay.address), deadline=5)
        assert end.why == "ok", end.error
        assert relay.heads[1].startswith(f"GET {upstream.url('echo')} HTTP/1.1\r\n".encode())
        assert relay.heads[1].count(b"Authorization") == 1


async def test_a_proxy_that_is_spoken_to_over_tls(upstream: UpstreamProcess, tmp_path: Path) -> None:
    """What a job says of TLS is for its target: a proxy is judged as by everybody, and sees no certificate of jobs."""
    ca, both, mine = trustme.CA(), tmp_path / "both.pem", tmp_path / "mine.pem"
    both.write_bytes(ca.cert_pem.bytes() + upstream.ca_file.read_bytes())
    ca.issue_cert("me.test").private_key_and_cert_chain_pem.write_to_path(str(mine))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    ca.issue_cert("localhost").configure_cert(context)
    ca.configure_trust(context)
    context.verify_mode = ssl.CERT_OPTIONAL
    own = {"ca_file": str(upstream.ca_file), "cert": str(mine)}
    async with relaying(context) as relay, fetching(ca_file=both) as fetcher:
        for url in (upstream.url("echo"), upstream.tls_url("echo")):
            for tls in ({}, own):
                end = await ending(fetcher, patient(url, proxy=relay.address, tls=tls), deadline=5)
                assert end.why == "ok", end.error
    assert relay.certificates == [None] * len(relay.heads)
    async with relaying(context) as relay, fetching(ca_file=upstream.ca_file) as fetcher:
        end = await ending(fetcher, patient(upstream.tls_url(), proxy=relay.address), deadline=5)
    assert end.why == "tls"
    assert str(end.error).startswith("the proxy localhost:")
    assert "unknown CA" in str(end.error)


async def test_the_target_s_certificate_counts_behind_a_tunnel(upstream: UpstreamProcess) -> None:
    """A proxy is on the way by design: it must not be able to pass for the target."""
    async with relaying() as relay, fetching() as fetcher:
        end = await ending(fetcher, patient(upstream.tls_url(), proxy=relay.address), deadline=5)
    assert end.why == "tls"
    assert "unknown CA" in str(end.error)
    assert "proxy" not in str(end.error)


def hostile(
    first: bytes, every: float = 0.0
) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]:
    """Return a proxy that answers ``first``, a byte at a time ``every`` so many seconds, or at once and hangs up."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.closing(writer), contextlib.suppress(OSError, EOFError):
            await reader.readuntil(b"\r\n\r\n")
            for start in range(0, len(first), 1 if every else len(first)):
                writer.write(first[start : start + 1] if every else first)
                await writer.drain()
                await asyncio.sleep(every)

    return talk


def refusing(status: int) -> bytes:
    """Return an answer that repeats what it was told, as some proxies do."""
    return response(b"user pass:w@rd", f"X-Told: {LET_IN}", status=status)


@pytest.mark.parametrize(
    ("answer", "every", "why", "said", "transient"),
    [
        (refusing(407), 0.0, "connect", "wants another user or password: it answered 407", False),
        (refusing(403), 0.0, "connect", "refuses to connect to the host: it answered 403", False),
        (refusing(502), 0.0, "connect", "refuses to connect to the host: it answered 502", True),
        (refusing(302), 0.0, "connect", "refuses to connect to the host: it answered 302", False),
        (b"", 0.0, "connect", "closed the connection", True),
        (b"SSH-2.0-pass:w@rd\r\n\r\n", 0.0, "connect", "the response is broken", True),
        (b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 100, 0.02, "timeout_connect", "gave no connection within", True),
        (b"HTTP/1.1 103 Hints\r\n\r\n" * 100, 0.0, "connect", "without end", True),
    ],
    ids=["407", "403", "502", "302", "gone", "garbage", "drip", "informational"],
)
async def test_proxies_that_do_not_connect(answer: bytes, every: float, why: str, said: str, transient: bool) -> None:
    """Each is the proxy's fault, and says so; what it sends is not repeated, for it may be the password."""
    server = await asyncio.start_server(hostile(answer, every), HOST, 0)
    port = server.sockets[0].getsockname()[1]
    tasks, files = asyncio.all_tasks(), descriptors()
    async with server, fetching() as fetcher:
        end = await ending(fetcher, job("https://target.test/", proxy=f"http://{USER}{HOST}:{port}"))
    assert (end.why, end.phase) == (why, "connect"), end.error
    assert str(end.error).startswith(f"the proxy {HOST}:{port}")
    assert said in str(end.error)
    assert end.error is not None
    assert end.error.transient is transient
    assert not any(word in str(end.error) for word in ("user:", WORD, "w%40rd", LET_IN.split()[1]))
    assert end.took < SHORT + 0.3
    await settled(tasks, files)


@pytest.mark.parametrize(
    ("port", "secure", "why", "said"),
    [
        ("silent", True, "timeout_connect", "the proxy 127.0.0.1:{port} gave no connection within 0.25 s"),
        ("silent", False, "timeout_read", "no response through the proxy 127.0.0.1:{port} within 0.25 s"),
        ("syn_hang", True, "timeout_connect", "the proxy 127.0.0.1:{port} gave no connection within 0.25 s"),
        ("syn_hang", False, "timeout_connect", "the proxy 127.0.0.1:{port} gave no connection within 0.25 s"),
        ("", True, "connect", "cannot connect to the proxy 127.0.0.1:{port}: Connection refused"),
        ("", False, "connect", "cannot connect to the proxy 127.0.0.1:{port}: Connection refused"),
    ],
)
async def test_proxies_that_are_not_there(
    port: str, secure: bool, why: str, said: str, upstream: UpstreamProcess
) -> None:
    """A proxy that hangs ends with the connect timeout, as a host does."""
    at = upstream.ports[port] if port else 1
    url = "https://target.test/" if secure else "http://target.test/"
    async with fetching() as fetcher:
        end = await ending(fetcher, job(url, proxy=f"http://{USER}{HOST}:{at}"))
    assert (end.why, str(end.error)) == (why, said.format(port=at))
    assert end.took < SHORT + 0.3


async def test_a_proxy_without_an_address(upstream: UpstreamProcess) -> None:
    """It is the proxy's name that is missing; that of the target is never asked for here."""
    names = Names(nameservers=(f"{HOST}:{upstream.ports['dns']}",), timeout=0.2)
    async with fetching(names=names) as fetcher:
        end = await ending(fetcher, job("https://target.hung.test/", proxy="http://missing.test:3128"))
    assert end.why == "dns"
    assert str(end.error).startswith("cannot resolve the proxy missing.test: ")


async def test_cut_off_at_every_step(upstream: UpstreamProcess) -> None:
    """Tunnels are made in many steps, and a cancellation at any of them must leave nothing behind."""
    tasks, files = asyncio.all_tasks(), descriptors()
    async with relaying() as relay, fetching(ca_file=upstream.ca_file) as fetcher:
        wanted = patient(upstream.tls_url(), proxy=relay.address)
        for steps in range(0, 60, 2):
            task = asyncio.create_task(ending(fetcher, wanted, deadline=5))
            for _ in range(steps):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task])
        assert (await ending(fetcher, wanted, deadline=5)).why == "ok"
    await settled(tasks, files)


async def test_every_hop_has_its_own_way(upstream: UpstreamProcess) -> None:
    """A redirect may lead to a host that is asked without the proxy; the target's own name is then looked up here."""
    moved = response(b"", f"Location: {upstream.url('echo')}", status=302)
    async with answering(moved) as proxy, fetching() as fetcher:
        proxies = Proxies.of({"http_proxy": proxy.url.replace("//", f"//{USER}"), "no_proxy": HOST})
        async with fetching(proxies=proxies) as fetcher:
            end = await ending(fetcher, job("http://target.test/", proxy="env"))
    assert end.why == "ok", end.error
    assert proxy.heads[0].startswith(b"GET http://target.test/ HTTP/1.1\r\n")
    assert LET_IN.encode() in proxy.heads[0]
    assert "proxy-authorization" not in dict(json.loads(end.content)["headers"])


async def test_the_environment_counts_for_those_who_ask(upstream: UpstreamProcess) -> None:
    """A proxy left over in a shell must not see the tokens of jobs that do not want one."""
    async with (
        answering(response(b"proxy")) as proxy,
        fetching(proxies=Proxies.of({"ALL_PROXY": proxy.url})) as fetcher,
    ):
        assert (await ending(fetcher, job("http://target.test/", proxy="env"))).content == b"proxy"
        assert (await ending(fetcher, job(upstream.url()))).content != b"proxy"


async def test_a_proxy_of_the_environment_that_cannot_be_used() -> None:
    """To go without it would show the target who asks, or send what was to stay inside."""
    async with fetching(proxies=Proxies.of({"all_proxy": "socks5://user:canary@127.0.0.1:1"})) as fetcher:
        end = await ending(fetcher, job("http://127.0.0.1:1/", proxy="env"))
    assert end.why == "protocol"
    assert str(end.error) == "the proxy cannot be used: $all_proxy is not the address of an http or https proxy"


def way(environment: dict[str, str], url: str) -> str:
    """Return the proxy that ``url`` is asked through, as shown; "" for none."""
    found = Proxies.of(environment).through("env", URL(url))
    return found.shown if found else ""


@pytest.mark.parametrize(
    ("environment", "url", "expected"),
    [
        ({"http_proxy": "http://a:1"}, "http://h.test/", "a:1"),
        ({"http_proxy": "http://a:1"}, "https://h.test/", ""),
        ({"http_proxy": "a:1"}, "http://h.test/", "a:1"),
        ({"http_proxy": "http://a:1", "HTTP_PROXY": "http://b:1"}, "http://h.test/", "a:1"),
        ({"http_proxy": "", "HTTP_PROXY": "http://b:1"}, "http://h.test/", "b:1"),
        ({"HTTP_PROXY": "http://b:1", "REQUEST_METHOD": "GET"}, "http://h.test/", ""),
        ({"HTTPS_PROXY": "http://b:1", "REQUEST_METHOD": "GET"}, "https://h.test/", "b:1"),
        ({"https_proxy": "https://a"}, "https://h.test/", "a:443"),
        ({"ALL_PROXY": "http://c:1"}, "https://h.test/", "c:1"),
        ({"all_proxy": "http://c:1", "https_proxy": "http://[::1]:3128"}, "https://h.test/", "[::1]:3128"),
        ({}, "http://h.test/", ""),
    ],
)
def test_which_variable_counts(environment: dict[str, str], url: str, expected: str) -> None:
    """As curl(1) has it, for that is what people try it with."""
    assert way(environment, url) == expected


@pytest.mark.parametrize(
    ("exempt", "url", "direct"),
    [
        ("*", "http://h.test/", True),
        ("h.test", "http://h.test/", True),
        ("H.Test", "http://h.test./", True),
        ("h.test", "http://a.h.test/", True),
        (".h.test", "http://h.test/", True),
        ("*.h.test", "http://a.h.test/", True),
        ("h.test", "http://ah.test/", False),
        ("other.test, h.test", "http://h.test/", True),
        ("other.test h.test", "http://h.test/", True),
        ("h.test:8080", "http://h.test:8080/", True),
        ("h.test:8080", "http://h.test/", False),
        ("h.test:80", "http://h.test/", True),
        ("10.0.0.0/8", "http://10.1.2.3/", True),
        ("10.0.0.0/8", "http://11.1.2.3/", False),
        ("10.1.2.3", "http://10.1.2.3:8080/", True),
        ("10.1.2.3:80", "http://10.1.2.3:8080/", False),
        ("2.3", "http://10.1.2.3/", False),
        ("::1", "http://[::1]:8080/", True),
        ("[::1]", "http://[::1]/", True),
        ("[::1]:81", "http://[::1]/", False),
        ("fd00::/8", "http://[fd12::1]/", True),
        ("fd00::/8", "http://10.1.2.3/", False),
        (" ,, ", "http://h.test/", False),
        ("]:x[", "http://h.test/", False),
    ],
)
def test_who_is_asked_without_a_proxy(exempt: str, url: str, direct: bool) -> None:
    """Names with all below them, addresses, networks, ports; what is none of that exempts nobody."""
    assert way({"all_proxy": "http://a:1", "NO_PROXY": exempt}, url) == ("" if direct else "a:1")


@pytest.mark.parametrize(("user", "sent"), [("", ""), ("@", ""), ("u@", "u:"), (":p@", ":p"), ("u:p%40@", "u:p@")])
def test_who_asks_a_proxy(user: str, sent: str) -> None:
    """Some want a key as the user, or as the password, and nothing else; curl(1) sends either."""
    assert Proxy.of(f"http://{user}a:1").authorization == (basic(*sent.split(":")) if sent else "")


def test_a_password_is_not_shown() -> None:
    """Neither by what shows a proxy nor by what shows the environment's."""
    proxies = Proxies.of({"all_proxy": f"http://{USER}a:1"})
    assert proxies.http is not None
    assert proxies.http.authorization == LET_IN
    assert not any(word in repr(proxies) for word in (WORD, "w%40rd", LET_IN.split()[1]))


@pytest.mark.parametrize("text", ["socks5://a:1", "http://", "http://a:0", "http://a:99999", "ftp://a", "://", "]["])
def test_what_is_no_proxy(text: str) -> None:
    """It is refused without being repeated: it may hold a password."""
    with pytest.raises(ValueError, match=r"^is not the address of an http or https proxy$"):
        Proxy.of(text)
