"""Which lanes are owed deliveries, which of them may be tried now, and when to look again. Decisions without I/O.

A lane is what one sink of one job is owed. Here it takes the same memory whether it is owed one delivery or a million.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Container, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from fetchd.run import Delivery, order_of
from fetchd.store import Lane

PLACES: Final = (8, 6, 4)
"""Tries at one time: of all lanes; of those whose last try failed; of those whose last try did not end by itself.

A sink that answers nothing holds a place until its deadline, so few of them must not keep the others from theirs.
"""


@dataclass(slots=True, eq=False)
class OpenLane:
    """A lane that is owed something, or is in somebody's hands: whoever has it ``held`` may try, and nobody else.

    ``due`` is by the monotonic clock. ``own`` is the first Run of this process that left something here,
    ``settled`` the last one whose delivery was made or given up; Runs' ids are in the order of time.
    """

    job: str
    sink: str
    due: float
    count: int = 0
    own: str = ""
    settled: str = ""
    failures: int = 0
    hung: bool = False
    said: bool = False
    said_at: float = float("-inf")
    unsaid: int = 0
    held: bool = False
    place: int | None = None
    ticket: int = 0
    changed: int = 0

    @property
    def rank(self) -> int:
        """Which of `PLACES` count for it."""
        return 2 if self.hung else min(self.failures, 1)

    def knows(self, run: str) -> bool:
        """Return whether every try of what ``run`` has left here is known.

        An earlier process may have tried and been killed before it could say so, and so may whoever gave up what is
        replayed now.
        """
        return bool(self.own) and order_of(self.own) <= order_of(run) and order_of(self.settled) < order_of(run)


class Lanes:
    """Every lane that is owed something."""

    def __init__(self, places: Sequence[int] = PLACES) -> None:
        self._lanes: dict[tuple[str, str], OpenLane] = {}
        self._places = places
        # By rank: a lane that works must not wait behind those that do not.
        self._busy = [0] * len(places)
        self._queues: list[list[tuple[float, int, OpenLane]]] = [[] for _ in places]
        self._tickets = itertools.count(1)
        self._changes = 0
        self._gone: set[tuple[str, str]] | None = None

    def __len__(self) -> int:
        return len(self._lanes)

    def count(self, job: str, sink: str) -> int:
        """Return how many deliveries the lane is owed."""
        lane = self._lanes.get((job, sink))
        return lane.count if lane else 0

    def hold(self, job: str, sink: str, now: float, *, owing: int = 0) -> OpenLane | None:
        """Take the lane for a Run's first try; None if it is in other hands, or owed more than ``owing`` already."""
        lane = self._lanes.get((job, sink)) or self._add(job, sink, now)
        if lane.held or lane.count > owing:
            return None
        lane.held, lane.ticket = True, 0
        self._touch(lane)
        return lane

    def owe(self, delivery: Delivery, now: float) -> None:
        """Note one delivery more, behind those that its lane is owed already."""
        job, sink = delivery.job, delivery.sink
        lane = self._lanes.get((job, sink)) or self._add(job, sink, now)
        lane.count += 1
        lane.own = lane.own or delivery.run
        self._touch(lane)
        if not lane.held and not lane.ticket:
            self._queue(lane)

    def settle(self, lane: OpenLane, delivery: Delivery) -> None:
        """Note that the first delivery of a lane that is held is made, or given up."""
        lane.count = max(0, lane.count - 1)
        lane.settled = max(lane.settled, delivery.run, key=order_of)

    def empty(self, lane: OpenLane) -> None:
        """Note that a lane that is held is owed nothing after all."""
        lane.count = 0

    def release(self, lane: OpenLane) -> None:
        """Let others try the lane, from its ``due`` on."""
        self.give_place_back(lane)
        lane.held = False
        self._touch(lane)
        if lane.count:
            self._queue(lane)
        else:
            self._forget(lane)

    def give_place_back(self, lane: OpenLane) -> None:
        """Let another lane be tried beside this one, which may still be held by a try that does not end."""
        if lane.place is not None:
            self._busy[lane.place] -= 1
            lane.place = None

    def take_due(self, now: float) -> list[OpenLane]:
        """Take every lane that is due and finds a place, the longest due first."""
        taken: list[OpenLane] = []
        for rank, queue in enumerate(self._queues):
            while self._free(rank) and (first := _first(queue)) is not None and first.due <= now:
                heapq.heappop(queue)
                first.held, first.ticket, first.place = True, 0, rank
                self._busy[rank] += 1
                self._touch(first)
                taken.append(first)
        return taken

    def hurry(self, jobs: Container[str], now: float) -> None:
        """Let the lanes of ``jobs`` be tried now, however long they were to wait; not those in somebody's hands."""
        for lane in self._lanes.values():
            if lane.job in jobs and not lane.held:
                lane.due = min(lane.due, now)
                self._queue(lane)

    def wake(self) -> float | None:
        """Return when the next lane is due that finds a place; None if there is none."""
        firsts = [_first(queue) for rank, queue in enumerate(self._queues) if self._free(rank)]
        return min((first.due for first in firsts if first is not None), default=None)

    def mark(self) -> int:
        """Return where the row of changes is now: what the store is asked from here on may miss later ones."""
        self._gone = set()
        return self._changes

    def reconcile(self, found: Iterable[Lane], mark: int, due_of: Callable[[datetime], float]) -> None:
        """Take over what the store has ``found`` since ``mark``, but for lanes that have changed in the meantime."""
        gone, self._gone = self._gone or set(), None
        missing = dict(self._lanes)
        for owed in found:
            key = (owed.job, owed.sink)
            missing.pop(key, None)
            lane = self._lanes.get(key)
            if key in gone or (lane is not None and (lane.held or lane.changed > mark)):
                continue
            lane = lane or self._add(owed.job, owed.sink, due_of(owed.next_try))
            more = owed.count - lane.count
            lane.count = owed.count
            if more > 0:
                lane.due = min(lane.due, due_of(owed.next_try))
                self._queue(lane)
        for lane in missing.values():
            if not lane.held and lane.changed <= mark:
                self._forget(lane)

    def _add(self, job: str, sink: str, due: float) -> OpenLane:
        lane = self._lanes[job, sink] = OpenLane(job, sink, due)
        return lane

    def _touch(self, lane: OpenLane) -> None:
        self._changes += 1
        lane.changed = self._changes

    def _free(self, rank: int) -> bool:
        return all(sum(self._busy[up_to:]) < self._places[up_to] for up_to in range(rank + 1))

    def _queue(self, lane: OpenLane) -> None:
        """Put the lane where it is found when it is due; an entry that it has already counts no more."""
        lane.ticket = next(self._tickets)
        heapq.heappush(self._queues[lane.rank], (lane.due, lane.ticket, lane))

    def _forget(self, lane: OpenLane) -> None:
        lane.ticket = 0
        del self._lanes[lane.job, lane.sink]
        if self._gone is not None:
            self._gone.add((lane.job, lane.sink))


def _first(queue: list[tuple[float, int, OpenLane]]) -> OpenLane | None:
    """Return the lane at the head of ``queue``, which is rid of entries that count no more."""
    while queue:
        _, ticket, lane = queue[0]
        if lane.ticket == ticket:
            return lane
        heapq.heappop(queue)
    return None
