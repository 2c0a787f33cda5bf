"""Reads of a PromQL expression what it asks for: metrics, their matchers, and the labels it groups by."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

_TOKEN: Final = re.compile(
    r'"(?:[^"\\]|\\.)*"|\[[^\]]*\]|\d[\w.]*|[A-Za-z_:$][\w:$]*|=~|!~|!=|==|>=|<=|\S',
)
_NAME: Final = re.compile(r"[A-Za-z_:$]")
_GROUPING: Final = frozenset({"by", "without", "on", "ignoring", "group_left", "group_right"})
_WORDS: Final = frozenset({"and", "or", "unless", "offset", "bool", "inf", "nan"})


@dataclass(frozen=True, slots=True)
class Matcher:
    """One condition on a label; ``values`` are the alternatives of a regular expression."""

    label: str
    operator: str
    values: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Selector:
    """A metric with its conditions; ``function`` is the one that it is handed to directly, "" if none is."""

    metric: str
    matchers: tuple[Matcher, ...] = ()
    function: str = ""


@dataclass(slots=True)
class Asked:
    """What an expression asks for; ``kept`` are the labels of its "by"."""

    selectors: list[Selector] = field(default_factory=list)
    grouped: set[str] = field(default_factory=set)
    kept: set[str] = field(default_factory=set)


def read(expression: str) -> Asked:
    """Return what ``expression`` asks for.

    Raises:
        ValueError: it has a form that this reader does not know.
    """
    tokens = _TOKEN.findall(expression)
    asked = Asked()
    position = 0
    while position < len(tokens):
        token, following = tokens[position], tokens[position + 1] if position + 1 < len(tokens) else ""
        position += 1
        if token == "{":
            raise ValueError(f"a selector without a name: {expression}")
        if not _NAME.match(token) or token.lower() in _WORDS:
            continue
        if token in _GROUPING:
            labels = set(_until(tokens, position + 1, ")"))
            asked.grouped |= labels
            asked.kept |= labels if token == "by" else set()
            position = tokens.index(")", position) + 1
        elif following != "(" and following not in _GROUPING:
            function = tokens[position - 3] if position > 2 and tokens[position - 2] == "(" else ""
            inside = list(_until(tokens, position + 1, "}")) if following == "{" else []
            asked.selectors.append(Selector(token, tuple(_matchers(inside)), function))
            position = tokens.index("}", position) + 1 if following == "{" else position
    return asked


def _until(tokens: list[str], position: int, end: str) -> Iterator[str]:
    """Yield what stands from ``position`` to ``end``, without the commas."""
    yield from (token for token in tokens[position : tokens.index(end, position)] if token != ",")


def _matchers(tokens: list[str]) -> Iterator[Matcher]:
    for label, operator, value in zip(tokens[::3], tokens[1::3], tokens[2::3], strict=True):
        text = value[1:-1]
        yield Matcher(label, operator, tuple(text.split("|")) if "~" in operator else (text,))
