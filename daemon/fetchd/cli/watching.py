"""``fetchd status --watch``: the same, drawn again each second; the one verb beside the demo that draws."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

import click
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from fetchd.cli import standing
from fetchd.cli.shared import EXIT_UNAVAILABLE
from fetchd.errors import UnavailableError

EVERY: Final = 1.0

_STYLES: Final[Mapping[str, str]] = {"failing": "red", "overdue": "red", "paused": "yellow", "not run yet": "dim"}
_WIDE: Final[Mapping[str, int]] = {"LAST SUCCESS": 110, "NEXT SLOT": 80, "OWED": 95, "DEAD": 95}
"""The width of a terminal from which on a column is shown; the others are there in any."""

Ask = Callable[[], tuple[dict[str, Any], list[dict[str, Any]], int]]


def watch(ask: Ask) -> int:
    """Show what ``ask`` finds until Ctrl-C, and return the last exit status; a daemon that restarts is waited for.

    Raises:
        UnavailableError: there is no daemon to begin with.
    """
    if not sys.stdout.isatty():
        raise click.UsageError("--watch draws on a terminal; elsewhere, ask again and again")
    console = Console(highlight=False)
    head, rows, code = ask()
    with Live(console=console, screen=True, auto_refresh=False) as live:
        try:
            while True:
                if head:
                    live.update(drawn(head, rows, *console.size), refresh=True)
                time.sleep(EVERY)
                try:
                    head, rows, code = ask()
                except UnavailableError as error:
                    head, code = {}, EXIT_UNAVAILABLE
                    live.update(Text(f"{error}; it is asked again and again", style="bold red"), refresh=True)
        except KeyboardInterrupt:
            return code


def drawn(head: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], width: int, height: int) -> RenderableType:
    """Return how things are, to be drawn on a terminal of so many columns and lines: a line for each job, no more."""
    lines = [*standing.headline(head), *standing.owed_to_none(rows)]
    top = [Text(line, no_wrap=True, overflow="ellipsis", style="" if head["ready"] else "bold red") for line in lines]
    jobs = [row for row in rows if "job" in row]
    room = max(1, height - len(top) - 2)
    shown = jobs if len(jobs) <= room else jobs[: room - 1]
    more = [] if len(jobs) <= room else [Text(f"and {len(jobs) - len(shown)} more")]
    return Group(*top, Text(), _table(shown, datetime.fromisoformat(head["now"]), width), *more)


def _table(rows: Sequence[Mapping[str, Any]], now: datetime, width: int) -> Table:
    columns = [heading for heading in standing.HEADINGS if width >= _WIDE.get(heading, 0)]
    table = Table(box=None, pad_edge=False, header_style="bold", expand=True)
    widest = {"JOB": max(8, width // 3), "STATE": max(8, width // 4)}
    for heading in columns:
        last = heading == "LAST RUN"
        table.add_column(heading, no_wrap=True, ratio=1 if last else None, max_width=widest.get(heading))
    for row in rows:
        cells = dict(zip(standing.HEADINGS, standing.cells(row, now), strict=True))
        style = _STYLES.get(row["state"], "")
        table.add_row(*(Text(cells[heading], style=style) for heading in columns))
    return table
