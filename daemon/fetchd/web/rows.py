"""The rows of the page's table, each rendered once and kept until what it shows changes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from fetchd.board import Board, Look, Standing
from fetchd.board.survey import Survey

RENDERED_A_TURN: Final = 8
PASSED_A_TURN: Final = 500

Render = Callable[[Standing, Look], str]
"""Returns the HTML of one job."""


@dataclass(frozen=True, slots=True)
class Row:
    """A job's HTML; ``stamp`` grows with every row that is rendered."""

    look: Look
    stamp: int
    html: bytes


class Rows:
    """Keeps what is rendered; `clear` lets go of it, where nobody has looked for a while."""

    def __init__(self, render: Render) -> None:
        self.stamp = 0
        self._render = render
        self._rows: dict[str, Row] = {}

    def clear(self) -> None:
        """Let go of everything; whoever asks for what is newer than before gets all of it."""
        self._rows.clear()

    async def of(self, board: Board, found: Survey) -> list[Row]:
        """Return a row for each job that was found, in that order."""
        rows: list[Row] = []
        rendered = 0
        for number, (name, look) in enumerate(found.looks.items(), start=1):
            row = self._rows.get(name)
            standing = board.standing(name)
            if standing is None:
                continue
            if row is None or (row.look is not look and row.look != look):
                self.stamp += 1
                row = self._rows[name] = Row(look, self.stamp, self._render(standing, look).encode("utf-8", "replace"))
                rendered += 1
                if rendered % RENDERED_A_TURN == 0:
                    await asyncio.sleep(0)
            elif number % PASSED_A_TURN == 0:
                await asyncio.sleep(0)
            rows.append(row)
        for name in self._rows.keys() - found.looks.keys():
            self._rows.pop(name, None)
        return rows
