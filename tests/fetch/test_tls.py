"""TLS of a job's own: whom it trusts, who it says it is, and in which words it fails."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import hashlib
import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import trustme
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from fetchd.body import on_disk
from fetchd.fetch.tls import Contexts, identity_problem, tls_context, unverified
from fetchd.fetch.transport import Transport
from fetchd.job import Job, Tls
from tests.fetch.room import connections, ending, fetcher_over, fetching, job, response
from tests.upstream import HOST, UpstreamProcess

NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
PASSWORD = "canary"
LONG_AGO = datetime.now(UTC) - timedelta(days=1)


def patient(url: str, tls: dict[str, Any]) -> Job:
    """Return a job that is to succeed, however busy the machine is."""
    return job(url, timeout="5s", tls=tls)


@dataclass(frozen=True)
class Papers:
    """Files: CAs, and what a client shows; each key is in a file of its own."""

    folder: Path
    ca: trustme.CA

    def __getitem__(self, name: str) -> str:
        return str(self.folder / name)


@pytest.fixture(scope="module")
def papers(tmp_path_factory: pytest.TempPathFactory) -> Papers:
    """Give the files of one CA and its clients, and of one that nobody knows."""
    folder = tmp_path_factory.mktemp("papers")
    ca, foreign = trustme.CA(), trustme.CA()
    ca.cert_pem.write_to_path(str(folder / "ca.pem"))
    for name, issuer in (("me", ca), ("other", ca), ("foreign", foreign)):
        leaf = issuer.issue_cert(f"{name}.test")
        leaf.cert_chain_pems[0].write_to_path(str(folder / f"{name}.crt"))
        leaf.private_key_pem.write_to_path(str(folder / f"{name}.key"))
        leaf.private_key_and_cert_chain_pem.write_to_path(str(folder / f"{name}.pem"))
        key = load_pem_private_key(leaf.private_key_pem.bytes(), None)
        locked = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(PASSWORD.encode()))
        (folder / f"{name}.locked").write_bytes(locked)
    return Papers(folder, ca)


@contextmanager
def serving(context: ssl.SSLContext) -> Iterator[str]:
    """Give the URL of a server in a thread: unlike that of asyncio, it tells its clients why it turns them away."""
    stop = threading.Event()
    listener = socket.create_server((HOST, 0))

    def talk(peer: ssl.SSLSocket) -> None:
        try:
            peer.do_handshake()
            if peer.recv(65536):
                peer.sendall(response(b"hello", "Connection: close"))
        except ssl.SSLError:
            peer.shutdown(socket.SHUT_WR)
            while peer.recv(65536):  # closed with something unread, it would be reset, and what it has said be lost
                pass

    def serve() -> None:
        while not stop.is_set():
            with contextlib.suppress(OSError):
                plain, _ = listener.accept()
                with context.wrap_socket(plain, server_side=True, do_handshake_on_connect=False) as peer:
                    talk(peer)

    thread = threading.Thread(target=serve)
    thread.start()
    port = listener.getsockname()[1]
    try:
        yield f"https://localhost:{port}/"
    finally:
        stop.set()
        with contextlib.suppress(OSError), socket.create_connection((HOST, port), 1):
            pass
        thread.join()
        listener.close()


def server_context(leaf: trustme.LeafCert) -> ssl.SSLContext:
    """Return the context of a server that shows ``leaf``."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    leaf.configure_cert(context)
    return context


