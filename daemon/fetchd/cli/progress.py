"""How far something has come: one line, drawn over and over on a terminal. Elsewhere nothing is drawn."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from rich.status import Status


class Line:
    """The line, on stderr. Texts are said through it, so that they do not come to stand behind it."""

    def __init__(self, *, drawn: bool) -> None:
        self.drawn = drawn
        """Whether anybody sees what is shown."""
        self._status: Status | None = None

    def show(self, text: str) -> None:
        """Draw ``text`` in the place of what was drawn before."""
        if not self.drawn:
            return
        # Here and in `status --watch` alone: it takes a tenth of a second to import.
        from rich.console import Console
        from rich.text import Text

        if self._status is None:
            # Plain letters, which every terminal has.
            self._status = Console(stderr=True, highlight=False).status("", spinner="line")
            self._status.start()
        self._status.update(Text(text))

    def hide(self) -> None:
        """Take the line away, until something is shown again."""
        if self._status is not None:
            self._status.stop()
            self._status = None

    def say(self, text: str, *, err: bool = False) -> None:
        """Print ``text`` for good."""
        self.hide()
        click.echo(text, err=err)


@contextmanager
def drawn_line() -> Iterator[Line]:
    """Give a line that is gone afterwards."""
    line = Line(drawn=_can_draw())
    try:
        yield line
    finally:
        line.hide()


def _can_draw() -> bool:
    """Return whether stderr is a terminal that can go back to the beginning of a line."""
    terminal = sys.stderr is not None and sys.stderr.isatty()
    return terminal and os.environ.get("TERM", "dumb") not in {"dumb", "unknown"}
