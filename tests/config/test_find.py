"""Which file is taken, and what the environment has to say."""

from __future__ import annotations

from pathlib import Path

import pytest

from fetchd.config import find, ignored_environment
from fetchd.errors import ConfigError
from fetchd.whereabouts import state_folder


def touch(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path


def test_the_nearest_file_is_taken(tmp_path: Path) -> None:
    """The order is the documented one: what is said, then here, then the user's, then the machine's."""
    environment = {"HOME": str(tmp_path / "home")}
    system = touch(tmp_path / "etc/config.toml")
    here = tmp_path / "here"

    def found(given: Path | None = None) -> Path:
        return find(given, environment=environment, here=here, system=system)

    assert found() == system
    home = touch(tmp_path / "home/.config/fetchd/config.toml")
    assert found() == home
    environment["XDG_CONFIG_HOME"] = str(tmp_path / "xdg")
    assert found() == system
    user = touch(tmp_path / "xdg/fetchd/config.toml")
    assert found() == user
    near = touch(here / "fetchd.toml")
    assert found() == near
    environment["FETCHD_CONFIG"] = "named.toml"
    assert found() == Path("named.toml")
    assert found(Path("given.toml")) == Path("given.toml")


def test_a_relative_xdg_folder_is_ignored(tmp_path: Path) -> None:
    """The specification asks so; it would depend on where the daemon is started."""
    home = touch(tmp_path / ".config/fetchd/config.toml")
    environment = {"XDG_CONFIG_HOME": "relative", "HOME": str(tmp_path)}
    assert find(None, environment=environment, here=tmp_path, system=tmp_path / "none") == home


def test_no_file_says_where_it_was_looked_for(tmp_path: Path) -> None:
    """The reader learns where to put one."""
    with pytest.raises(ConfigError) as caught:
        find(None, environment={"HOME": "/home/somebody"}, here=tmp_path, system=Path("/etc/x.toml"))
    assert str(caught.value) == (
        "fetchd: there is no configuration file; looked for -c FILE, $FETCHD_CONFIG, "
        f"{tmp_path}/fetchd.toml, /home/somebody/.config/fetchd/config.toml, /etc/x.toml; "
        "`fetchd example > fetchd.toml` makes one to begin with"
    )
    with pytest.raises(ConfigError):
        find(None, environment={}, here=tmp_path, system=Path("/etc/x.toml"))


def test_proxy_variables_are_told_apart() -> None:
    """Other clients would obey them silently; here they are named and ignored."""
    environment = {
        "HTTP_PROXY": "http://p",
        "https_proxy": "http://p",
        "ALL_PROXY": "",
        "no_proxy": "x",
        "PATH": "/bin",
    }
    assert ignored_environment(environment) == ["HTTP_PROXY", "https_proxy", "no_proxy"]


@pytest.mark.parametrize(
    ("environment", "folder"),
    [
        ({"STATE_DIRECTORY": "/var/lib/fetchd:/var/lib/other", "HOME": "/h"}, "/var/lib/fetchd"),
        ({"XDG_STATE_HOME": "/x", "HOME": "/h"}, "/x/fetchd"),
        ({"XDG_STATE_HOME": "x", "HOME": "/h"}, "/h/.local/state/fetchd"),
        ({"HOME": "/h"}, "/h/.local/state/fetchd"),
    ],
)
def test_state_is_kept_where_the_environment_says(environment: dict[str, str], folder: str) -> None:
    """Under systemd, in a container and on a desk, without a line of configuration."""
    assert state_folder(environment) == Path(folder)
