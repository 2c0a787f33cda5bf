"""Where a daemon's state is: found as the configuration's own reader finds it, also while somebody edits the file."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from fetchd.config import load
from fetchd.errors import ConfigError
from fetchd.whereabouts import address_in, running_state_dir, state_dir

UNITS = Path(__file__).parents[1] / "systemd"
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


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """A machine with two services, one of them of the template, of which neither runs."""
    for folder in ("etc/fetchd", "lib/fetchd", "lib/fetchd-shop", "home/.local/state/fetchd"):
        (tmp_path / folder).mkdir(parents=True)
    for name in ("config", "shop", "other"):
        (tmp_path / f"etc/fetchd/{name}.toml").write_text(JOB)
    return tmp_path


def asked(machine: Path, name: str, **environment: str) -> str:
    """Return the state that is asked for with a configuration file, relative to the machine."""
    environment = {"HOME": str(machine / "home"), **environment}
    folders = {"configs": machine / "etc/fetchd", "states": machine / "lib"}
    return str(running_state_dir(machine / name, environment=environment, **folders).relative_to(machine))


def test_services_are_found_by_their_configuration(machine: Path) -> None:
    """Whoever asks has none of the variables that systemd has given the service."""
    assert asked(machine, "etc/fetchd/config.toml") == "lib/fetchd"
    assert asked(machine, "etc/fetchd/shop.toml") == "lib/fetchd-shop"
    assert asked(machine, "etc/fetchd/config.toml", HOME="") == "lib/fetchd"


def test_a_state_that_may_not_be_entered_is_found_too(machine: Path) -> None:
    """/var/lib/fetchd leads into a folder of root's alone; the answer is then that root may ask, not that none runs."""
    (machine / "lib/fetchd").rmdir()
    (machine / "lib/fetchd").symlink_to(machine / "lib/private/fetchd")
    assert asked(machine, "etc/fetchd/config.toml") == "lib/fetchd"


def test_whatever_says_where_state_is_comes_before_a_service(machine: Path) -> None:
    """The file, the environment, a daemon that somebody runs by hand, and a file that is no service's."""
    own = "home/.local/state/fetchd"
    assert asked(machine, "etc/fetchd/other.toml") == own
    assert asked(machine, "etc/fetchd/config.toml", STATE_DIRECTORY=str(machine / "given")) == "given"
    (machine / "fetchd.toml").write_text(JOB)
    assert asked(machine, "fetchd.toml") == own
    with socket.socket(socket.AF_UNIX) as listener:
        with address_in(machine / own) as address:
            listener.bind(address)
        assert asked(machine, "etc/fetchd/config.toml") == "lib/fetchd"
        listener.listen(0)
        for _ in range(3):  # the last ones find its queue full
            assert asked(machine, "etc/fetchd/config.toml") == own
    assert asked(machine, "etc/fetchd/config.toml") == "lib/fetchd", "it was killed, and has left its socket"
    (machine / "etc/fetchd/config.toml").write_text(f'[daemon]\nstate_dir = "{machine}/written"\n{JOB}')
    assert asked(machine, "etc/fetchd/config.toml") == "written"


@pytest.mark.parametrize(("name", "instance"), [("fetchd.service", ""), ("fetchd@.service", "shop")])
def test_the_units_keep_state_where_it_is_looked_for(machine: Path, name: str, instance: str) -> None:
    """The units name both folders, and so does the code."""
    lines = [line for line in (UNITS / name).read_text().replace("%i", instance).splitlines() if "=" in line]
    unit = dict(line.split("=", 1) for line in lines if not line.startswith("#"))
    config = unit["ExecStart"].rpartition(" ")[2].removeprefix("/")
    assert asked(machine, config) == f"lib/{unit['StateDirectory']}"


def test_asking_imports_next_to_nothing() -> None:
    """A health check runs every few seconds beside the daemon, on machines with little to spare."""
    heavy = {"asyncio", "pydantic", "httpx", "aiohttp", "structlog", "rich", "apscheduler", "sqlite3"}
    code = (
        "import sys, fetchd.cli, fetchd.control.client, fetchd.cli.standing, fetchd.whereabouts\n"
        f"print(sorted({heavy!r} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
