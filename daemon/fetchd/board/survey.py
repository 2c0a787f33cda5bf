"""All jobs at one instant, looked at in small pieces: a thousand of them must not hold the loop up."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import datetime
from itertools import chain
from operator import itemgetter
from typing import Final

from fetchd.board import Board, Look, State
from fetchd.shorten import count_of

AT_ONCE: Final = 100
"""Jobs looked at within one turn of the loop."""


@dataclass(frozen=True, slots=True)
class Survey:
    """How every job is, by name, those that somebody should see to first; and their sums.

    A job that is paused is neither failing nor overdue.
    """

    at: datetime
    looks: dict[str, Look]
    failing: int
    overdue: int
    paused: int
    running: int
    owed: int
    dead: int

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
    if look.state.bad:
        return 0
    if look.dead:
        return 1
    return 3 if look.state is State.PAUSED else 2


async def survey(board: Board) -> Survey:
    """Look at every job."""
    now = board.now()
    slots = board.next_slots()
    looks: list[list[tuple[str, Look]]] = [[], [], [], []]
    failing = overdue = running = owed = dead = 0
    for number, name in enumerate(board.jobs(), start=1):
        standing = board.standing(name)
        if standing is not None:  # a reload may come between two pieces
            look = board.look(standing, now, slots.get(name))
            looks[rank(look)].append((name, look))
            failing += look.state is State.FAILING
            overdue += look.overdue
            running += look.running
            owed += look.owed
            dead += look.dead
        if number % AT_ONCE == 0:
            await asyncio.sleep(0)
    for group in looks:
        group.sort(key=itemgetter(0))
    found = dict(chain.from_iterable(looks))
    paused = sum(look.state is State.PAUSED for look in found.values())
    return Survey(now, found, failing, overdue, paused, running, owed, dead)
