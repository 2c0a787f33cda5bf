"""``fetchd status --watch``: the same, drawn again each second; the one verb beside the demo that draws."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import click
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from fetchd.cli import standing

EVERY: Final = 1.0

_STYLES: Final[Mapping[str, str]] = {"failing": "red", "overdue": "red", "paused": "yellow", "not run yet": "dim"}

Ask = Callable[[], tuple[dict[str, Any], list[dict[str, Any]], int]]


def watch(ask: Ask) -> int:
    """Show what ``ask`` finds until Ctrl-C, and return the last exit status."""
    if not sys.stdout.isatty():
        raise click.UsageError("--watch draws on a terminal; elsewhere, ask again and again")
    console = Console(highlight=False)
    code = 0
    with Live(console=console, screen=True, auto_refresh=False) as live:
        try:
            while True:
                head, rows, code = ask()
                if head:
                    live.update(drawn(head, rows), refresh=True)
                time.sleep(EVERY)
        except KeyboardInterrupt:
            return code


def drawn(head: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> RenderableType:
    """Return how things are, to be drawn."""
    from datetime import datetime

    now = datetime.fromisoformat(head["now"])
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in standing.HEADINGS:
        table.add_column(heading, no_wrap=heading != "LAST RUN")
    for row in rows:
        if "job" in row:
            style = _STYLES.get(row["state"], "")
            table.add_row(*(Text(cell, style=style) for cell in standing.cells(row, now)))
    top = [Text(line, style="" if head["ready"] else "bold red") for line in standing.headline(head)]
    return Group(*top, Text(), table)
