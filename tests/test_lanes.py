"""Which lane is tried when: decisions that need no clock but the one that they are given."""

from __future__ import annotations

import gc
from collections.abc import Sequence
from datetime import UTC, datetime

import pytest

from fetchd.lanes import Lanes, OpenLane
from fetchd.run import Delivery
from fetchd.store import Lane
from tests.fakes import fetched

NOW = datetime(2026, 3, 1, tzinfo=UTC)


def delivery(run: str = "0001", job: str = "rates", sink: str = "file") -> Delivery:
    """Return a delivery of a Run."""
    return Delivery(f"{run}-{sink}", job, run, NOW, sink, fetched())


def owed(lanes: Lanes, *jobs: str, at: float = 0.0) -> None:
    """Let each of ``jobs`` be owed one delivery, due ``at``."""
    for job in jobs:
        lanes.owe(delivery(job=job), at)


def failed(lanes: Lanes, lane: OpenLane, due: float) -> None:
    """Let a try fail, and the lane come again at ``due``."""
    lane.failures += 1
    lane.due = due
    lanes.release(lane)


def jobs_of(lanes: Sequence[OpenLane]) -> list[str]:
    """Return whose lanes they are."""
    return [lane.job for lane in lanes]


def reachable(root: object) -> int:
    """Return how many containers hang below ``root``."""
    seen: dict[int, object] = {}
    left = [root]
    while left:
        thing = left.pop()
        if id(thing) not in seen and isinstance(thing, dict | list | tuple | set | OpenLane | Lanes):
            seen[id(thing)] = thing
            left += gc.get_referents(thing)
    return len(seen)


def test_a_lane_takes_the_same_memory_however_much_it_is_owed() -> None:
    """An outage of a day must not be felt in the memory: what is owed is in the store."""
    sizes = []
    for count in (1, 10_000):
        lanes = Lanes()
        for number in range(count):
            lanes.owe(delivery(f"{number:05}"), 0.0)
        for attempt in range(count):
            (lane,) = lanes.take_due(float(attempt))
            failed(lanes, lane, float(attempt + 1))
        sizes.append(reachable(lanes))
    assert sizes[0] == sizes[1]


def test_the_longest_due_lane_comes_first() -> None:
    """With fewer places than lanes nobody is forgotten."""
    lanes = Lanes((2, 2, 2))
    owed(lanes, "late", at=3.0)
    owed(lanes, "early", at=1.0)
    owed(lanes, "between", at=2.0)
    assert jobs_of(lanes.take_due(5.0)) == ["early", "between"]
    assert lanes.wake() is None  # nothing can be begun before a place is free


def test_a_lane_in_somebodys_hands_is_not_taken() -> None:
    """Neither by a Run while it is tried, nor the other way round, nor twice."""
    lanes = Lanes()
    held = lanes.hold("rates", "file", 0.0)
    assert held is not None
    lanes.owe(delivery(), 0.0)
    assert lanes.take_due(1.0) == []
    assert lanes.hold("rates", "file", 0.0, owing=1) is None
    lanes.release(held)
    assert lanes.take_due(1.0) == [held]
    assert lanes.take_due(1.0) == []
    assert lanes.hold("rates", "file", 0.0, owing=1) is None


def test_a_run_takes_over_a_lane_that_is_owed_no_more_than_its_own() -> None:
    """If the older ones were made while the result was being kept, nothing would be overtaken."""
    lanes = Lanes()
    lanes.owe(delivery(), 5.0)
    assert lanes.hold("rates", "file", 0.0) is None
    assert lanes.hold("rates", "file", 0.0, owing=1) is not None
    assert lanes.take_due(9.0) == []


def test_lanes_that_work_have_places_of_their_own() -> None:
    """A dozen sinks that hang must not hold up those that fail at once, nor those the one that works."""
    lanes = Lanes((3, 2, 1))
    for job, hung in (("hangs-a", True), ("hangs-b", True), ("fails-a", False), ("fails-b", False)):
        owed(lanes, job)
        (lane,) = lanes.take_due(0.0)
        lane.hung = hung
        failed(lanes, lane, 1.0)
    owed(lanes, "works", at=1.0)
    assert jobs_of(lanes.take_due(1.0)) == ["works", "fails-a", "fails-b"]
    assert lanes.wake() is None

    lanes = Lanes((3, 2, 1))
    for job in ("hangs-a", "hangs-b"):
        owed(lanes, job)
        (lane,) = lanes.take_due(0.0)
        lane.hung = True
        failed(lanes, lane, 1.0)
    assert jobs_of(lanes.take_due(1.0)) == ["hangs-a"]
    owed(lanes, "works", at=1.0)
    assert jobs_of(lanes.take_due(1.0)) == ["works"]


