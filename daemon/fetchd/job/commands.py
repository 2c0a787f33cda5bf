"""Commands that results and messages are piped to: their arguments, and what they find in their environment."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from typing import Annotated, Final

from pydantic import AfterValidator

from fetchd.job.values import Listed
from fetchd.secret import Secret

INHERITED: Final = frozenset(
    {"HOME", "LANG", "LANGUAGE", "LOGNAME", "PATH", "SHELL", "TMPDIR", "TZ", "USER", "VIRTUAL_ENV"}
)
"""What a command gets of the daemon's environment, besides LC_*; a variable beyond it may be a secret of another."""


def _without_nul(text: str) -> str:
    if "\0" in text:
        raise ValueError("a text that goes to a command cannot hold a NUL")
    return text


def _named(argv: tuple[str, ...]) -> tuple[str, ...]:
    if not argv or not argv[0]:
        raise ValueError('name a command, such as ["python", "manage.py", "import_rates"]')
    return argv


def _settable(environment: dict[str, Secret]) -> dict[str, Secret]:
    for name, value in environment.items():
        if not name or "=" in name or "\0" in name + value.reveal():
            raise ValueError(f"{name!r} cannot be set: a name has no =, and neither name nor value a NUL")
        if name.startswith("FETCHD_"):
            raise ValueError(f"{name} is not yours to set: what starts with FETCHD_ tells of the delivery")
    return environment


CommandText = Annotated[str, AfterValidator(_without_nul)]
"""A text that a command can be given."""

Argv = Annotated[tuple[CommandText, ...], Listed, AfterValidator(_named)]
"""A command and its arguments."""

Variables = Annotated[dict[str, Secret], AfterValidator(_settable)]
"""Variables that are added to a command's environment."""


def environment_of(variables: Mapping[str, Secret], inherited: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a command: what it may have of the daemon's own, and its own ``variables``."""
    return {
        **{name: value for name, value in inherited.items() if name in INHERITED or name.startswith("LC_")},
        **{name: value.reveal() for name, value in variables.items()},
    }


def missing(argv: tuple[str, ...], path: str, variables: Mapping[str, Secret]) -> str | None:
    """Return what to say if there is no command at ``path``, which ``argv`` names; None if there is one."""
    search = variables["PATH"].reveal() if "PATH" in variables else None
    if shutil.which(path, path=search) is not None:
        return None
    hint = "; write each argument as a text of its own" if " " in argv[0] else ""
    return f"there is no command {argv[0]}{hint}"
