"""All jobs at one instant, looked at in small pieces: a thousand of them must not hold the loop up."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from fetchd.board import Board, Look, State
from fetchd.board.look import RANKS
from fetchd.board.table import Stretch
from fetchd.shorten import count_of

LOOKED_A_TURN: Final = 100
"""Jobs looked at within one turn of the loop."""
PASSED_A_TURN: Final = 10
"""Stretches of jobs within one turn in which there is nothing to look at."""


@dataclass(frozen=True, slots=True)
class Survey:
    """How every job is, in stretches by name, and their sums.

    A job that is paused is neither failing nor overdue; one that is failing may be overdue as well.
    """

    at: datetime
    stretches: Sequence[Stretch]
    states: Counter[State]
    overdue: int
    running: int
    owed: int
    dead: int

    @property
    def total(self) -> int:
        """How many jobs there are."""
        return self.states.total()

    @property
    def failing(self) -> int:
        """How many jobs are failing."""
        return self.states[State.FAILING]

    @property
    def paused(self) -> int:
        """How many jobs are paused."""
        return self.states[State.PAUSED]

    @property
    def next_slot(self) -> datetime | None:
        """The earliest slot of all jobs."""
        return min((stretch.next_slot for stretch in self.stretches if stretch.next_slot), default=None)

    def looks(self) -> dict[str, Look]:
        """Return how each job is, by name, those that somebody should see to first."""
        ranks: list[dict[str, Look]] = [{} for _ in range(RANKS)]
        for stretch in self.stretches:
            for name, _, look in stretch:
                ranks[look.rank][name] = look
        return {name: look for rank in ranks for name, look in rank.items()}

    def in_short(self) -> str:
        """Return how many jobs there are, and how many of them are as somebody should know: "7 jobs, 2 failing"."""
        counts = (("failing", self.failing), ("overdue", self.overdue), ("paused", self.paused))
        parts = [f"{count} {word}" for word, count in counts if count]
        return ", ".join([count_of(self.total, "job"), *parts])


async def survey(board: Board) -> Survey:
    """Look at every job; anew, if there are other ones before the end."""
    now, slots, table = board.now(), board.next_slots(), board.table
    table.expect(board.changed())
    looked = 0
    for number in range(len(table)):
        looked += table.renew(number, now, slots)
        if looked >= LOOKED_A_TURN or number % PASSED_A_TURN == PASSED_A_TURN - 1:
            looked = 0
            await asyncio.sleep(0)
            if board.table is not table:
                return await survey(board)
    sums = table.sums
    return Survey(now, table.stretches(), Counter(sums.states), sums.overdue, sums.running, sums.owed, sums.dead)
