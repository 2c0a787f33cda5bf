"""Where sinks may write: what the configuration says, checked there; what it leads to, checked at each delivery."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from fetchd.errors import SinkError

_PLACEHOLDER: Final = re.compile(r"\{([^{}]*)\}")


def path_with(*placeholders: str) -> Callable[[str], str]:
    """Return a validator for paths that may contain the ``placeholders``, such as ``{job}``."""

    def check(path: str) -> str:
        for name in _PLACEHOLDER.findall(path):
            if name not in placeholders:
                raise ValueError(f"unknown placeholder {{{name}}}; {_choice(placeholders)}")
        if re.search(r"[{}]", _PLACEHOLDER.sub("", path)):
            raise ValueError(f"a brace stands alone; {_choice(placeholders)}")
        _check_plain(path)
        return path

    return check


def fill(path: str, values: Mapping[str, str]) -> str:
    """Return ``path`` with its placeholders replaced."""
    return _PLACEHOLDER.sub(lambda match: values[match[1]], path)


def locate(out: Path, path: str) -> Path:
    """Return the file that ``path`` leads to, symbolic links followed, and make its folder; for threads.

    Raises:
        SinkError: it is relative, but a symbolic link leads it out of ``out``.
        OSError: the folder cannot be made.
    """
    found = Path(os.path.realpath(out / path))
    if not os.path.isabs(path) and not found.is_relative_to(os.path.realpath(out)):
        raise SinkError(f"{path}: a symbolic link leads it out of {out}", permanent=True)
    found.parent.mkdir(parents=True, exist_ok=True)
    return found


def _check_plain(path: str) -> None:
    if not path or "\0" in path:
        raise ValueError("name a file")
    if path.startswith("~"):
        raise ValueError('"~" is not expanded: write the path in full')
    if os.path.basename(path) in {"", ".", ".."}:
        raise ValueError("this names a folder: name a file")
    if not os.path.isabs(path) and os.path.normpath(path).split(os.sep)[0] == "..":
        raise ValueError("a relative path must not leave the folder out in the state directory")


def _choice(placeholders: tuple[str, ...]) -> str:
    known = ", ".join(f"{{{name}}}" for name in placeholders)
    return f"known are {known}" if known else "there are none here"
