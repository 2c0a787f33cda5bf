"""Where the configuration and the state are. It imports little: verbs that ask a running daemon need no more."""

from __future__ import annotations

import os
import socket
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from fetchd.errors import ConfigError, Finding

SYSTEM: Final = Path("/etc/fetchd/config.toml")
STATES: Final = Path("/var/lib")
"""Where systemd keeps the states of services."""
BEGIN: Final = "`fetchd example > fetchd.toml` makes one to begin with"
SOCKET: Final = "control.sock"
"""By which a running daemon is asked, in its state directory."""
LONGEST_PATH: Final = 107
"""Bytes that a socket's address holds (unix(7)), without the zero at its end."""


def find(given: Path | None, *, environment: Mapping[str, str], here: Path = Path(), system: Path = SYSTEM) -> Path:
    """Return the file to load: the one ``given``, else that of $FETCHD_CONFIG, else the first that exists.

    Args:
        given: what the command line says.
        environment: the process's variables.
        here: the folder of ``fetchd.toml``.
        system: the machine's own file.

    Raises:
        ConfigError: there is none; the message lists where it was looked for.
    """
    if given is not None:
        return given
    if named := environment.get("FETCHD_CONFIG"):
        return Path(named)
    user = xdg_folder(environment, "XDG_CONFIG_HOME", ".config")
    places = [here / "fetchd.toml", *([user / "fetchd" / "config.toml"] if user else []), system]
    for place in places:
        if place.is_file():
            return place
    looked = ", ".join(["-c FILE", "$FETCHD_CONFIG", *map(str, places)])
    message = f"there is no configuration file; looked for {looked}; {BEGIN}"
    raise ConfigError([Finding("fetchd", None, "", message)])


def state_folder(environment: Mapping[str, str]) -> Path | None:
    """Return where state is kept unless the configuration says so; None if the environment does not tell either."""
    if (given := _given(environment)) is not None:
        return given
    base = xdg_folder(environment, "XDG_STATE_HOME", ".local/state")
    return base / "fetchd" if base else None


def _given(environment: Mapping[str, str]) -> Path | None:
    # systemd joins several StateDirectory= with colons; the first is ours.
    given = environment.get("STATE_DIRECTORY", "").split(":")[0]
    return Path(given) if given else None


def xdg_folder(environment: Mapping[str, str], variable: str, below_home: str) -> Path | None:
    """Return the folder that ``variable`` names, else the one ``below_home``; None if there is no home either.

    A relative path is ignored, as the XDG Base Directory Specification asks.
    """
    folder = Path(environment.get(variable, ""))
    if folder.is_absolute():
        return folder
    home = environment.get("HOME")
    return Path(home) / below_home if home else None


def anothers(folder: Path) -> str:
    """Return in words that the state in ``folder`` may not be asked for."""
    return f"{folder} is another user's: ask as the user that the daemon runs as, or as root"


def state_dir(path: Path, *, environment: Mapping[str, str]) -> Path:
    """Return where a daemon with the configuration file at ``path`` keeps its state.

    The file is not judged: while somebody edits it, a daemon runs on with what it was, and must be found.

    Raises:
        ConfigError: the file cannot be read, or nothing says where state is.
    """
    if (found := _written(path, environment) or state_folder(environment)) is not None:
        return found
    message = "set it: neither $STATE_DIRECTORY nor $XDG_STATE_HOME nor $HOME says where state is kept"
    raise ConfigError([Finding(str(path), None, "daemon.state_dir", message)])


def running_state_dir(
    path: Path, *, environment: Mapping[str, str], configs: Path = SYSTEM.parent, states: Path = STATES
) -> Path:
    """Return where the daemon to ask keeps its state, if the configuration file at ``path`` is its own.

    Where only the environment could say so, a service is told by systemd, and whoever asks it is not. A file in
    ``configs`` is most likely that of a service, and its state in ``states``, as its unit says. A daemon that somebody
    runs by hand with that file comes first.

    Raises:
        ConfigError: the file cannot be read, or nothing says where state is.
    """
    own = _written(path, environment) or _given(environment)
    if own is None and path.absolute().parent == configs:
        by_hand = state_folder(environment)
        service = states / ("fetchd" if path.name == SYSTEM.name else f"fetchd-{path.stem}")
        if not (by_hand and _somebody_listens(by_hand)) and os.path.lexists(service):
            return service
    return own or state_dir(path, environment=environment)


def _somebody_listens(folder: Path) -> bool:
    """Return whether a daemon has its state in ``folder``: one that was killed leaves its socket behind."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            with address_in(folder) as address:
                probe.connect(address)
        except (FileNotFoundError, NotADirectoryError, ConnectionRefusedError):
            return False
        except OSError:
            """There is one, which may not be asked, or has no time."""
    return True


def _written(path: Path, environment: Mapping[str, str]) -> Path | None:
    """Return the state directory that the file at ``path`` names; None if it leaves that to the environment."""
    folder = path.absolute().parent
    try:
        text = path.read_bytes().decode("utf-8-sig", "replace")
    except OSError as error:
        raise ConfigError([Finding(str(path), None, "", f"cannot be read: {error.strerror}")]) from None
    written = _daemon_table(text).get("state_dir")
    if not isinstance(written, str) or not written:
        return None
    home = environment.get("HOME")
    return Path(home) / written[2:] if written.startswith("~/") and home else folder / written


def job_names(path: Path) -> list[str] | None:
    """Return the jobs of the configuration file at ``path``, which is not judged; None if it cannot be looked into."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
        jobs = tomllib.loads(text.replace("\r\n", "\n")).get("jobs")
    except (OSError, ValueError, RecursionError):
        return None
    return list(jobs) if isinstance(jobs, dict) else []


def _daemon_table(text: str) -> dict[str, Any]:
    """Return the table [daemon], also of a file that is not TOML elsewhere."""
    text = text.replace("\r\n", "\n")
    own: list[str] = []
    for line in text.split("\n"):
        head = line.partition("#")[0].strip()
        if head == "[daemon]":
            own = [line]
        elif own and head.startswith("["):
            break
        elif own:
            own.append(line)
    alone = [line for line in own if line.split("=")[0].strip() in {"[daemon]", "state_dir"}]
    for part in ("\n".join(own), text, "\n".join(alone)):
        try:
            table = tomllib.loads(part).get("daemon")
        except (ValueError, RecursionError):
            continue
        if isinstance(table, dict):
            return table
    return {}


@contextmanager
def address_in(state_dir: Path) -> Iterator[str]:
    """Give a path to the socket that is short enough for the kernel, however deep ``state_dir`` lies.

    Raises:
        OSError: the folder cannot be opened.
    """
    path = os.path.abspath(state_dir / SOCKET)
    if len(os.fsencode(path)) <= LONGEST_PATH:
        yield path
        return
    folder = os.open(state_dir, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}/{SOCKET}"
    finally:
        os.close(folder)
