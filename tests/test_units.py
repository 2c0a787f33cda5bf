"""Durations and sizes: what is accepted, how it is written back, and how wrong spellings are answered."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from fetchd.units import (
    MAX_DURATION,
    MAX_SIZE,
    Duration,
    Size,
    format_duration,
    format_size,
    parse_duration,
    parse_size,
)

DURATION = TypeAdapter(Duration)
SIZE = TypeAdapter(Size)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("10ms", 0.01),
        ("500ms", 0.5),
        ("30s", 30.0),
        ("1.5s", 1.5),
        ("5m", 300.0),
        ("1h30m", 5400.0),
        ("1m30s500ms", 90.5),
        ("1d", 86400.0),
        ("366d", MAX_DURATION),
    ],
)
def test_a_duration_is_read_with_its_units(text: str, seconds: float) -> None:
    """These are the spellings that the documentation shows."""
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            " ",
            "30",
            "s",
            "30 s",
            " 30s",
            "30s\n",
            "-5s",
            "+5s",
            "0s",
            "0.0ms",
            "0.0001ms",
            "1e3s",
            "infs",
            "nans",
            "∞",
        ),
        *("٣s", "1m1m", "30s5m", "5ms1s", "1,5s", "1.s", ".5s", "30S", "30sec", "1w", "1_000s", "367d", "9999999999s"),
    ],
)
def test_anything_else_is_no_duration(text: str) -> None:
    """A duration that is guessed at, or not finite, would be no limit at all."""
    with pytest.raises(ValueError, match="duration"):
        parse_duration(text)


@given(st.integers(min_value=1, max_value=round(MAX_DURATION * 1_000_000)))
def test_every_duration_comes_back_as_it_was_written(micros: int) -> None:
    """What explain shows can be put into a file and means the same."""
    seconds = micros / 1_000_000
    assert parse_duration(format_duration(seconds)) == seconds


@given(st.integers(min_value=1, max_value=MAX_SIZE))
def test_every_size_comes_back_as_it_was_written(size: int) -> None:
    """What explain shows can be put into a file and means the same."""
    assert parse_size(format_size(size)) == size


@given(st.text() | st.from_regex(r"\A[0-9.]{1,12} ?[a-zA-Z]{1,3}\Z"))
def test_a_text_is_a_bounded_number_or_a_value_error(text: str) -> None:
    """Whatever is written, a limit is finite and greater than zero."""
    for parse, largest in ((parse_duration, MAX_DURATION), (parse_size, MAX_SIZE)):
        try:
            value = parse(text)
        except ValueError:
            continue
        assert math.isfinite(value)
        assert 0 < value <= largest


@pytest.mark.parametrize(
    "text", ["", "10", "10 M", "10MiB\n", "-1B", "0B", "1.5MiB", "10mib", "1025GiB", "٣B", "1TB", "inf"]
)
def test_anything_else_is_no_size(text: str) -> None:
    """A size that is guessed at may be a thousand times too large."""
    with pytest.raises(ValueError, match="size"):
        parse_size(text)


@pytest.mark.parametrize(
    ("value", "hint"),
    [
        (30, 'write "30s" if these are seconds'),
        (0.25, 'write "250ms" if these are seconds'),
        (90061, 'write "1d1h1m1s" if these are seconds'),
        *((value, 'a text such as "30s"') for value in (True, False, 0, -5, math.inf, math.nan, 10**400, None, [], {})),
    ],
)
def test_a_number_alone_is_answered_with_the_right_spelling(value: object, hint: str) -> None:
    """Seconds or milliseconds? A reader is asked, never guessed for, and infinity is no deadline."""
    with pytest.raises(ValidationError, match=hint):
        DURATION.validate_python(value)


@pytest.mark.parametrize(
    ("value", "hint"),
    [
        (65536, 'write "64KiB" if these are bytes'),
        (1000, 'write "1000B" if these are bytes'),
        *((value, 'a text such as "10MiB"') for value in (True, 0, -1, math.inf, math.nan, 10**400, None)),
    ],
)
def test_a_size_alone_is_answered_with_the_right_spelling(value: object, hint: str) -> None:
    """As with durations."""
    with pytest.raises(ValidationError, match=hint):
        SIZE.validate_python(value)


def test_values_are_shown_with_their_units() -> None:
    """The JSON form of a model is what a person would write."""
    assert DURATION.dump_python(90.0, mode="json") == "1m30s"
    assert SIZE.dump_python(2**20, mode="json") == "1MiB"
    assert format_duration(0) == "0s"
