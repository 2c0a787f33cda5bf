"""Ids: what came later sorts behind, whatever the clock says."""

from __future__ import annotations

from datetime import UTC, datetime

from fetchd.clock import FakeClock
from fetchd.run import RunIds, order_of

NOW = datetime(2026, 10, 25, 1, tzinfo=UTC)
HOUR = 3600.0


def test_ids_tell_the_time() -> None:
    """Whoever finds one in a log knows when that Run began."""
    clock = FakeClock(NOW)
    ids = RunIds(clock)
    first = ids.next()
    clock.step(HOUR)
    assert [int(id[:11], 16) for id in (first, ids.next())] == [NOW.timestamp() * 1000, (NOW.timestamp() + HOUR) * 1000]


def test_ids_ascend_where_the_clock_is_set_back() -> None:
    """For an hour, a sink would else take each new result for an older one than it has."""
    clock = FakeClock(NOW)
    ids = RunIds(clock)
    given = [ids.next() for _ in range(20)]
    clock.step(-HOUR)
    given += [ids.next() for _ in range(20)]
    assert given == sorted(given)
    assert len({id[:11] for id in given}) == 40
    next_process = RunIds(clock, f"{given[-1]}.12")
    assert next_process.next() > given[-1]


def test_what_is_no_id_says_nothing() -> None:
    """State that somebody has made by hand must not keep the daemon from starting."""
    clock = FakeClock(NOW)
    assert RunIds(clock, "rates-1").next()[:11] == RunIds(clock).next()[:11]


def test_pages_come_in_their_order() -> None:
    """The tenth is no second one."""
    runs = ["19fa.2", "19fb", "19fa", "19fa.10", "19fa.9", "?.x"]
    assert sorted(runs, key=order_of) == ["19fa", "19fa.2", "19fa.9", "19fa.10", "19fb", "?.x"]
