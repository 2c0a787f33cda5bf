"""The rows of the page's table, each rendered once and kept until what it shows changes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final, NamedTuple

from fetchd.board import Look, Standing
from fetchd.board.look import RANKS, UNSEEN
from fetchd.board.survey import Survey
from fetchd.board.table import Stretch

RENDERED_A_TURN: Final = 25

Render = Callable[[Standing, Look], str]
"""Returns the HTML of one job."""


class Row(NamedTuple):
    """A job's HTML; ``stamp`` is that of the view which it was rendered for, ``rank`` that of the look."""

    look: Look
    rank: int
    stamp: int
    html: bytes


_NONE: Final = Row(UNSEEN, 0, 0, b"")
"""In the place of a row until there is one."""


@dataclass(frozen=True)
class Sheet:
    """The rows of a stretch of jobs, the newest of them of ``stamp``."""

    stretch: Stretch
    rows: Sequence[Row]
    stamp: int

    @cached_property
    def ranks(self) -> Sequence[bytes]:
        """The rows by rank, put together: they are sent many times, and rarely change."""
        ranks: list[list[bytes]] = [[] for _ in range(RANKS)]
        for row in self.rows:
            ranks[row.rank].append(row.html)
        return [b"".join(rank) for rank in ranks]


@dataclass(frozen=True, slots=True)
class Shown:
    """The rows of all jobs; whoever has seen them wants next time those that are newer than ``stamp``."""

    stamp: int
    sheets: Sequence[Sheet]

    def pieces(self) -> Iterator[bytes]:
        """Give all rows, those that somebody should see to first, in pieces."""
        for rank in range(RANKS):
            for sheet in self.sheets:
                if piece := sheet.ranks[rank]:
                    yield piece

    def newer(self, stamp: int) -> Iterator[bytes]:
        """Give the rows that are newer than ``stamp``."""
        for sheet in self.sheets:
            if sheet.stamp > stamp:
                yield from (row.html for row in sheet.rows if row.stamp > stamp)


class Rows:
    """Keeps what is rendered; `clear` lets go of it, where nobody has looked for a while."""

    def __init__(self, render: Render) -> None:
        self._render = render
        self._rendered = 0
        self._stamp = 0
        self._rows: dict[str, Row] = {}
        self._sheets: dict[int, Sheet] = {}

    def clear(self) -> None:
        """Let go of everything; whoever asks for what is newer than before gets all of it."""
        self._rows.clear()
        self._sheets.clear()

    async def of(self, found: Survey) -> Shown:
        """Return a row for each job that was found.

        Stamps follow each other as the surveys do, so what is rendered meanwhile for another view is newer than what
        this one shows, and has a later stamp, or it is older, and rendered anew for the next one.
        """
        self._stamp += 1
        stamp = self._stamp
        sheets: list[Sheet] = []
        for number, stretch in enumerate(found.stretches):
            sheet = self._sheets.get(number)
            if sheet is None or sheet.stretch is not stretch:
                sheet = self._sheets[number] = await self._sheet(stretch, sheet, stamp)
            sheets.append(sheet)
        self._sheets = dict(enumerate(sheets))
        if len(self._rows) != found.total:  # some are of jobs that are gone
            self._rows = {
                name: row for sheet in sheets for name, row in zip(sheet.stretch.names, sheet.rows, strict=True)
            }
        return Shown(stamp, sheets)

    async def _sheet(self, stretch: Stretch, before: Sheet | None, stamp: int) -> Sheet:
        """Return the rows of a stretch; of those ``before`` it, what is the same stays."""
        names, standings, looks = stretch.names, stretch.standings, stretch.looks
        if before is None or before.stretch.names is not names:
            rows = [self._rows.get(name, _NONE) for name in names]
        else:
            rows = list(before.rows)
        for place, (look, row) in enumerate(zip(looks, rows, strict=True)):
            if look is not row.look and look != row.look:
                html = self._render(standings[place], look).encode("utf-8", "replace")
                rows[place] = self._rows[names[place]] = Row(look, look.rank, stamp, html)
                self._rendered += 1
                if self._rendered % RENDERED_A_TURN == 0:
                    await asyncio.sleep(0)
        return Sheet(stretch, rows, max([row.stamp for row in rows]))
