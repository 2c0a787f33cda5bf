"""Texts cut short: what is left is short, and holds no half of a word."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fetchd.shorten import shortened


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
