"""Connections that cannot be made: each of the many causes under its own reason."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from fetchd.fetch.client import ClientOptions, open_transport, tls_context
from fetchd.fetch.resolver import Names
from tests.fetch.child import run
from tests.fetch.room import SHORT, ending, fetcher_over, fetching, job
from tests.upstream import HOST, UpstreamProcess


async def test_a_private_ca(upstream: UpstreamProcess) -> None:
    """A company's own CA comes from the configuration, beside those of the system."""
    async with open_transport(ClientOptions(ca_file=upstream.ca_file)) as transport:
        for host in ("localhost", HOST):
            end = await ending(fetcher_over(transport), job(upstream.tls_url("ok", host=host)))
            assert end.why == "ok"


@pytest.mark.parametrize(
    ("port", "known", "why", "said"),
    [
        ("tls", False, "tls", "unable to get local issuer certificate"),
        ("tls_unknown", True, "tls", "unable to get local issuer certificate"),
        ("silent", True, "timeout_connect", "no connection within 0.25 s"),
        ("http", True, "timeout_connect", "no connection within 0.25 s"),
        ("syn_hang", True, "timeout_connect", "no connection within 0.25 s"),
    ],
)
async def test_tls_that_fails(port: str, known: bool, why: str, said: str, upstream: UpstreamProcess) -> None:
    """A certificate that nobody vouches for, and all the ways in which a handshake does not come about."""
    async with fetching(ca_file=upstream.ca_file if known else None) as fetcher:
        end = await ending(fetcher, job(upstream.tls_url("ok", port=port)))
    assert (end.why, end.phase) == (why, "connect")
    assert said in str(end.error)
    assert end.took < SHORT + 0.3


async def test_a_certificate_for_another_name(upstream: UpstreamProcess) -> None:
    """The name in the URL is the one that counts, however it was resolved."""
    names = Names(nameservers=(f"{HOST}:{upstream.ports['dns']}",))
    async with fetching(ca_file=upstream.ca_file, names=names) as fetcher:
        right = await ending(fetcher, job(upstream.tls_url("ok", host="good.test")))
        wrong = await ending(fetcher, job(upstream.tls_url("ok", host="other.good.test")))
    assert right.why == "ok"
    assert wrong.why == "tls"
    assert "not valid for 'other.good.test'" in str(wrong.error)


async def test_plain_http_that_answers_a_handshake() -> None:
    """A plain server that answers at once, so that the handshake fails instead of hanging."""

    async def talk(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(talk, HOST, 0)
    async with server, fetching() as fetcher:
        end = await ending(fetcher, job(f"https://{HOST}:{server.sockets[0].getsockname()[1]}/"))
    assert (end.why, end.phase) == ("tls", "connect")


async def test_a_handshake_that_is_hung_up_on() -> None:
    """What balancers without a server behind them do; the message is one that people can look up."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.close()

    server = await asyncio.start_server(talk, HOST, 0)
    async with server, fetching() as fetcher:
        port = server.sockets[0].getsockname()[1]
        end = await ending(fetcher, job(f"https://{HOST}:{port}/"))
    assert (end.why, str(end.error)) == ("connect", f"cannot connect to {HOST}:{port}: Connection reset by peer")


async def test_tls_that_is_spoken_to_in_plain(upstream: UpstreamProcess) -> None:
    """A URL with http where https was meant."""
    async with fetching() as fetcher:
        end = await ending(fetcher, job(upstream.url("ok", port="tls")))
    assert end.why == "protocol"


@pytest.mark.parametrize(
    ("port", "why"), [(None, "connect"), ("syn_hang", "timeout_connect"), ("silent", "timeout_read")]
)
async def test_tcp_that_fails(port: str | None, why: str, upstream: UpstreamProcess) -> None:
    """Refused, never accepted, accepted and then silent."""
    url = upstream.url("ok", port=port) if port else f"http://{HOST}:1/"
    async with fetching() as fetcher:
        end = await ending(fetcher, job(url))
    assert end.why == why
    assert end.error is not None
    assert end.error.transient


async def test_the_message_says_where(upstream: UpstreamProcess) -> None:
    """After redirects the job's own URL does not tell which host it was."""
    async with fetching() as fetcher:
        end = await ending(fetcher, job(upstream.url("loc/http:%2F%2F127.0.0.1:1%2F")))
    assert str(end.error) == "cannot connect to 127.0.0.1:1: Connection refused"


def test_out_of_descriptors(upstream: UpstreamProcess) -> None:
    """The upstream is well: it is this machine that lacks something, and the reason must say so; for names, too."""
    warm = [upstream.url("ok", host="good.test")]
    jobs = [{"url": upstream.url("ok", host=host)} for host in (HOST, "localhost", "fresh.good.test")]
    ends = run(jobs, descriptors=False, warm=warm, nameservers=[f"{HOST}:{upstream.ports['dns']}"])
    assert [end["why"] for end in ends] == ["local_resource"] * 3, ends
    assert all("Too many open files" in end["message"] for end in ends)


def test_a_ca_file_that_is_none(tmp_path: Path) -> None:
    """It is found out at the start, not with the first fetch."""
    (tmp_path / "ca.pem").write_text("nothing")
    for name in ("ca.pem", "missing.pem"):
        with pytest.raises(OSError, match=r".+"):
            tls_context(tmp_path / name)
