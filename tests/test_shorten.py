"""Texts cut short: what is left is short, and holds no half of a word."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fetchd.shorten import by_number, meant, shortened


@pytest.mark.parametrize(
    ("text", "end", "kept"),
    [
        ("one two", False, "one two"),
        ("one two three", False, "one two [...]"),
        ("one twos three", False, "one [...]"),
        ("one two three", True, "[...] three"),
        ("one two 3rd day", True, "[...] 3rd day"),
        ("all-in-one-word", False, "[...]"),
        ("all-in-one-word", True, "[...]"),
        ("\n\n\n\n\n\n\n\n\n\n", False, "[...]"),
    ],
)
def test_whole_words_are_kept(text: str, end: bool, kept: str) -> None:
    """A word that ends exactly at the cut is whole; a text that is short enough is left as it is."""
    assert shortened(text, 7, end=end) == kept


@given(st.text(alphabet="ab \n", max_size=60), st.integers(1, 40), st.booleans())
def test_no_word_is_halved(text: str, longest: int, end: bool) -> None:
    """Whatever the text: half of a secret would be shown, for only the whole of it is looked for."""
    kept = shortened(text, longest, end=end)
    assert len(kept) <= max(longest, len(text[:longest])) + len(" [...]")
    words = kept.replace("[...]", " ").split()
    of_text = text.split()
    assert words == (of_text[len(of_text) - len(words) :] if end else of_text[: len(words)])


def test_numbers_in_names_count_as_numbers() -> None:
    """Job 10 comes after job 2, wherever the number stands; names that differ in zeros alone have an order, too."""
    names = ["a.10", "10", "job-10", "2", "job-2", "job-2b", "job-02", "job", "a.9.1", "0x9" + "9" * 59, "a.9"]
    wanted = ["0x9" + "9" * 59, "2", "10", "a.9", "a.9.1", "a.10", "job", "job-02", "job-2", "job-2b", "job-10"]
    assert sorted(names, key=by_number) == wanted


def test_what_may_have_been_meant() -> None:
    """The nearest name, or so many as can be read."""
    many = [f"job-{number}" for number in range(1000)]
    assert meant("rats", ["rates", "other"]) == 'did you mean "rates"?'
    assert meant("x", ["b", "a"]) == "the jobs are a, b"
    assert meant("x", many) == f"the jobs are {', '.join(many[:20])} and 980 more"
    assert meant("x", ()) == "there is none"