def test_it_is_known_when_to_look_again() -> None:
    """The outbox sleeps until then, and no shorter."""
    lanes = Lanes()
    assert lanes.wake() is None
    owed(lanes, "a", at=7.0)
    owed(lanes, "b", at=4.0)
    assert lanes.wake() == 4.0
    (lane,) = lanes.take_due(4.0)
    failed(lanes, lane, 9.0)
    assert lanes.wake() == 7.0


def test_a_lane_that_is_owed_nothing_is_forgotten() -> None:
    """The table holds what is open, not every sink that there ever was."""
    lanes = Lanes()
    held = lanes.hold("rates", "file", 0.0)
    assert held is not None
    lanes.release(held)
    assert len(lanes) == 0


class TestReconcile:
    """What the store knows counts, but for what has changed since it was asked."""

    @staticmethod
    def row(count: int, job: str = "rates") -> Lane:
        """Return a lane as the store tells of it."""
        return Lane(job, "file", count, 0, NOW)

    def test_what_is_found_is_due(self) -> None:
        """After a start, and after a replay."""
        lanes = Lanes()
        lanes.reconcile([self.row(3)], lanes.mark(), lambda _: 5.0)
        assert (lanes.count("rates", "file"), lanes.wake()) == (3, 5.0)

    def test_a_replay_brings_a_lane_forward(self) -> None:
        """Somebody who replays does not want to wait out the backoff of five minutes."""
        lanes = Lanes()
        owed(lanes, "rates")
        failed(lanes, lanes.take_due(0.0)[0], 300.0)
        lanes.reconcile([self.row(2)], lanes.mark(), lambda _: 5.0)
        assert (lanes.count("rates", "file"), lanes.wake()) == (2, 5.0)
        lanes.reconcile([self.row(2)], lanes.mark(), lambda _: 1.0)
        assert lanes.wake() == 5.0

    def test_what_is_gone_is_forgotten(self) -> None:
        """Nobody waits for a delivery that was purged."""
        lanes = Lanes()
        owed(lanes, "rates")
        lanes.reconcile([], lanes.mark(), lambda _: 0.0)
        assert (len(lanes), lanes.wake()) == (0, None)

    @pytest.mark.parametrize("found", [[], [Lane("rates", "file", 7, 0, NOW)]])
    def test_what_changed_meanwhile_stays(self, found: list[Lane]) -> None:
        """The answer is older than what is known here."""
        lanes = Lanes()
        mark = lanes.mark()
        owed(lanes, "rates")
        lanes.reconcile(found, mark, lambda _: 0.0)
        assert lanes.count("rates", "file") == 1

    def test_what_was_made_meanwhile_does_not_come_back(self) -> None:
        """A lane that seems to be owed something makes the next Run queue behind it."""
        lanes = Lanes()
        held = lanes.hold("rates", "file", 0.0)
        assert held is not None
        lanes.owe(delivery(), 0.0)
        mark = lanes.mark()
        lanes.settle(held, delivery())
        lanes.release(held)
        lanes.reconcile([self.row(1)], mark, lambda _: 0.0)
        assert len(lanes) == 0
        lanes.reconcile([self.row(1)], lanes.mark(), lambda _: 0.0)
        assert len(lanes) == 1


def test_which_tries_are_known() -> None:
    """What another process may have tried, or was dead, has to be looked for where it might be already."""
    lanes = Lanes()
    lanes.reconcile([TestReconcile.row(1)], lanes.mark(), lambda _: 0.0)
    (lane,) = lanes.take_due(0.0)
    assert not lane.knows("0001")
    lanes.owe(delivery("0005"), 0.0)
    lanes.owe(delivery("0006"), 0.0)
    assert [lane.knows(run) for run in ("0001", "0005", "0006")] == [False, True, True]
    lanes.settle(lane, delivery("0005"))
    assert [lane.knows(run) for run in ("0005", "0006")] == [False, True]


def test_lanes_may_be_hurried() -> None:
    """Somebody has mended a sink: what it is owed need not wait for minutes; others' waits stay as they are."""
    lanes = Lanes()
    owed(lanes, "mended", "other", "busy")
    for lane in lanes.take_due(0.0):
        if lane.job != "busy":
            failed(lanes, lane, 300.0)
    lanes.hurry({"mended", "busy", "unknown"}, 5.0)
    assert lanes.wake() == 5.0
    assert jobs_of(lanes.take_due(5.0)) == ["mended"]
    assert lanes.wake() == 300.0
