"""Times that hosts have named: over restarts, whatever the clocks do meanwhile, and a few thousand of them at most."""

from __future__ import annotations

import pytest

from fetchd.fetch.dates import LONGEST
from fetchd.fetch.holds import PREFIX, REMEMBERED_AT_MOST, Holds
from tests.fetch.timing import Timing

NAME = "api.test"


class Kept:
    """What outlives the process, with the clocks of the machine; ``written`` counts."""

    def __init__(self) -> None:
        self.clock = Timing().clock
        self.notes: dict[str, str] = {}
        self.written = 0

    def keep(self, name: str, value: str | None) -> None:
        """Keep it, or forget it."""
        self.written += 1
        self.notes.pop(name, None)
        if value is not None:
            self.notes[name] = value

    def process(self) -> Holds:
        """Return what a process that starts now goes by."""
        return Holds(self.clock, dict(self.notes), self.keep)


def test_a_restart_does_not_forget_a_time() -> None:
    """A daemon that is started anew in a loop must not ask the host each time."""
    kept = Kept()
    assert kept.process().hold(NAME, 60.0)
    kept.clock.advance(20)
    again = kept.process()
    assert again.left(NAME) == 40.0
    kept.clock.advance(40)
    assert (again.left(NAME), again.until(NAME), len(again), kept.notes) == (0.0, None, 0, {})


def test_what_is_over_by_the_next_start_is_forgotten() -> None:
    """Nothing is asked for it, and nothing is left of it."""
    kept = Kept()
    kept.process().hold(NAME, 60.0)
    kept.clock.advance(60)
    assert (len(kept.process()), kept.notes) == (0, {})


@pytest.mark.parametrize(("step", "left"), [(-86400.0 * 365, 60.0), (-30.0, 60.0), (30.0, 30.0), (86400.0, 0.0)])
def test_a_clock_that_is_set_meanwhile(step: float, left: float) -> None:
    """Set back by a year between two processes, it must not silence a host for a year."""
    kept = Kept()
    running = kept.process()
    running.hold(NAME, 60.0)
    kept.clock.step(step)
    assert running.left(NAME) == 60.0
    assert kept.process().left(NAME) == left


@pytest.mark.parametrize(
    "text", ["", "null", "[]", '["soon", 5]', '["2026-01-01T00:01:00", 60]', '[5, "5"]', "[1, 2, 3]"]
)
def test_what_cannot_be_read_holds_nothing(text: str) -> None:
    """Another version may have written it."""
    kept = Kept()
    kept.notes[PREFIX + NAME] = text
    assert (kept.process().left(NAME), kept.notes) == (0.0, {})


def test_nothing_is_held_for_longer_than_anything_lasts() -> None:
    """Whatever is kept."""
    kept = Kept()
    kept.notes[PREFIX + NAME] = '["9999-12-31T23:59:59+00:00", 1e300]'
    assert kept.process().left(NAME) == LONGEST


def test_many_answers_are_one_note() -> None:
    """Fifty jobs are told the same within a moment."""
    kept = Kept()
    holds = kept.process()
    for _ in range(50):
        kept.clock.advance(0.01)
        assert holds.hold(NAME, 60.0)
    assert kept.written == 1
    assert holds.left(NAME) == 60.0


def test_the_time_that_is_shown_never_comes_too_early() -> None:
    """It is in whole seconds, and does not change from one look to the next."""
    kept = Kept()
    kept.clock.advance(0.25)
    holds = kept.process()
    holds.hold(NAME, 60.0)
    shown = holds.until(NAME)
    kept.clock.advance(10)
    assert holds.until(NAME) == shown
    assert shown is not None
    assert (shown.second, shown.microsecond) == (1, 0)


def test_what_is_lifted_is_forgotten() -> None:
    """By hand, before its time."""
    kept = Kept()
    holds = kept.process()
    holds.hold(NAME, 60.0)
    assert (holds.lift(NAME), holds.lift(NAME), holds.left(NAME), kept.notes) == (True, False, 0.0, {})


def test_no_number_of_hosts_fills_the_disk() -> None:
    """What gives way in memory is forgotten there as well."""
    kept = Kept()
    holds = kept.process()
    for number in range(REMEMBERED_AT_MOST + 10):
        holds.hold(f"host{number}.test", 10.0 + number)
    assert len(holds) == len(kept.notes) == REMEMBERED_AT_MOST
