"""A configuration file as it was read: its data, and the line of everything in it."""

from __future__ import annotations

import functools
import re
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from fetchd.config.lines import KeyPath, key_lines
from fetchd.errors import ConfigError, Finding

DEEPEST: Final = 32
"""Tables and arrays within one another; no real file comes near it."""

_POSITION: Final = re.compile(r" \(at (?:line (\d+), column \d+|end of document)\)$")


@dataclass(frozen=True)
class Document:
    """One reading of a configuration file."""

    path: Path
    text: str
    data: dict[str, Any]

    @functools.cached_property
    def _lines(self) -> dict[KeyPath, int]:
        return key_lines(self.text)

    def line(self, path: KeyPath) -> int | None:
        """Return the line of ``path``, else of the innermost table around it; None for the file itself."""
        while path and path not in self._lines:
            path = path[:-1]
        return self._lines.get(path)


def read(path: Path) -> Document:
    """Read the file at ``path``.

    Raises:
        ConfigError: it cannot be read, or is not TOML.
    """
    return parsed(path, content_of(path))


def parsed(path: Path, content: bytes) -> Document:
    """Return what ``content``, read from the file at ``path``, says.

    Raises:
        ConfigError: it is not TOML.
    """
    try:
        text = content.decode("utf-8-sig").replace("\r\n", "\n")
        data = tomllib.loads(text)
    except UnicodeDecodeError as error:
        raise _refused(path, error.object[: error.start].count(b"\n") + 1, "is not UTF-8 text") from None
    except RecursionError:
        raise _refused(path, None, "is nested too deeply") from None
    except ValueError as error:
        raise _syntax(path, content, str(error)) from None
    if _too_deep(data):
        raise _refused(path, None, "is nested too deeply")
    return Document(path, text, data)


def content_of(path: Path) -> bytes:
    """Return what is in the file at ``path``.

    Raises:
        ConfigError: it cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise _refused(path, None, f"cannot be read: {error.strerror}") from None


def _refused(path: Path, line: int | None, message: str) -> ConfigError:
    return ConfigError([Finding(str(path), line, "", message)])


def _syntax(path: Path, content: bytes, message: str) -> ConfigError:
    """Return the parser's complaint, its position moved to where positions stand."""
    position = _POSITION.search(message)
    if not position:
        return _refused(path, None, f"is not TOML: {message}")
    where = int(position[1]) if position[1] else content.count(b"\n") + 1
    return _refused(path, where, f"is not TOML: {message[: position.start()]}")


def _too_deep(data: dict[str, Any]) -> bool:
    layer: list[Any] = [data]
    for _ in range(DEEPEST):
        layer = [inner for outer in layer for inner in _within(outer) if isinstance(inner, dict | list)]
        if not layer:
            return False
    return True


def _within(value: dict[str, Any] | list[Any]) -> Iterable[Any]:
    return value.values() if isinstance(value, dict) else value