@pytest.fixture(scope="module")
def nginx(papers: Papers) -> Iterator[str]:
    """Give the URL of a real server that wants a certificate of its CA from each client."""
    if NGINX is None:
        pytest.skip("needs the Debian package nginx-light")
    folder = papers.folder
    papers.ca.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(str(folder / "server.pem"))
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port = probe.getsockname()[1]
    places = "".join(
        f"{kind}_temp_path {folder}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    (folder / "nginx.conf").write_text(
        f"daemon off; master_process off; pid {folder}/nginx.pid; error_log {folder}/error.log; events {{}}\n"
        f"http {{ access_log off; {places} server {{ listen {HOST}:{port} ssl;\n"
        f"ssl_certificate {folder}/server.pem; ssl_certificate_key {folder}/server.pem;\n"
        f"ssl_client_certificate {folder}/ca.pem; ssl_verify_client on;\n"
        'location / { return 200 "$ssl_client_s_dn"; } } }\n'
    )
    command = [NGINX, "-c", folder / "nginx.conf", "-e", folder / "error.log"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(2000):
            with contextlib.suppress(OSError), socket.create_connection((HOST, port), 1):
                break
            assert process.poll() is None
        yield f"https://localhost:{port}/"
    finally:
        process.terminate()
        process.wait()


async def test_a_client_that_shows_who_it_is(nginx: str, papers: Papers) -> None:
    """In one file, in two, with a password; and each job as itself, though they ask the same server."""
    shown = {
        "one file": {"cert": papers["me.pem"]},
        "two files": {"cert": papers["me.crt"], "key": papers["me.key"]},
        "locked": {"cert": papers["me.crt"], "key": papers["me.locked"], "key_password": PASSWORD},
    }
    async with fetching() as fetcher:
        for tls in shown.values():
            end = await ending(fetcher, patient(nginx, {"ca_file": papers["ca.pem"], **tls}), deadline=5)
            assert end.why == "ok", end.error
            me = end.content
        other = await ending(fetcher, patient(nginx, {"ca_file": papers["ca.pem"], "cert": papers["other.pem"]}), 5)
        nobody = await ending(fetcher, patient(nginx, {"ca_file": papers["ca.pem"]}), deadline=5)
    assert other.why == "ok", other.error
    assert me
    assert other.content
    assert me != other.content
    assert (nobody.why, str(nobody.error)) == ("http_4xx", "the server answered 400")  # how nginx says it


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=["1.2", "1.3"])
@pytest.mark.parametrize(("cert", "said"), [("foreign.pem", "refuses the client's certificate"), (None, "")])
async def test_a_client_that_is_turned_away(
    cert: str | None, said: str, version: ssl.TLSVersion, papers: Papers
) -> None:
    """In TLS 1.3 the handshake is over by the time the server says so; it must be ``tls`` all the same."""
    context = server_context(papers.ca.issue_cert("localhost"))
    papers.ca.configure_trust(context)
    context.verify_mode, context.maximum_version = ssl.CERT_REQUIRED, version
    if cert is None and version is ssl.TLSVersion.TLSv1_3:
        said = "wants a client's certificate"
    tls = {"ca_file": papers["ca.pem"], **({"cert": papers[cert]} if cert else {})}
    with serving(context) as url:
        async with fetching() as fetcher:
            end = await ending(fetcher, patient(url, tls), deadline=5)
    assert end.why == "tls", end.error
    assert said in str(end.error)


@pytest.mark.parametrize(
    ("case", "said"),
    [
        ("expired", "the server's certificate has expired: "),
        ("other name", "the server's certificate is for another host: "),
        ("other address", "the server's certificate is for another host: "),
        ("unknown", "the server's certificate is from an unknown CA: "),
    ],
)
async def test_why_a_server_is_not_trusted(case: str, said: str, papers: Papers) -> None:
    """Each has another remedy, and somebody else who has to apply it."""
    leaf = {
        "expired": lambda: papers.ca.issue_cert("localhost", not_after=LONG_AGO),
        "other name": lambda: papers.ca.issue_cert("other.test"),
        "other address": lambda: papers.ca.issue_cert("10.0.0.1"),
        "unknown": lambda: trustme.CA().issue_cert("localhost"),
    }[case]()
    with serving(server_context(leaf)) as url:
        async with fetching() as fetcher:
            asked = url.replace("localhost", HOST) if case == "other address" else url
            end = await ending(fetcher, patient(asked, {"ca_file": papers["ca.pem"]}), deadline=5)
    assert end.why == "tls"
    assert str(end.error).startswith(said)


async def test_own_cas_stand_for_all_others(upstream: UpstreamProcess, papers: Papers) -> None:
    """Who names a CA wants no other one: any of the system's hundred could else vouch for an impostor."""
    async with fetching(ca_file=upstream.ca_file) as fetcher:
        assert (await ending(fetcher, patient(upstream.tls_url(), {}), 5)).why == "ok"
        assert (await ending(fetcher, patient(upstream.tls_url(), {"cert": papers["me.pem"]}), 5)).why == "ok"
        end = await ending(fetcher, patient(upstream.tls_url(), {"ca_file": papers["ca.pem"]}), 5)
    assert (end.why, "unknown CA" in str(end.error)) == ("tls", True)


async def test_who_does_not_verify_is_alone_with_it(upstream: UpstreamProcess) -> None:
    """A connection to whoever it was must not be handed to a job that wants to know."""
    url = upstream.tls_url("ok", port="tls_unknown")
    async with fetching() as fetcher:
        for _ in range(2):
            assert (await ending(fetcher, patient(url, {"verify": False}), 5)).why == "ok"
            assert (await ending(fetcher, patient(url, {}), 5)).why == "tls"


