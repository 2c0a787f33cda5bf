"""Which configuration file it is, when the command line does not say."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from fetchd.config.environment import xdg_folder
from fetchd.errors import ConfigError, Finding

SYSTEM: Final = Path("/etc/fetchd/config.toml")


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
    raise ConfigError([Finding("fetchd", None, "", f"there is no configuration file; looked for {looked}")])
