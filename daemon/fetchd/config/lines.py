"""Where each key of a TOML file stands: the standard parser gives values, but no lines."""

from __future__ import annotations

import bisect
import re
from typing import Final

KeyPath = tuple[str | int, ...]
"""The way to a value: keys of tables, and positions in arrays."""

_BLANK: Final = re.compile(r"(?:[ \t\r\n]+|#[^\n]*)*")
_SPACE: Final = re.compile(r"[ \t]*")
_BARE_KEY: Final = re.compile(r"[A-Za-z0-9_-]+")
_BASIC: Final = re.compile(r'"(?:[^"\\\n]|\\.)*"')
_LITERAL: Final = re.compile(r"'[^'\n]*'")
_LONG_BASIC: Final = re.compile(r'"""(?:[^"\\]+|\\.|"(?!""))*"{3,5}', re.DOTALL)
_LONG_LITERAL: Final = re.compile(r"'''(?:[^']+|'(?!''))*'{3,5}")
_BARE_VALUE: Final = re.compile(r"[^,\]}#\n]+")
_ESCAPE: Final = re.compile(r"\\(?:u([0-9A-Fa-f]{4})|U([0-9A-Fa-f]{8})|(.))")
_ESCAPED: Final = {"b": "\b", "t": "\t", "n": "\n", "f": "\f", "r": "\r", "e": "\x1b", '"': '"', "\\": "\\"}


def key_lines(text: str) -> dict[KeyPath, int]:
    """Return the line, from 1, of each table, key and array element in ``text``, which must be valid TOML.

    A table that is written out has the line of its header; one that is only implied, that of the first key below it.
    """
    return _Scan(text).run()


class _Scan:
    """One pass over a text that the standard parser has accepted, so nothing is checked here again."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._ends = [match.start() for match in re.finditer("\n", text)]
        self._lines: dict[KeyPath, int] = {}
        self._counts: dict[KeyPath, int] = {}

    def run(self) -> dict[KeyPath, int]:
        table: KeyPath = ()
        while self._skip(_BLANK) < len(self._text):
            if self._text[self._at] == "[":
                table = self._header()
            else:
                self._pair(table)
        return self._lines

    def _header(self) -> KeyPath:
        start = self._at
        array = self._text.startswith("[[", start)
        self._at += 2 if array else 1
        *parents, last = self._key()
        self._at += 2 if array else 1
        path = self._implied((), parents, start)
        path = (*path, last)
        if array:
            self._note(path, start, keep=True)
            path = (*path, self._counts.get(path, 0))
            self._counts[path[:-1]] = self._counts.get(path[:-1], 0) + 1
        self._note(path, start)
        return path

    def _pair(self, table: KeyPath) -> None:
        start = self._at
        *parents, last = self._key()
        self._at += 1
        path = (*self._implied(table, parents, start), last)
        self._note(path, start)
        self._skip(_SPACE)
        self._value(path)

    def _key(self) -> list[str]:
        """Pass a key and the space around it; return its parts."""
        parts = []
        while True:
            self._skip(_SPACE)
            quote = self._text[self._at]
            if quote == '"':
                parts.append(_ESCAPE.sub(_unescaped, self._take(_BASIC)[1:-1]))
            elif quote == "'":
                parts.append(self._take(_LITERAL)[1:-1])
            else:
                parts.append(self._take(_BARE_KEY))
            self._skip(_SPACE)
            if not self._text.startswith(".", self._at):
                return parts
            self._at += 1

    def _implied(self, base: KeyPath, parts: list[str], start: int) -> KeyPath:
        """Return the path of ``parts`` below ``base``; of an array of tables, the element that is being written."""
        path = base
        for part in parts:
            path = (*path, part)
            self._note(path, start, keep=True)
            if path in self._counts:
                path = (*path, self._counts[path] - 1)
        return path

    def _value(self, path: KeyPath) -> None:
        opening = self._text[self._at]
        if opening == "[":
            self._array(path)
        elif opening == "{":
            self._inline_table(path)
        elif opening == '"':
            self._skip(_LONG_BASIC if self._text.startswith('"""', self._at) else _BASIC)
        elif opening == "'":
            self._skip(_LONG_LITERAL if self._text.startswith("'''", self._at) else _LITERAL)
        else:
            self._skip(_BARE_VALUE)

    def _array(self, path: KeyPath) -> None:
        self._at += 1
        index = 0
        while self._text[self._skip(_BLANK)] != "]":
            if self._text[self._at] == ",":
                self._at += 1
                continue
            self._note((*path, index), self._at)
            self._value((*path, index))
            index += 1
        self._at += 1

    def _inline_table(self, path: KeyPath) -> None:
        self._at += 1
        while self._text[self._skip(_BLANK)] != "}":
            if self._text[self._at] == ",":
                self._at += 1
                continue
            self._pair(path)
        self._at += 1

    def _skip(self, pattern: re.Pattern[str]) -> int:
        match = pattern.match(self._text, self._at)
        if match:
            self._at = match.end()
        return self._at

    def _take(self, pattern: re.Pattern[str]) -> str:
        start = self._at
        return self._text[start : self._skip(pattern)]

    def _note(self, path: KeyPath, position: int, *, keep: bool = False) -> None:
        if not (keep and path in self._lines):
            self._lines[path] = bisect.bisect_left(self._ends, position) + 1


def _unescaped(match: re.Match[str]) -> str:
    short, long, letter = match.groups()
    return chr(int(short or long, 16)) if short or long else _ESCAPED[letter]
