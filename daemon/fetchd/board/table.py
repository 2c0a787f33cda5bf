"""The looks of all jobs, in stretches that stay the same value until something in them changes.

Most of a thousand jobs do nothing between two views of the page. What a look is made of is compared, many jobs at a
time, with what the one before was made of; whoever shows the jobs goes only through the stretches that are new.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from operator import attrgetter
from typing import Final

from fetchd.board.look import Look, look_at
from fetchd.board.standing import Standing, State
from fetchd.job import Job
from fetchd.overdue import NEVER, Overdue
from fetchd.store import Memory

LONG: Final = 50
"""Jobs in a stretch."""

Recall = Callable[[str], Memory]
"""Returns what the store remembers of a job."""
Held = Callable[[Iterable[Job]], Mapping[str, datetime]]
"""Returns those of some jobs whose host wants no request before a time that it has named, and that time."""
_Made = tuple[Memory, int, datetime | None, datetime | None]
"""What a look is made of: what the store knows, the changes of the standing, the next slot, until when it is held."""

_changes: Final = attrgetter("changes")
_job: Final = attrgetter("job")


@dataclass(frozen=True, slots=True)
class Stretch:
    """Jobs that follow each other by name, and how each is; another one takes its place once one of them changes.

    ``next_slot`` is the earliest of them.
    """

    names: Sequence[str]
    standings: Sequence[Standing]
    looks: Sequence[Look]
    next_slot: datetime | None

    def __iter__(self) -> Iterator[tuple[str, Standing, Look]]:
        """Give each job."""
        return zip(self.names, self.standings, self.looks, strict=True)


@dataclass(slots=True)
class Sums:
    """How many jobs are in each state, and of how many something else is so."""

    states: Counter[State] = field(default_factory=Counter)
    overdue: int = 0
    running: int = 0
    owed: int = 0
    dead: int = 0

    def add(self, look: Look, times: int = 1) -> None:
        """Count a job in; or, -1 times, out."""
        self.states[look.state] += times
        self.overdue += times * look.overdue
        self.running += times * look.running
        self.owed += times * look.owed
        self.dead += times * look.dead


class _Kept:
    """A stretch, what its looks were made of, and up to when that is all there is to each of them, and to the first."""

    __slots__ = ("first", "made_of", "shown", "until")

    def __init__(self, names: Sequence[str], standings: Sequence[Standing]) -> None:
        self.shown = Stretch(names, standings, (), None)
        self.made_of: Sequence[_Made | None] = [None] * len(names)
        self.until = [NEVER] * len(names)
        self.first = NEVER


class Table:
    """Looks at the same jobs again and again; all who ask share what it keeps."""

    def __init__(self, standings: Mapping[str, Standing], recall: Recall, held: Held, overdue: Overdue) -> None:
        self._recall = recall
        self._held = held
        self._overdue = overdue
        names = sorted(standings)
        parts = [names[start : start + LONG] for start in range(0, len(names), LONG)]
        self._kept = [_Kept(part, [standings[name] for name in part]) for part in parts]
        self.sums = Sums()

    def __len__(self) -> int:
        """Return how many stretches there are."""
        return len(self._kept)

    def stretches(self) -> list[Stretch]:
        """Return all of them, each as it was when it was last looked at."""
        return [kept.shown for kept in self._kept]

    def renew(self, number: int, now: datetime, slots: Mapping[str, datetime]) -> int:
        """Look again at those jobs of a stretch that may be otherwise by now; return how many they were."""
        kept = self._kept[number]
        names, standings, before = kept.shown.names, kept.shown.standings, kept.shown.looks
        held = self._held(map(_job, standings))
        memories, changes = map(self._recall, names), map(_changes, standings)
        made_of = list(zip(memories, changes, map(slots.get, names), map(held.get, names), strict=True))
        if made_of == kept.made_of and now < kept.first:
            return 0
        looks = dict(enumerate(before))
        each = zip(made_of, kept.made_of, kept.until, strict=True)
        stale = [place for place, (new, old, until) in enumerate(each) if new != old or until <= now]
        for place in stale:
            if before:
                self.sums.add(before[place], -1)
            looks[place], kept.until[place] = self._look(standings[place], made_of[place], now)
            self.sums.add(looks[place])
        kept.made_of, kept.first = made_of, min(kept.until)
        slots_shown = [look.next_slot for look in looks.values() if look.next_slot]
        kept.shown = Stretch(names, standings, tuple(looks.values()), min(slots_shown, default=None))
        return len(stale)

    def _look(self, standing: Standing, made_of: _Made, now: datetime) -> tuple[Look, datetime]:
        memory, _, next_slot, held_until = made_of
        overdue_at = self._overdue.until(standing.job, memory, now)
        overdue = overdue_at <= now
        return look_at(standing, memory, next_slot, held_until, overdue=overdue), NEVER if overdue else overdue_at
