"""What the environment says: which folders to use, and what other tools would obey and fetchd does not."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

_PROXIES: Final = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")


def ignored_environment(environment: Mapping[str, str]) -> list[str]:
    """Return the names of set variables that other HTTP clients obey; here only the configuration file counts."""
    names = [*_PROXIES, *map(str.lower, _PROXIES)]
    return [name for name in names if environment.get(name)]


def state_folder(environment: Mapping[str, str]) -> Path | None:
    """Return where state is kept unless the configuration says so; None if the environment does not tell either."""
    # systemd joins several StateDirectory= with colons; the first is ours.
    given = environment.get("STATE_DIRECTORY", "").split(":")[0]
    if given:
        return Path(given)
    base = xdg_folder(environment, "XDG_STATE_HOME", ".local/state")
    return base / "fetchd" if base else None


def xdg_folder(environment: Mapping[str, str], variable: str, below_home: str) -> Path | None:
    """Return the folder that ``variable`` names, else the one ``below_home``; None if there is no home either.

    A relative path is ignored, as the XDG Base Directory Specification asks.
    """
    folder = Path(environment.get(variable, ""))
    if folder.is_absolute():
        return folder
    home = environment.get("HOME")
    return Path(home) / below_home if home else None
