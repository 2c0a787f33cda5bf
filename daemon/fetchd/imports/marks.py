"""Variables of the shell within a text: each is marked, so that the text can be taken apart like any other."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Final

OPEN: Final = "\x01"
CLOSE: Final = "\x02"
"""Stand around a variable's name; no command line holds them."""

_MARK: Final = re.compile(f"{OPEN}([A-Za-z_][A-Za-z0-9_]*){CLOSE}")


def marked(name: str) -> str:
    """Return what stands for the variable ``name``."""
    return f"{OPEN}{name}{CLOSE}"


def whole(text: str) -> str | None:
    """Return the name of the variable that ``text`` is, all of it; None if it is anything else."""
    match = _MARK.fullmatch(text)
    return match[1] if match else None


def variables(text: str) -> list[str]:
    """Return the names of the variables in ``text``, each once."""
    return list(dict.fromkeys(_MARK.findall(text)))


def shown(text: str) -> str:
    """Return ``text`` with its variables as a shell has them."""
    return _MARK.sub(r"${\1}", text)


def known(text: str, values: Mapping[str, str]) -> str:
    """Return ``text`` with the variables among ``values`` replaced."""
    return _MARK.sub(lambda match: values.get(match[1], match[0]), text)


def around(text: str, change: Callable[[str], str]) -> str:
    """Return ``text`` with all that is not a variable changed by ``change``."""
    pieces, end = [], 0
    for match in _MARK.finditer(text):
        pieces += [change(text[end : match.start()]), match[0]]
        end = match.end()
    return "".join([*pieces, change(text[end:])])
