"""Secrets that come up while the daemon runs: taken out of every line at once, and forgotten one day."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from fetchd.secret import MASK, Passing, Redactor

WORDS = st.lists(st.text("ab/", min_size=4, max_size=8), max_size=6)


@given(WORDS, st.text("ab/ ", max_size=40))
def test_what_is_known_is_found(words: list[str], text: str) -> None:
    """Wherever it stands, and however much of it is also the beginning of another one."""
    passing = Passing()
    for word in words:
        passing.add(word)
    cleaned = passing.clean(text)
    assert not [word for word in words if word in cleaned]
    if not any(word in text for word in words):
        assert cleaned == text


def test_the_longest_is_taken() -> None:
    """The rest of a token is a good part of it."""
    passing = Passing()
    for word in ("token", "token-and-more", "token-and"):
        passing.add(word)
    assert passing.clean("a token-and-more, token-and, token.") == f"a {MASK}, {MASK}, {MASK}."


def test_the_newest_are_known() -> None:
    """A daemon that runs for years sees millions of them, and its memory stays as it is."""
    passing = Passing(most=3)
    for number in (1, 2, 3, 1, 4):
        passing.add(f"token{number}")
    assert passing.clean("token1 token2 token3 token4") == f"{MASK} token2 {MASK} {MASK}"


def test_a_redactor_takes_out_both() -> None:
    """What the configuration names and what came later, also as part of an address and within tables."""
    redact = Redactor(["configured"])
    redact.note("obt/ained")
    redact.note("abc")
    assert redact({"a": ["configured obt/ained"], "b": "/?t=obt%2Fained abc"}) == {
        "a": [f"{MASK} {MASK}"],
        "b": f"/?t={MASK} abc",
    }
    alone = Redactor()
    line = {"a": "obtained"}
    assert alone(line) is line
    alone.note("obtained")
    assert alone(line) == {"a": MASK}
