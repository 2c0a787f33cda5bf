"""What the page says in words."""

from __future__ import annotations

from collections import Counter

import pytest

from fetchd.board import State
from fetchd.errors import Reason
from fetchd.run import Outcome
from fetchd.web import words


def test_everything_that_can_happen_has_words() -> None:
    """A reason that is added later must not be a gap, or an error, on the page."""
    assert set(words.REASONS) == set(Reason)
    assert set(words.OUTCOMES) == set(Outcome)
    assert set(words.SIGNS) == set(State)
    assert len(set(words.SIGNS.values())) == len(State), "each state has a shape of its own"


@pytest.mark.parametrize(
    ("states", "overdue", "said"),
    [
        ({}, 0, "There are no jobs"),
        ({State.WELL: 1}, 0, "The only job is well"),
        ({State.FAILING: 1}, 1, "The only job is failing and overdue"),
        ({State.PAUSED: 1}, 0, "The only job is paused"),
        ({State.NEW: 1}, 0, "The only job has not run yet"),
        ({State.WELL: 2}, 0, "Both jobs are well"),
        ({State.WELL: 50}, 0, "All 50 jobs are well"),
        ({State.NEW: 50}, 0, "None of the 50 jobs has run yet"),
        ({State.WELL: 48, State.PAUSED: 2}, 0, "48 of 50 jobs are well, 2 are paused"),
        ({State.WELL: 1, State.NEW: 1, State.PAUSED: 1}, 0, "1 of 3 jobs is well, 1 has not run yet, 1 is paused"),
        ({State.WELL: 47, State.FAILING: 3}, 1, "3 of 50 jobs are failing, 1 is overdue"),
        ({State.WELL: 999, State.FAILING: 1}, 0, "1 of 1,000 jobs is failing"),
        ({State.WELL: 993, State.OVERDUE: 2, State.PAUSED: 5}, 2, "2 of 1,000 jobs are overdue"),
        ({State.PAUSED: 3}, 0, "All 3 jobs are paused"),
    ],
)
def test_one_sentence_says_how_things_are(states: dict[State, int], overdue: int, said: str) -> None:
    """Whoever is woken reads this first, and perhaps nothing else."""
    assert words.headline(Counter(states), overdue=overdue, dead=0, ready=True) == said


@pytest.mark.parametrize(
    ("failing", "dead", "ready", "said"),
    [
        (0, 2, True, "Both jobs are well, 2 dead letters"),
        (1, 1, True, "1 of 2 jobs is failing, 1 dead letter"),
        (0, 0, False, "The daemon is not ready"),
        (0, 1, False, "The daemon is not ready; 1 dead letter"),
        (1, 0, False, "The daemon is not ready; 1 of 2 jobs is failing"),
    ],
)
def test_the_sentence_begins_with_what_matters_most(failing: int, dead: int, ready: bool, said: str) -> None:
    """Jobs look well for a while after nothing is dispatched any more: then it must not say that they are."""
    states = Counter({State.WELL: 2 - failing, State.FAILING: failing})
    assert words.headline(states, overdue=0, dead=dead, ready=ready) == said


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0, "0 s"),
        (0.0123, "12 ms"),
        (0.9996, "1.0 s"),
        (3.21, "3.2 s"),
        (9.97, "10 s"),
        (59.7, "1 min"),
        (62, "1 min 2 s"),
        (3600, "1 h"),
        (3605, "1 h"),
        (7380, "2 h 3 min"),
        (273600, "3 d 4 h"),
    ],
)
def test_durations_are_said_as_a_person_says_them(seconds: float, said: str) -> None:
    """Two units are enough, and none of them is ever 60 of the smaller one."""
    assert words.length(seconds) == said


@pytest.mark.parametrize(
    ("count", "said"), [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (5 * 2**20, "5.0 MiB"), (2**31, "2.0 GiB")]
)
def test_sizes_are_said_as_a_person_says_them(count: int, said: str) -> None:
    """Nobody counts the digits of bytes."""
    assert words.size(count) == said
