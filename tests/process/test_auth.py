"""Authorisation that changes while somebody uses it: tokens that are good once, certificates that are replaced."""

from __future__ import annotations

import asyncio
import subprocess
from pathlib import Path

import pytest

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
