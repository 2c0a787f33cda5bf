"""Every line that the daemon may log: its name, level and fields from the code, and a sentence for each."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import fetchd
from docs.generating.events import EVENTS
from docs.generating.markdown import code, document, table

LEVELS: Final = ("debug", "info", "warning", "error", "critical")
INTRODUCTION: Final = """
The daemon writes to its standard error stream: on a terminal lines for people, elsewhere one JSON object a line
(`log.format` decides otherwise). Each line has `ts` in UTC, `level` and `event`; those of a Run have `job` and `run`.
Secrets are replaced by `[redacted]`. A reader that stalls does not hold the daemon up: lines are dropped and counted.

A Run is one line, `run_finished`: `slot`, `outcome`, `reason`, `status`, `bytes`, `attempts`, `duration_s` and
`lateness_s`, and if it failed `phase` and `message`.
"""
_EXPANDED: Final = {"which": ("job", "run", "sink", "delivery")}
"""What fields a function stands for that a call takes its fields from."""


@dataclass
class Line:
    """What the code says of one event."""

    levels: set[str] = field(default_factory=set)
    fields: dict[str, None] = field(default_factory=dict)


def page() -> str:
    """Return the page."""
    rows = (_row(event, line) for event, line in sorted(lines().items()))
    return document("Log", INTRODUCTION, table(("Event", "Level", "Says", "Fields"), rows))


def lines() -> dict[str, Line]:
    """Return every event that the code logs."""
    found: dict[str, Line] = {}
    for path in sorted(Path(fetchd.__file__).parent.rglob("*.py")):
        for level, event, call in _calls(ast.parse(path.read_text(encoding="utf-8"))):
            line = found.setdefault(event, Line())
            line.levels.add("error" if level == "exception" else level)
            line.fields |= dict.fromkeys(_fields(call))
    return found


def _calls(tree: ast.AST) -> Iterator[tuple[str, str, ast.Call]]:
    """Yield level, event and call: of ``log.info("event")``, and of ``emit("info", "event", fields)`` and its like."""
    for node in ast.walk(tree):
        match node:
            case ast.Call(
                func=ast.Attribute(value=ast.Name(id="log"), attr=level), args=[ast.Constant(str(event)), *_]
            ):
                if level in {*LEVELS, "exception"}:
                    yield level, event, node
            case ast.Call(args=[ast.Constant(str(level)), ast.Constant(str(event)), *_]) if level in LEVELS:
                yield level, event, node


def _fields(call: ast.Call) -> Iterator[str]:
    for keyword in call.keywords:
        match keyword:
            case ast.keyword(arg=None, value=ast.Call(func=ast.Name(id=name))) if name in _EXPANDED:
                yield from _EXPANDED[name]
            case ast.keyword(arg=str(name)) if name != "exc_info":
                yield name


def _row(event: str, line: Line) -> tuple[str, ...]:
    assert event in EVENTS, f"add a sentence for {event} to docs/generating/events.py"
    words, *more = EVENTS[event]
    fields = list(dict.fromkeys([*more, *line.fields]))
    levels = sorted(line.levels, key=LEVELS.index)
    return code(event), " or ".join(levels), words, ", ".join(map(code, fields)) or "-"
