"""The page in a real browser. Started by ``make test-browser`` alone: a browser is heavy, and not everywhere."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import aiohttp
import pytest

from tests.browser.devtools import Tab, opened

collect_ignore_glob = [] if os.environ.get("FETCHD_BROWSER") else ["test_*.py"]


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Start a browser; return where it is spoken to."""
    program = shutil.which("chromium")
    if program is None:
        pytest.skip("needs the Debian package chromium")
    flags = ["--headless=new", "--remote-debugging-port=0", "--no-first-run", "--disable-gpu", "--hide-scrollbars"]
    # Its sandbox does not work for root, as in most containers; the pages are ours.
    flags += ["--no-sandbox"] if os.geteuid() == 0 else []
    profile = tmp_path_factory.mktemp("profile")
    command = [program, *flags, f"--user-data-dir={profile}", "about:blank"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        lines = iter(process.stderr.readline, "")
        found = next(match for line in lines if (match := re.search(r"ws://\S+", line)))
        try:
            yield found[0]
        finally:
            process.terminate()
            process.stderr.read()


@pytest.fixture
async def tab(browser: str) -> AsyncIterator[Tab]:
    """Open a tab of its own."""
    async with aiohttp.ClientSession() as session, opened(session, browser) as found:
        yield found


@pytest.fixture(scope="session")
def shots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder for screenshots: that which FETCHD_BROWSER names, else one that goes."""
    named = Path(os.environ.get("FETCHD_BROWSER", ""))
    return named if named.is_absolute() and named.is_dir() else tmp_path_factory.mktemp("shots")