async def test_one_certificate_alone(upstream: UpstreamProcess) -> None:
    """A fingerprint pins it, trusted or not; another one is named, so that a rotation can be told from a theft."""
    url = upstream.tls_url("ok", port="tls_unknown")
    shown = await asyncio.to_thread(ssl.get_server_certificate, (HOST, upstream.ports["tls_unknown"]))
    right = hashlib.sha256(ssl.PEM_cert_to_DER_cert(shown)).hexdigest()
    colons = ":".join(right[start : start + 2] for start in range(0, 64, 2))
    async with fetching(ca_file=upstream.ca_file) as fetcher:
        for pin in (right, colons.upper()):
            assert (await ending(fetcher, patient(url, {"verify": False, "fingerprint": pin}), 5)).why == "ok"
        for tls in ({"verify": False, "fingerprint": "00" * 32}, {"fingerprint": right}):
            assert (await ending(fetcher, patient(url, tls), 5)).why == "tls"
        end = await ending(fetcher, patient(upstream.tls_url(), {"fingerprint": right}), 5)
    assert end.why == "tls"
    assert "not the one that fingerprint names: its SHA-256 is " in str(end.error)
    assert right not in str(end.error)


BROKEN: dict[str, tuple[dict[str, str], str, str]] = {
    "wrong password": (
        {"cert": "me.crt", "key": "me.locked", "key_password": "wrong"},
        "key_password",
        "the password of the key is wrong",
    ),
    "long password": (
        {"cert": "me.crt", "key": "me.locked", "key_password": "wrong" * 1000},
        "key_password",
        "the password of the key is wrong",
    ),
    "no password": ({"cert": "me.crt", "key": "me.locked"}, "key", "the key is encrypted: add key_password"),
    "another's key": ({"cert": "me.crt", "key": "other.key"}, "key", "the key is not that of the certificate"),
    "no key": ({"cert": "me.crt"}, "cert", "not a PEM file with a private key"),
    "no PEM": ({"cert": "me.crt", "key": "nginx.conf"}, "key", "not a PEM file with a private key"),
    "missing key": ({"cert": "me.crt", "key": "gone.key"}, "key", "cannot be read: No such file or directory"),
}


@pytest.mark.parametrize("case", BROKEN)
async def test_papers_that_are_not_in_order(case: str, papers: Papers, upstream: UpstreamProcess) -> None:
    """Found when the configuration is read; and where a file changes afterwards, the fetch says the same."""
    (papers.folder / "nginx.conf").touch()
    given, key, said = BROKEN[case]
    tls = {name: value if name == "key_password" else papers[value] for name, value in given.items()}
    assert identity_problem(Tls.model_validate(tls)) == (key, said)
    async with fetching() as fetcher:
        end = await ending(fetcher, patient(upstream.tls_url(), tls), deadline=5)
    assert (end.why, str(end.error)) == ("tls", f"tls.{key}: {said}")


async def test_cas_that_are_gone(papers: Papers, upstream: UpstreamProcess, tmp_path: Path) -> None:
    """The file was there when the configuration was read."""
    shutil.copy(papers["ca.pem"], tmp_path / "ca.pem")
    wanted = patient(upstream.tls_url(), {"ca_file": str(tmp_path / "ca.pem")})
    (tmp_path / "ca.pem").unlink()
    async with fetching() as fetcher:
        end = await ending(fetcher, wanted, deadline=5)
    assert (end.why, str(end.error)) == ("tls", "tls.ca_file: the CAs cannot be read: No such file or directory")


async def test_contexts_are_shared_and_let_go(papers: Papers) -> None:
    """Each costs milliseconds and up to a megabyte: one for those who say the same, none for those who are gone."""
    contexts = Contexts(tls_context(), None)
    said = [Tls(ca_file=Path(papers["ca.pem"])) for _ in range(8)]
    said += [Tls(verify=False), Tls(fingerprint="00" * 32)]
    built = await asyncio.gather(*(contexts.of(tls) for tls in said))
    assert len(set(map(id, built))) == 3
    assert contexts.in_use == 2
    built.clear()
    await asyncio.gather(*(on_disk(int) for _ in range(16)))  # threads remember what they did last
    gc.collect()
    assert contexts.in_use == 0


async def test_replaced_papers_are_read_anew(nginx: str, papers: Papers, tmp_path: Path) -> None:
    """Certificates live for weeks, daemons for years."""
    cert = tmp_path / "mine.pem"
    shutil.copy(papers["me.pem"], cert)
    wanted = patient(nginx, {"ca_file": papers["ca.pem"], "cert": str(cert)})
    contents = []
    async with connections() as transport:
        assert isinstance(transport, Transport)
        for name in ("me.pem", "other.pem"):
            shutil.copy(papers[name], cert)
            if contents:
                await transport.renew()
            end = await ending(fetcher_over(transport), wanted, deadline=5)
            assert end.why == "ok", end.error
            contents.append(end.content)
    assert contents[0] != contents[1]


def test_who_is_warned_of() -> None:
    """A pinned certificate needs nobody to vouch for it."""
    cases = {"plain": {}, "open": {"verify": False}, "pinned": {"verify": False, "fingerprint": "00" * 32}}
    jobs = [job("https://a.test/", name=name, tls=tls) for name, tls in cases.items()]
    assert unverified(jobs) == ["open"]
