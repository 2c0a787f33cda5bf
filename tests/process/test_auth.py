"""Authorisation that changes while somebody uses it: tokens that are good once, certificates that are replaced."""

from __future__ import annotations

import asyncio
import shutil
import ssl
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import trustme

from tests.fetch.room import HOST, response
from tests.fetch.token_server import CLIENT, FIRST_REFRESH, SECRET, token_server
from tests.process.daemon import Daemon, fetchd

pytestmark = pytest.mark.timeout(60)


async def typed(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a verb to its end, while the servers of this test go on."""
    return await asyncio.to_thread(fetchd, *arguments, "-c", str(folder / "fetchd.toml"), folder=folder)


async def test_a_dry_run_keeps_the_refresh_token_that_it_is_given(tmp_path: Path) -> None:
    """The configured one is good once: whoever only has a look must not lock out the daemon that comes after."""
    async with token_server() as server:
        config = f"""
        [jobs.orders]
        url = "{server.url}/api"
        interval = "1s"
        [jobs.orders.auth]
        kind = "oauth2"
        grant = "refresh_token"
        token_url = "{server.token_url}"
        client_id = "{CLIENT}"
        client_secret = "{SECRET}"
        refresh_token = "{FIRST_REFRESH}"
        """
        daemon = Daemon(tmp_path, config)
        for _ in range(2):
            done = await typed(tmp_path, "once", "orders", "--dry-run")
            assert done.returncode == 0, done.stdout + done.stderr
            assert "canary" not in done.stdout + done.stderr
        await asyncio.to_thread(daemon.__enter__)
        try:
            await asyncio.to_thread(daemon.wait_for, "run_finished", outcome="succeeded")
            beside = await typed(tmp_path, "once", "orders", "--dry-run")
        finally:
            daemon.__exit__(None, None, None)
    assert beside.returncode == 75
    assert "would take the refresh token away from the fetchd that runs" in beside.stderr
    assert [asked["refresh_token"] for asked in server.asked] == server.rules.refresh_tokens[:3]


async def test_whoever_checks_no_certificate_is_told_each_time(tmp_path: Path) -> None:
    """One line among hundreds at some start is not loud: each verb that tries the job says it."""
    config = """
    [jobs.open]
    url = "https://127.0.0.1:1/"
    tls = { verify = false }
    """
    daemon = Daemon(tmp_path, config)
    checked = await typed(tmp_path, "check")
    assert "warning: jobs.open.tls: with verify = false any server is believed" in checked.stderr
    for arguments in (["open"], ["open", "--dry-run"]):
        assert '"event":"tls_unverified","job":"open"' in (await typed(tmp_path, "once", *arguments)).stderr
    with daemon:
        daemon.wait_for("tls_unverified", job="open", level="warning")


@dataclass
class Gate:
    """A server that lets in who shows a certificate of its CA. ``seen`` are their serial numbers."""

    url: str
    seen: list[int] = field(default_factory=list)
    comes: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def lets_in(self, serial: int, times: int = 1) -> None:
        """Wait until that certificate was shown once more, and no other one after it, so many times."""
        start = len(self.seen)
        async with self.comes, asyncio.timeout(20):
            await self.comes.wait_for(lambda: self.seen[start:][-times:] == [serial] * times)


@asynccontextmanager
async def gate(ca: trustme.CA) -> AsyncIterator[Gate]:
    """Serve on loopback, one answer a connection."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    ca.issue_cert("localhost").configure_cert(context)
    ca.configure_trust(context)
    context.verify_mode = ssl.CERT_REQUIRED

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        made.seen.append(int(writer.get_extra_info("peercert")["serialNumber"], 16))
        async with made.comes:
            made.comes.notify_all()
        writer.write(response(b"hello"))
        writer.close()

    server = await asyncio.start_server(talk, HOST, 0, ssl=context)
    made = Gate(f"https://localhost:{server.sockets[0].getsockname()[1]}/")
    async with server:
        yield made


def paper(ca: trustme.CA, folder: Path) -> int:
    """Write a certificate and its key, in two files, and return its serial number."""
    leaf = ca.issue_cert("me.test")
    leaf.cert_chain_pems[0].write_to_path(str(folder / "new.crt"))
    leaf.private_key_pem.write_to_path(str(folder / "new.key"))
    text = ssl._ssl._test_decode_cert(str(folder / "new.crt"))["serialNumber"]  # type: ignore[attr-defined]
    return int(text, 16)


async def test_certificates_are_replaced_without_a_restart(tmp_path: Path) -> None:
    """They live for weeks, or hours, and come in two files: between the first and the second the old ones count."""
    ca = trustme.CA()
    ca.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    first = paper(ca, tmp_path)
    for name in ("crt", "key"):
        shutil.move(tmp_path / f"new.{name}", tmp_path / f"my.{name}")
    async with gate(ca) as server:
        config = f"""
        [jobs.orders]
        url = "{server.url}"
        interval = "500ms"
        tls = {{ ca_file = "ca.pem", cert = "my.crt", key = "my.key" }}
        """
        daemon = Daemon(tmp_path, config)
        await asyncio.to_thread(daemon.__enter__)
        try:
            await server.lets_in(first)
            second = paper(ca, tmp_path)
            shutil.move(tmp_path / "new.crt", tmp_path / "my.crt")
            (line,) = await asyncio.to_thread(daemon.wait_for, "config_rejected")
            assert "jobs.orders.tls.key: the key is not that of the certificate" in line["findings"][0]
            await server.lets_in(first, times=2)
            shutil.move(tmp_path / "new.key", tmp_path / "my.key")
            (line,) = await asyncio.to_thread(daemon.wait_for, "secrets_rotated")
            assert line["changed"] == ["orders"]
            await server.lets_in(second, times=2)
            shutil.copy(tmp_path / "my.crt", tmp_path / "same.crt")
            shutil.move(tmp_path / "same.crt", tmp_path / "my.crt")
            reloaded = await typed(tmp_path, "reload")
            assert "1 job unchanged" in reloaded.stdout
            paper(ca, tmp_path)
            for name in ("crt", "key"):
                shutil.move(tmp_path / f"new.{name}", tmp_path / f"my.{name}")
            assert "changed orders" in (await typed(tmp_path, "reload")).stdout
        finally:
            daemon.__exit__(None, None, None)
    assert not daemon.lines("run_finished", reason="tls")
