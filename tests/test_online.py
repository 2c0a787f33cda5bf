"""`fetchd check --online` against real servers: what it says of each, and that it sends them nothing."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import unquote

import pytest
import trustme
from click.testing import CliRunner

from fetchd.cli import main
from fetchd.online import EXPIRES_SOON, look
from fetchd.sinks.file import FileOptions
from fetchd.sinks.obstacles import obstacles
from tests.config.files import loaded
from tests.fetch.test_proxy import relaying

HOST = "127.0.0.1"
CANARY = "canary-7c1fa0"
NOW = datetime.now(UTC)


@dataclass
class Heard:
    """A server that only listens: its port, how often it was connected to, and the bytes that came."""

    port: int = 0
    connections: int = 0
    content: bytes = b""

    async def take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Take one connection to its end."""
        self.connections += 1
        try:
            self.content += await reader.read()
        except OSError:
            """It was hung up on."""
        finally:
            writer.close()


@asynccontextmanager
async def listening(tls: ssl.SSLContext | None = None, path: Path | None = None) -> AsyncIterator[Heard]:
    """Give a server on loopback, or at a socket's ``path``."""
    heard = Heard()
    server = (
        await asyncio.start_unix_server(heard.take, path)
        if path
        else await asyncio.start_server(heard.take, HOST, 0, ssl=tls)
    )
    heard.port = 0 if path else server.sockets[0].getsockname()[1]
    try:
        yield heard
    finally:
        server.close()


def certified(folder: Path, until: datetime | None = None) -> ssl.SSLContext:
    """Return what a server for localhost speaks with; its CA is in ca.pem."""
    ca = trustme.CA()
    ca.cert_pem.write_to_path(str(folder / "ca.pem"))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    ca.issue_cert("localhost", not_after=until or NOW + timedelta(days=400)).configure_cert(context)
    return context


async def said(folder: Path, text: str) -> list[str]:
    """Return what is told of the configuration ``text``."""
    config = loaded(folder, f'[daemon]\nstate_dir = "state"\n{text}')
    return [str(verdict) async for verdict in look(config, NOW, lambda done, of: None)]


async def test_a_server_that_many_need_is_connected_to_once(tmp_path: Path) -> None:
    """The handshake is made in full, nothing is sent, and what is secret in addresses is not shown."""
    async with listening(certified(tmp_path)) as heard:
        lines = await said(
            tmp_path,
            f"""ca_file = "ca.pem"
            ping = "https://localhost:{heard.port}/ping/{CANARY}"
            [notifiers.ops]
            kind = "webhook"
            url = "https://localhost:{heard.port}/{CANARY}"
            [jobs.a]
            url = "https://localhost:{heard.port}/a?token={CANARY}"
            auth.kind = "oauth2"
            auth.token_url = "https://localhost:{heard.port}/t"
            auth.client_id = "somebody"
            auth.client_secret = "{CANARY}"
            ping = "https://localhost:{heard.port}/p"
            sinks = [{{ kind = "webhook", url = "https://localhost:{heard.port}/{CANARY}" }}]
            """,
        )
    until = f"{NOW + timedelta(days=400):%Y-%m-%d}"
    assert lines == [f"ok localhost:{heard.port} ({HOST}, TLSv1.3, certificate until {until})"]
    assert (heard.connections, heard.content) == (1, b"")


async def test_everybody_who_needs_what_is_not_there_is_named(tmp_path: Path) -> None:
    """Without a server each key that names it is wrong; of many the first ones say enough."""
    async with listening() as heard:
        pass
    where = f"http://{HOST}:{heard.port}"
    jobs = "".join(f'[jobs.j{number}]\nurl = "{where}/{CANARY}"\n' for number in range(6))
    lines = await said(
        tmp_path,
        f"""
        [jobs.a]
        url = "{where}/"
        ping = "{where}/{CANARY}"
        sinks = [{{ kind = "webhook", name = "hook", url = "{where}/{CANARY}" }}]
        [notifiers.ops]
        kind = "webhook"
        url = "{where}/{CANARY}"
        {jobs}""",
    )
    cause = f"cannot connect to {HOST}:{heard.port}: Connection refused"
    who = "jobs.a, jobs.a.ping, jobs.a.sinks.hook, jobs.j0, jobs.j1 and 5 more"
    assert lines == [f"failed {HOST}:{heard.port}: {cause} ({who})"]


