"""Where a daemon's state is: found as the configuration's own reader finds it, also while somebody edits the file."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from fetchd.config import load
from fetchd.errors import ConfigError
from fetchd.whereabouts import state_dir

JOB = '[jobs.a]\nurl = "http://a.test/"\n'


@pytest.mark.parametrize(
    "text",
    [
        f'[daemon]\nstate_dir = "state"\n{JOB}',
        f'[daemon]\nstate_dir = "../other/./state"\n{JOB}',
        f"{JOB}[daemon]\nmax_workers = 2\nstate_dir = '/var/lib/there'\n",
        f'[daemon]\nstate_dir = "~/state"\n{JOB}',
        f'daemon = {{ state_dir = "inline" }}\n{JOB}',
        f'daemon.state_dir = "dotted"\n{JOB}',
        f'[daemon] # the process\r\nstate_dir = "crlf"\r\n{JOB}',
        f'\ufeff[daemon]\nstate_dir = "with-a-mark"\n{JOB}',
        f"[daemon]\nmax_workers = 2\n{JOB}",
        JOB,
    ],
)
@pytest.mark.parametrize(
    "environment",
    [
        {"HOME": "/home/somebody"},
        {"HOME": "/home/somebody", "STATE_DIRECTORY": "/var/lib/fetchd:/var/lib/more"},
        {"HOME": "/home/somebody", "XDG_STATE_HOME": "/xdg"},
    ],
)
def test_both_readers_find_the_same(tmp_path: Path, text: str, environment: dict[str, str]) -> None:
    """However it is written, and whoever else says it."""
    path = tmp_path / "c.toml"
    path.write_text(text, newline="")
    assert state_dir(path, environment=environment) == load(path, environment=environment).daemon.state_dir


@pytest.mark.parametrize("rest", ["[jobs.a\n", "url = \n", "= 3\n[x\n", "[jobs]\n[jobs]\n"])
def test_a_file_that_is_being_edited_still_tells(tmp_path: Path, rest: str) -> None:
    """A health check must not fail, and have the daemon restarted with a bad file, for a slip of the pen elsewhere."""
    path = tmp_path / "c.toml"
    path.write_text(f'[daemon]\nstate_dir = "state"\n{rest}')
    assert state_dir(path, environment={"HOME": "/home/somebody"}) == tmp_path / "state"


def test_what_cannot_be_found_is_a_finding(tmp_path: Path) -> None:
    """A missing file, and one that nothing helps out."""
    with pytest.raises(ConfigError, match="cannot be read"):
        state_dir(tmp_path / "missing.toml", environment={"HOME": "/home/somebody"})
    path = tmp_path / "c.toml"
    path.write_text(JOB)
    with pytest.raises(ConfigError, match="state_dir"):
        state_dir(path, environment={})


def test_asking_imports_next_to_nothing() -> None:
    """A health check runs every few seconds beside the daemon, on machines with little to spare."""
    heavy = {"asyncio", "pydantic", "httpx", "aiohttp", "structlog", "rich", "apscheduler", "sqlite3"}
    code = (
        "import sys, fetchd.cli, fetchd.control.client, fetchd.cli.standing, fetchd.whereabouts\n"
        f"print(sorted({heavy!r} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
