"""What the page says in words."""

from __future__ import annotations

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
    ("total", "failing", "overdue", "paused", "said"),
    [
        (0, 0, 0, 0, "There is no job"),
        (1, 0, 0, 0, "The only job is well"),
        (1, 1, 1, 0, "The only job is failing and overdue"),
        (1, 0, 0, 1, "The only job is paused"),
        (50, 0, 0, 0, "All 50 jobs are well"),
        (50, 0, 0, 2, "48 of 50 jobs are well, 2 paused"),
        (50, 3, 1, 0, "3 of 50 jobs are failing, 1 is overdue"),
        (1000, 1, 0, 0, "1 of 1,000 jobs is failing"),
        (1000, 0, 2, 5, "2 of 1,000 jobs are overdue"),
        (3, 0, 0, 3, "All 3 jobs are paused"),
    ],
)
def test_one_sentence_says_how_things_are(total: int, failing: int, overdue: int, paused: int, said: str) -> None:
    """Whoever is woken reads this first, and perhaps nothing else."""
    assert words.headline(total, failing, overdue, paused) == said


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
