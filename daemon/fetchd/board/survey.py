"""All jobs at one instant, looked at in small pieces: a thousand of them must not hold the loop up."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from fetchd.board import Board, Look, State
from fetchd.shorten import count_of

AT_ONCE: Final = 100
"""Jobs looked at within one turn of the loop."""

_URGENCY: Final = {State.FAILING: 0, State.OVERDUE: 0, State.WELL: 2, State.NEW: 2, State.PAUSED: 3}
_DEAD: Final = 1
"""The urgency of dead letters: somebody has to decide about them."""


@dataclass(frozen=True, slots=True)
class Survey:
    """How every job is, by name, those that somebody should see to first; and their sums.

    A job that is paused is neither failing nor overdue; one that is failing may be overdue as well.
    """

    at: datetime
    looks: dict[str, Look]
    states: Counter[State]
    overdue: int
    running: int
    owed: int
    dead: int

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
        return min((look.next_slot for look in self.looks.values() if look.next_slot), default=None)

    def in_short(self) -> str:
        """Return how many jobs there are, and how many of them are as somebody should know: "7 jobs, 2 failing"."""
        counts = (("failing", self.failing), ("overdue", self.overdue), ("paused", self.paused))
        parts = [f"{count} {word}" for word, count in counts if count]
        return ", ".join([count_of(len(self.looks), "job"), *parts])


def rank(look: Look) -> int:
    """Return how urgent a job is: 0 the most."""
    urgency = _URGENCY[look.state]
    return _DEAD if look.dead and urgency > _DEAD else urgency


async def survey(board: Board) -> Survey:
    """Look at every job."""
    now = board.now()
    slots = board.next_slots()
    looks: list[dict[str, Look]] = [{}, {}, {}, {}]
    overdue = running = owed = dead = 0
    for number, name in enumerate(board.sorted_jobs(), start=1):
        standing = board.standing(name)
        if standing is not None:  # a reload may come between two pieces
            look = board.look(standing, now, slots.get(name))
            looks[rank(look)][name] = look
            overdue += look.overdue
            running += look.running
            owed += look.owed
            dead += look.dead
        if number % AT_ONCE == 0:
            await asyncio.sleep(0)
    found = {name: look for group in looks for name, look in group.items()}
    return Survey(now, found, Counter(look.state for look in found.values()), overdue, running, owed, dead)
