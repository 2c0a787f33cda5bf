"""The looks of all jobs, in stretches that stay the same value until something in them changes.

Most of a thousand jobs do nothing between two views of the page, and only to touch what is known of all of them takes
longer than all the rest. So those who know something say of which jobs it has changed, and only these are looked at
again; whoever shows the jobs goes only through the stretches that are new.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from operator import attrgetter
from typing import Final

from fetchd.board.look import UNSEEN, Look, look_at
from fetchd.board.standing import Standing, State
from fetchd.job import Job
from fetchd.overdue import NEVER, Overdue
from fetchd.shorten import by_number
from fetchd.store import Memory

LONG: Final = 50
"""Jobs in a stretch."""

Recall = Callable[[str], Memory]
"""Returns what the store remembers of a job."""
Held = Callable[[Iterable[Job]], Mapping[str, datetime]]
"""Returns those of some jobs whose host wants no request before a time that it has named, and that time."""

_job: Final = attrgetter("job")
_next_slot: Final = attrgetter("next_slot")


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
    """A stretch, its places to be looked at again, and what nobody tells: until when each look counts, who is held."""

    __slots__ = ("first", "held", "shown", "stale", "until")

    def __init__(self, names: Sequence[str], standings: Sequence[Standing]) -> None:
        self.shown = Stretch(names, standings, (), None)
        self.stale: set[int] = set()
        self.until = [NEVER] * len(names)
        self.first = NEVER
        self.held: Mapping[str, datetime] = {}


class Table:
    """Looks at the same jobs again and again; all who ask share what it keeps."""

    def __init__(self, standings: Mapping[str, Standing], recall: Recall, held: Held, overdue: Overdue) -> None:
        self._recall = recall
        self._held = held
        self._overdue = overdue
        names = sorted(standings, key=by_number)
        parts = [names[start : start + LONG] for start in range(0, len(names), LONG)]
        self._kept = [_Kept(part, [standings[name] for name in part]) for part in parts]
        self._places = {name: number for number, name in enumerate(names)}
        self.sums = Sums()

    def __len__(self) -> int:
        """Return how many stretches there are."""
        return len(self._kept)

    def stretches(self) -> list[Stretch]:
        """Return all of them, each as it was when it was last looked at."""
        return [kept.shown for kept in self._kept]

    def expect(self, changed: Iterable[str]) -> None:
        """Look again, at the next time, at those of the jobs that there are."""
        for name in changed:
            if (place := self._places.get(name)) is not None:
                self._kept[place // LONG].stale.add(place % LONG)

    def renew(self, number: int, now: datetime, slots: Mapping[str, datetime]) -> int:
        """Look again at those jobs of a stretch that may be otherwise by now; return how many they were."""
        kept = self._kept[number]
        names, standings, before = kept.shown.names, kept.shown.standings, kept.shown.looks
        held = self._held(map(_job, standings))
        if not before:
            kept.stale.update(range(len(names)))
        if kept.first <= now:
            kept.stale.update(place for place, until in enumerate(kept.until) if until <= now)
        if held != kept.held:
            kept.stale.update(place for place, name in enumerate(names) if held.get(name) != kept.held.get(name))
        if not kept.stale:
            return 0
        stale, kept.stale = kept.stale, set()
        looks = list(before) or [UNSEEN] * len(names)
        for place in stale:
            name = names[place]
            if before:
                self.sums.add(looks[place], -1)
            looks[place], kept.until[place] = self._look(standings[place], slots.get(name), held.get(name), now)
            self.sums.add(looks[place])
        kept.first, kept.held = min(kept.until), held
        kept.shown = Stretch(names, standings, looks, min(filter(None, map(_next_slot, looks)), default=None))
        return len(stale)

    def _look(
        self, standing: Standing, slot: datetime | None, held_until: datetime | None, now: datetime
    ) -> tuple[Look, datetime]:
        """Return how a job is, and up to when, unless something changes."""
        memory = self._recall(standing.job.name)
        overdue_at = self._overdue.until(standing.job, memory, now)
        look = look_at(standing, memory, slot, held_until, overdue=overdue_at <= now)
        return look, NEVER if look.overdue else overdue_at
