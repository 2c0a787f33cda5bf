"""URLs with ``{a,b}`` and ``[1-3]`` in them, as curl takes each of them for many."""

from __future__ import annotations

import re
from itertools import product
from typing import Final

MOST: Final = 100
"""URLs that one may stand for here."""

_NUMBERS: Final = re.compile(r"(\d{1,9})-(\d{1,9})(?::(\d{1,9}))?")
_LETTERS: Final = re.compile(r"([a-z])-([a-z])(?::(\d{1,3}))?|([A-Z])-([A-Z])(?::(\d{1,3}))?")
_ADDRESS: Final = re.compile(r"\[[0-9A-Fa-f:.]*:[0-9A-Fa-f:.%a-z]*\]|\[\]")
_STEP: Final = re.compile(r"#(\d{1,2})")


class GlobError(Exception):
    """The URL is none that curl takes, or stands for too many."""


def expanded(url: str) -> list[tuple[str, tuple[str, ...]]]:
    """Return each URL that ``url`` stands for, with what was chosen for each of its braces and brackets.

    Raises:
        GlobError: there is no end to a brace, or there are more than 100.
    """
    pieces: list[list[str]] = []
    chosen: list[bool] = []
    count, at = 1, 0
    while at < len(url):
        options, at, choice = _next(url, at)
        count *= len(options)
        if count > MOST:
            raise GlobError(f"it stands for more than {MOST} URLs")
        pieces.append(options)
        chosen.append(choice)
    return [
        ("".join(parts), tuple(part for part, choice in zip(parts, chosen, strict=True) if choice))
        for parts in product(*pieces)
    ]


def numbered(name: str, chosen: tuple[str, ...]) -> str:
    """Return the file's name with ``#1`` and the like replaced by what was chosen."""

    def value(match: re.Match[str]) -> str:
        number = int(match[1])
        return chosen[number - 1] if 0 < number <= len(chosen) else match[0]

    return _STEP.sub(value, name)


def _next(url: str, at: int) -> tuple[list[str], int, bool]:
    letter = url[at]
    if letter == "\\" and url[at + 1 : at + 2] and url[at + 1] in "{}[]":
        return [url[at + 1]], at + 2, False
    if letter == "[" and (match := _ADDRESS.match(url, at)):
        return [match[0]], match.end(), False
    if letter in "{[":
        end = url.find("}" if letter == "{" else "]", at)
        if end < 0:
            raise GlobError(f'a "{letter}" has no end')
        inside = url[at + 1 : end]
        return _alternatives(inside) if letter == "{" else _range(inside), end + 1, True
    if letter in "}]":
        raise GlobError(f'a "{letter}" has no beginning')
    return [letter], at + 1, False


def _alternatives(inside: str) -> list[str]:
    if not inside or "{" in inside or "[" in inside:
        raise GlobError("braces within braces, or nothing within them")
    return inside.split(",")


def _range(inside: str) -> list[str]:
    if match := _NUMBERS.fullmatch(inside):
        first, last, step = int(match[1]), int(match[2]), int(match[3] or 1)
        if first > last or step < 1 or (last - first) // step >= MOST:
            raise GlobError(f"its range is empty, or has more than {MOST}")
        width = len(match[1]) if match[1].startswith("0") else 0
        return [f"{number:0{width}d}" for number in range(first, last + 1, step)]
    if match := _LETTERS.fullmatch(inside):
        first, last, step = ord(match[1] or match[4]), ord(match[2] or match[5]), int(match[3] or match[6] or 1)
        if first > last or step < 1:
            raise GlobError("its range is empty")
        return [chr(number) for number in range(first, last + 1, step)]
    raise GlobError("its range is none")
