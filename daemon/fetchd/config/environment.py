"""What the environment says that other tools obey, and fetchd only for jobs that ask for it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from fetchd.secret import Secret

_PROXIES: Final = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")


def ignored_environment(environment: Mapping[str, str]) -> list[str]:
    """Return the names of set variables that other HTTP clients obey; here only the configuration file counts."""
    names = [*_PROXIES, *map(str.lower, _PROXIES)]
    return [name for name in names if environment.get(name)]


def proxy_variables(environment: Mapping[str, str]) -> dict[str, Secret]:
    """Return the variables that jobs with ``proxy = "env"`` go by; they may hold passwords."""
    names = [*ignored_environment(environment), *(["REQUEST_METHOD"] if "REQUEST_METHOD" in environment else [])]
    return {name: Secret(environment[name], f"env {name}") for name in names}