async def test_each_way_to_a_server_is_tried(tmp_path: Path) -> None:
    """Whom a job trusts, and what it may reach, is its own: one job's way says nothing of another's."""
    async with listening(certified(tmp_path)) as heard, listening() as plain:
        lines = await said(
            tmp_path,
            f"""
            [jobs.stranger]
            url = "https://localhost:{heard.port}/"
            [jobs.own]
            url = "https://localhost:{heard.port}/"
            tls = {{ ca_file = "ca.pem" }}
            [jobs.trusting]
            url = "https://localhost:{heard.port}/"
            tls = {{ verify = false }}
            [jobs.pinned]
            url = "https://localhost:{heard.port}/"
            tls = {{ fingerprint = "{"00" * 32}", verify = false }}
            [jobs.public]
            url = "http://{HOST}:{plain.port}/"
            deny_private = true
            [jobs.version]
            url = "http://localhost:{plain.port}/"
            ip = "ipv4"
            """,
        )
    named = f"localhost:{heard.port}"
    assert "from an unknown CA" in lines[0]
    assert lines[0].startswith(f"failed {named}: ")
    assert lines[0].endswith("(jobs.stranger)")
    assert lines[1].startswith(f"ok {named} ({HOST}, TLSv1.3, certificate until ")
    assert lines[2] == f"ok {named} ({HOST}, TLSv1.3, certificate not checked)"
    assert "not the one that fingerprint names" in lines[3]
    assert lines[4].startswith(f"failed {HOST}:{plain.port}: {HOST} is an address of this machine")
    assert lines[5] == f"ok localhost:{plain.port} ({HOST})"
    assert (plain.connections, plain.content) == (1, b"")


@pytest.mark.parametrize(("left", "level"), [(timedelta(days=2), "warning"), (timedelta(days=30), "ok")])
async def test_a_certificate_that_expires_soon(left: timedelta, level: str, tmp_path: Path) -> None:
    """Who hears of it two weeks before has time to renew it; it is no finding yet."""
    assert (left < EXPIRES_SOON) == (level == "warning")
    until = NOW.replace(microsecond=0) + left + timedelta(minutes=1)
    async with listening(certified(tmp_path, until)) as heard:
        (line,) = await said(tmp_path, f'ca_file = "ca.pem"\n[jobs.a]\nurl = "https://localhost:{heard.port}/"\n')
    where = f"localhost:{heard.port}"
    expected = {
        "warning": f"warning {where}: its certificate expires on {until:%Y-%m-%d}, in 2 days (jobs.a)",
        "ok": f"ok {where} ({HOST}, TLSv1.3, certificate until {until:%Y-%m-%d})",
    }
    assert line == expected[level]


async def test_servers_that_hang_are_waited_for_together(tmp_path: Path) -> None:
    """Each has its job's connect timeout, the handshake included, and the others do not wait for it."""
    async with listening() as one, listening() as two, listening() as well:
        jobs = f"""
        [defaults]
        timeout = {{ connect = "300ms" }}
        [jobs.one]
        url = "https://{HOST}:{one.port}/"
        [jobs.two]
        url = "https://{HOST}:{two.port}/"
        [jobs.well]
        url = "http://{HOST}:{well.port}/"
        """
        before = time.monotonic()
        lines = await said(tmp_path, jobs)
        took = time.monotonic() - before
    assert [line.partition(":")[0] for line in lines] == [f"failed {HOST}"] * 2 + [f"ok {HOST}"]
    assert all("no connection within 0.3 s" in line for line in lines[:2])
    assert took >= 0.3


async def test_through_a_proxy(tmp_path: Path) -> None:
    """The tunnel is opened as a request would have it, with the user that the proxy wants, whom nobody else sees."""
    async with listening(certified(tmp_path)) as heard, relaying() as relay:
        lines = await said(
            tmp_path,
            f"""ca_file = "ca.pem"
            [jobs.a]
            url = "https://localhost:{heard.port}/"
            proxy = "{relay.address}"
            [jobs.b]
            url = "https://localhost:{heard.port}/"
            proxy = "http://{HOST}:1"
            """,
        )
    assert lines[0].startswith(
        f"ok localhost:{heard.port} (through the proxy {relay.address.rpartition('@')[2]}, TLSv1.3, "
    )
    assert lines[1].endswith(f"cannot connect to the proxy {HOST}:1: Connection refused (jobs.b)")
    assert "w@rd" not in unquote("".join(lines))
    assert heard.content == b""


