"""The test upstream itself: a mode that does not do what it says would make every test on it lie."""

from __future__ import annotations

import base64
import contextlib
import gzip
import hashlib
import http.client
import json
import re
import signal
import socket
import ssl
import struct
import subprocess
import sys
import zlib
from collections.abc import Iterator
from typing import Any, Final

import pytest

from tests.upstream import ROOT, UpstreamProcess

HOST: Final = "127.0.0.1"
PATIENCE: Final = 5.0
SHORT: Final = 0.1


@pytest.fixture(scope="module")
def upstream() -> Iterator[UpstreamProcess]:
    """One upstream for all tests here: none of them looks at what another one leaves behind."""
    with UpstreamProcess() as process:
        yield process


@contextlib.contextmanager
def asking(port: int, path: str) -> Iterator[socket.socket]:
    """Give a connection on which ``path`` has been asked for."""
    with socket.create_connection((HOST, port), timeout=PATIENCE) as client:
        client.sendall(f"GET /{path} HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode())
        yield client


def read_until(client: socket.socket, enough: bytes) -> bytes:
    """Return what arrives up to ``enough``; an end before it fails the test."""
    got = b""
    while enough not in got:
        piece = client.recv(65536)
        assert piece, f"closed after {got[:200]!r}"
        got += piece
    return got


def read_all(client: socket.socket) -> bytes:
    """Return what arrives until the server closes."""
    return b"".join(iter(lambda: client.recv(65536), b""))


def get(upstream: UpstreamProcess, path: str, **headers: str) -> tuple[int, http.client.HTTPMessage, bytes]:
    """Return status, headers and body of one well-behaved exchange."""
    client = http.client.HTTPConnection(HOST, upstream.ports["http"], timeout=PATIENCE)
    with contextlib.closing(client):
        client.request("GET", f"/{path}", headers={key.replace("_", "-"): value for key, value in headers.items()})
        response = client.getresponse()
        return response.status, response.headers, response.read()


def eventually(upstream: UpstreamProcess, mode: str, active: int) -> dict[str, Any]:
    """Return the counts as soon as ``active`` requests of ``mode`` are in hand; each look is a turn of its loop."""
    for _ in range(500):
        counted = upstream.stats()
        if counted["active"].get(mode, 0) == active:
            return counted
    raise AssertionError(f"{mode}: {counted}")


def test_ok_keeps_the_connection_and_changes(upstream: UpstreamProcess) -> None:
    """Deduplication and keep-alive can only be seen on a document that changes and a connection that stays."""
    client = http.client.HTTPConnection(HOST, upstream.ports["http"], timeout=PATIENCE)
    with contextlib.closing(client):
        bodies, ends = [], set()
        for _ in range(2):
            client.request("GET", "/ok")
            bodies.append(json.load(client.getresponse()))
            ends.add(client.sock.getsockname())
    assert bodies[1]["count"] == bodies[0]["count"] + 1
    assert len(ends) == 1


@pytest.mark.parametrize(
    ("path", "start", "last"),
    [
        ("hang", b"", b""),
        ("lat/30", b"", b""),
        ("hangbody", b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n", b"\r\n\r\nhello"),
        ("hugecl", b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000000000\r\n", b"\r\n\r\nhello"),
        ("drip/30", b"HTTP/1.1 200 OK\r\n", b"\r\n\r\n."),
        ("driphdr/30", b"HTTP/1.1 200 OK\r\n", b"X-Drip: ."),
        ("redirdrip/30", b"HTTP/1.1 302 Found\r\nLocation: /ok\r\n", b"\r\n\r\n."),
        ("1xx/30", b"HTTP/1.1 103 Early Hints\r\n", b"\r\n\r\n"),
    ],
)
def test_silence_after_the_beginning(upstream: UpstreamProcess, path: str, start: bytes, last: bytes) -> None:
    """A timeout is only tested by a server that neither answers nor closes, and forgets who has left."""
    with asking(upstream.ports["http"], path) as client:
        assert read_until(client, last).startswith(start)
        client.settimeout(SHORT)
        with pytest.raises(TimeoutError):
            client.recv(1)
    eventually(upstream, path.partition("/")[0], 0)


@pytest.mark.parametrize(
    ("path", "again"),
    [("drip", b"..."), ("driphdr", b"..."), ("redirdrip", b"..."), ("1xx", b"103 Early Hints")],
)
def test_drips_go_on(upstream: UpstreamProcess, path: str, again: bytes) -> None:
    """A drip that stops would be ended by a read timeout, and not need the deadline."""
    with asking(upstream.ports["http"], f"{path}/0.01") as client:
        for _ in range(3):
            read_until(client, again)


@pytest.mark.parametrize("path", ["flood", "infchunk", "floodhdr", "1xx/0"])
def test_floods_never_end_and_spare_others(upstream: UpstreamProcess, path: str) -> None:
    """A flood that starved the server itself would blame the daemon for the healthy job's silence."""
    with asking(upstream.ports["http"], path) as client:
        left = 4 * 2**20
        while left > 0:
            left -= len(client.recv(65536))
        assert get(upstream, "ok")[0] == 200
    eventually(upstream, path.partition("/")[0], 0)


@pytest.mark.parametrize(
    ("path", "status", "location"),
    [
        ("redir/2", 302, "/redir/1"),
        ("redir/0", 200, None),
        ("redir", 302, "/redir/-2"),
        ("slowredir/0.01", 302, "/slowredir/0.01/1"),
        ("slowredir/0.01/1", 302, "/slowredir/0.01/2"),
        ("loc/http%3A%2F%2Fa.test%2Fok%3Fb%3D1", 302, "http://a.test/ok?b=1"),
        ("loc/http://a.test/ok", 302, "http://a.test/ok"),
        ("locstatus/307/http%3A%2F%2Fa.test%2F", 307, "http://a.test/"),
    ],
)
def test_redirects(upstream: UpstreamProcess, path: str, status: int, location: str | None) -> None:
    """Each redirect leads where its path says."""
    got, headers, _ = get(upstream, path)
    assert (got, headers["Location"]) == (status, location)


@pytest.mark.parametrize(("path", "status"), [("big/3", 200), ("redirbig/3", 302)])
def test_big_bodies_are_whole(upstream: UpstreamProcess, path: str, status: int) -> None:
    """Only the reader's cap may cut these short."""
    got, _, body = get(upstream, path)
    assert (got, len(body)) == (status, 3 * 2**20)


@pytest.mark.parametrize(
    ("encodings", "unpack"),
    [
        ("gzip", gzip.decompress),
        ("deflate", zlib.decompress),
        ("gzip+gzip", lambda packed: gzip.decompress(gzip.decompress(packed))),
    ],
)
def test_bombs_unpack_to_what_they_promise(upstream: UpstreamProcess, encodings: str, unpack: Any) -> None:
    """A bomb with a wrong check sum would end as a decoding error, and the cap be tested by nothing."""
    _, headers, packed = get(upstream, f"bomb/{encodings}/5")
    assert headers["Content-Encoding"] == encodings.replace("+", ", ")
    assert len(packed) < 10_000
    assert unpack(packed) == bytes(5 * 2**20)


def test_encodings_right_and_wrong(upstream: UpstreamProcess) -> None:
    """Decoding is tested by streams that are right, cut, junk, or of a kind that was not asked for."""
    right = gzip.decompress(get(upstream, "gzipok")[2])
    assert right == zlib.decompress(get(upstream, "deflateok")[2])
    cut = zlib.decompressobj(31)
    assert right.startswith(cut.decompress(get(upstream, "truncgzip")[2]))
    assert not cut.eof
    with pytest.raises(gzip.BadGzipFile):
        gzip.decompress(get(upstream, "badgzip")[2])
    assert get(upstream, "bomb/br/1")[1]["Content-Encoding"] == "br"


@pytest.mark.parametrize(
    ("path", "response"),
    [
        ("short", rb".*Content-Length: 100\r\n\r\nhello"),
        ("twocl", rb".*Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello!"),
        ("close", b""),
    ],
)
def test_lies_about_the_length(upstream: UpstreamProcess, path: str, response: bytes) -> None:
    """These end by themselves, wrongly."""
    with asking(upstream.ports["http"], path) as client:
        assert re.fullmatch(response, read_all(client), re.DOTALL)


def test_extra_holds_a_second_response(upstream: UpstreamProcess) -> None:
    """A client that keeps the connection takes the poison for its next answer."""
    with asking(upstream.ports["http"], "extra") as client:
        assert read_until(client, b"poisoned").count(b"HTTP/1.1 200") == 2


def test_header_bomb_is_a_megabyte(upstream: UpstreamProcess) -> None:
    """A client must stop reading headers before they end, for here they do."""
    with asking(upstream.ports["http"], "hdrbomb") as client:
        assert len(read_until(client, b"\r\n\r\nhello")) > 2**20


def test_rst_resets(upstream: UpstreamProcess) -> None:
    """A reset and an orderly end are different errors to a client."""
    with asking(upstream.ports["http"], "rst") as client, pytest.raises(ConnectionResetError):
        client.recv(1)


def test_once_closes_at_the_second_request(upstream: UpstreamProcess) -> None:
    """The stale connection is a client's most frequent surprise."""
    with asking(upstream.ports["http"], "once") as client:
        read_until(client, b"}")
        client.sendall(b"GET /once HTTP/1.1\r\n\r\n")
        assert client.recv(1) == b""


def test_statuses_and_headers(upstream: UpstreamProcess) -> None:
    """What a path asks for is what comes."""
    assert get(upstream, "status/418")[0] == 418
    assert get(upstream, "status/204")[2] == b""
    assert get(upstream, "status/abc")[0] == 400
    assert get(upstream, "nosuchmode")[0] == 404
    status, headers, _ = get(upstream, "retryafter/86400")
    assert (status, headers["Retry-After"]) == (503, "86400")
    status, headers, _ = get(upstream, "retryafter/Wed,%2001%20Jan%202025%2000:00:00%20GMT/429")
    assert (status, headers["Retry-After"]) == (429, "Wed, 01 Jan 2025 00:00:00 GMT")
    _, headers, body = get(upstream, "charset/punycode")
    assert (headers["Content-Type"], len(body)) == ("text/plain; charset=punycode", 2**20)


def test_each_cookie_is_another(upstream: UpstreamProcess) -> None:
    """A jar grows by names, not by values; what came back is shown."""
    answers = [get(upstream, "cookie", Cookie="a=b") for _ in range(2)]
    assert len({headers["Set-Cookie"].partition("=")[0] for _, headers, _ in answers}) == 2
    assert answers[0][2] == b"a=b"


def test_etag_knows_its_own(upstream: UpstreamProcess) -> None:
    """304 comes only to who sends the validator of the same version."""
    status, headers, body = get(upstream, "etag/v1")
    assert (status, headers["ETag"]) == (200, '"v1"')
    assert body
    assert headers["Last-Modified"]
    assert get(upstream, "etag/v1", If_None_Match='"v1"')[0::2] == (304, b"")
    assert get(upstream, "etag/v2", If_None_Match='"v1"')[0] == 200


@pytest.mark.parametrize("chunked", [False, True])
def test_echo_shows_the_request(upstream: UpstreamProcess, chunked: bool) -> None:
    """What the daemon sends can only be judged by what arrived, on a connection that stays in step."""
    client = http.client.HTTPConnection(HOST, upstream.ports["http"], timeout=PATIENCE)
    with contextlib.closing(client):
        for _ in range(2):
            body = iter([b"ab", b"cd"]) if chunked else b"abcd"
            client.request("PUT", "/echo/x?y=z", body=body, headers={"X-Key": "1"}, encode_chunked=chunked)
            seen = json.load(client.getresponse())
    assert (seen["method"], seen["path"], seen["query"]) == ("PUT", "/echo/x", "y=z")
    assert ["x-key", "1"] in seen["headers"]
    assert base64.b64decode(seen["body"]) == b"abcd"
    assert seen["sha256"] == hashlib.sha256(b"abcd").hexdigest()


def test_noread_stalls_the_writer(upstream: UpstreamProcess) -> None:
    """A write timeout needs a server that takes no more."""
    with asking(upstream.ports["http"], "noread/0.3") as client:
        client.settimeout(SHORT)
        with pytest.raises(TimeoutError):
            client.sendall(bytes(32 * 2**20))


def test_stats_count_hundreds_at_once(upstream: UpstreamProcess) -> None:
    """The peak is the proof of no overlap, so it must be exact, with many connections too."""
    with contextlib.ExitStack() as stack:
        for _ in range(300):
            stack.enter_context(asking(upstream.ports["http"], "lat/60"))
        counted = eventually(upstream, "lat", 300)
        assert counted["peak"]["lat"] == 300
        assert counted["open"] >= 300
    after = eventually(upstream, "lat", 0)
    assert after["accepted"] > counted["accepted"]
    assert after["requests"]["lat"] >= 300


def test_tls_is_verified_or_not(upstream: UpstreamProcess) -> None:
    """One port is to be trusted by its CA's file, the other by nobody."""
    context = ssl.create_default_context(cafile=upstream.ca_file)

    def ask(port: str, name: str) -> bytes:
        address = (HOST, upstream.ports[port])
        with (
            socket.create_connection(address, timeout=PATIENCE) as raw,
            context.wrap_socket(raw, server_hostname=name) as client,
        ):
            client.sendall(b"GET /ok HTTP/1.1\r\n\r\n")
            return read_until(client, b"}")

    for name in ("localhost", HOST, "good.test"):
        assert ask("tls", name).startswith(b"HTTP/1.1 200")
    with pytest.raises(ssl.SSLCertVerificationError, match="not valid for"):
        ask("tls", "other.test")
    with pytest.raises(ssl.SSLCertVerificationError, match="issuer"):
        ask("tls_unknown", "localhost")


def test_connecting_and_handshakes_hang(upstream: UpstreamProcess) -> None:
    """Hanging before the first byte is a phase of its own, twice."""
    with pytest.raises(TimeoutError):
        socket.create_connection((HOST, upstream.ports["syn_hang"]), timeout=SHORT)
    with socket.create_connection((HOST, upstream.ports["silent"]), timeout=SHORT) as client:
        client.sendall(b"hello")
        with pytest.raises(TimeoutError):
            client.recv(1)


def look_up(port: int, name: str, kind: int, patience: float) -> tuple[int, bytes] | None:
    """Return the code of the name server's answer and its last record's address, or None where none comes."""
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
    query = struct.pack(">HHHHHH", 4711, 0x0100, 1, 0, 0, 0) + labels + b"\0" + struct.pack(">HH", kind, 1)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(patience)
        client.sendto(query, (HOST, port))
        try:
            answer = client.recv(512)
        except TimeoutError:
            return None
    number, flags, _, records, _, _ = struct.unpack_from(">HHHHHH", answer)
    assert number == 4711
    assert answer[12 : len(query)] == query[12:]
    return flags & 0xF, answer[-4:] if records else b""


@pytest.mark.parametrize(
    ("name", "kind", "answer"),
    [
        ("a.good.test", 1, (0, b"\x7f\0\0\x01")),
        ("A.Good.Test", 1, (0, b"\x7f\0\0\x01")),
        ("a.good.test", 28, (0, b"")),
        ("a.missing.test", 1, (3, b"")),
        ("a.broken.test", 1, (2, b"")),
    ],
)
def test_names(upstream: UpstreamProcess, name: str, kind: int, answer: tuple[int, bytes]) -> None:
    """Each way in which a name fails has its own ending, and each question is counted."""
    assert look_up(upstream.ports["dns"], name, kind, PATIENCE) == answer
    assert upstream.stats()["names"][name.lower()] >= 1


@pytest.mark.parametrize(("port", "name"), [("dns", "a.hung.test"), ("dns_silent", "a.good.test")])
def test_names_that_hang(upstream: UpstreamProcess, port: str, name: str) -> None:
    """One name may be dead, or the whole resolver."""
    assert look_up(upstream.ports[port], name, 1, SHORT) is None


def test_upstream_dies_with_its_parent() -> None:
    """A test run that is killed must not leave servers behind: their stderr ends only when they do."""
    script = """if True:
        import os, signal
        from tests.upstream import UpstreamProcess
        with UpstreamProcess() as upstream:
            os.write(1, str(upstream.ports["http"]).encode())
            os.kill(os.getpid(), signal.SIGKILL)
    """
    parent = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, timeout=PATIENCE)
    assert parent.returncode == -signal.SIGKILL
    assert parent.stderr == b""
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((HOST, int(parent.stdout)), timeout=PATIENCE)


@pytest.mark.parametrize("how", ["stdin", "sigterm"])
def test_demo_upstream_serves_and_stops(how: str) -> None:
    """The demo's own server says its port, and ends at once and without noise, whatever is in hand."""
    command = [sys.executable, "-m", "fetchd.demo.upstream"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        port = int(process.stdout.readline())
        with asking(port, "hang"), asking(port, "ok") as client:
            read_until(client, b"}")
            if how == "sigterm":
                process.terminate()
            _, noise = process.communicate(timeout=PATIENCE)
    assert (process.returncode, noise) == (0, b"")