async def test_sockets_of_this_machine(tmp_path: Path) -> None:
    """One that is not there is told with its path."""
    async with listening(path=tmp_path / "app.sock"):
        here = str(tmp_path).replace("/", "%2F")
        lines = await said(
            tmp_path,
            f"""
            [jobs.a]
            url = "http+unix://{here}%2Fapp.sock/x"
            [jobs.b]
            url = "http+unix://{here}%2Fmissing.sock/x"
            """,
        )
    assert lines[0] == f"ok {tmp_path}/app.sock (a socket of this machine)"
    assert lines[1].startswith(f"failed {tmp_path}/missing.sock: cannot connect to the socket")
    assert lines[1].endswith("No such file or directory (jobs.b)")


async def test_what_is_in_the_way_of_sinks(tmp_path: Path) -> None:
    """Folders, files and programs are looked at from where they will be used; nothing is made."""
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    (tmp_path / "below").mkdir()
    script = tmp_path / "script"
    script.write_text("#!/bin/sh\n")
    lines = await said(
        tmp_path,
        f"""
        [notifiers.ops]
        kind = "command"
        argv = ["./missing"]
        [jobs.a]
        url = "http+unix://%2Fnone"
        sinks = [
          {{ kind = "file", path = "{{job}}/{{date}}.json" }},
          {{ kind = "file", path = "{tmp_path}/file/{{job}}/x" }},
          {{ kind = "file", path = "{tmp_path}/folder" }},
          {{ kind = "sqlite", path = "{tmp_path}/below" }},
          {{ kind = "sqlite", path = "new/x.db" }},
          {{ kind = "command", argv = ["./script"], cwd = "missing" }},
          {{ kind = "command", argv = ["./missing"] }},
          {{ kind = "command", argv = ["sh", "-c", "true"] }},
        ]
        """,
    )
    assert lines[:-1] == [
        f"failed jobs.a.sinks.file-2: {tmp_path}/file is not a folder",
        f"failed jobs.a.sinks.file-3: {tmp_path}/folder is not a file",
        f"failed jobs.a.sinks.sqlite: {tmp_path}/below is not a file",
        f"failed jobs.a.sinks.command: there is no folder {tmp_path}/state/out/missing",
        "failed jobs.a.sinks.command-2: there is no program ./missing that may be executed",
        "failed notifiers.ops: there is no program ./missing that may be executed",
    ]
    assert not (tmp_path / "state").exists()


def test_a_folder_of_somebody_else(tmp_path: Path) -> None:
    """It is told before the first result is lost on it, for the user who asks."""
    if os.geteuid() == 0:
        pytest.skip("root may write anywhere: run the tests as another user")
    (tmp_path / "closed").mkdir(mode=0o500)
    options = FileOptions(kind="file", path="closed/below/x.json")
    assert list(obstacles(options, tmp_path)) == [f"the folder {tmp_path}/closed may not be written to"]


def test_the_verb(tmp_path: Path) -> None:
    """Exit status 78 with findings and 0 without, findings on stderr, and no secret on either."""
    path = tmp_path / "fetchd.toml"
    text = f'[daemon]\nstate_dir = "state"\n[jobs.a]\nurl = "http://{CANARY}@127.0.0.1:1/?key={CANARY}"\n'
    path.write_text(text)
    failed = CliRunner().invoke(main, ["check", "--online", "-c", str(path)])
    assert failed.exit_code == 78
    assert failed.stderr == "failed 127.0.0.1:1: cannot connect to 127.0.0.1:1: Connection refused (jobs.a)\n"
    assert failed.stdout == f"{path}: 1 job, nothing wrong\n{path}: 0 servers connected to, 1 thing wrong\n"
    assert CliRunner().invoke(main, ["check", "-c", str(path)]).exit_code == 0
    with socket.create_server((HOST, 0)) as server:
        port = server.getsockname()[1]
        path.write_text(text.replace("127.0.0.1:1", f"127.0.0.1:{port}"))
        fine = CliRunner().invoke(main, ["check", "--online", "-c", str(path)])
    assert (fine.exit_code, fine.stderr) == (0, "")
    assert fine.stdout.endswith(f"ok {HOST}:{port} ({HOST})\n{path}: 1 server connected to, nothing wrong\n")
