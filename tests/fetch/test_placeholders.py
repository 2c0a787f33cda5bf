"""Placeholders: what is filled in, how, and that every other brace of a body stays what it is."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fetchd.fetch.placeholders import Known, around, fill, filled, names, problems, read, varies, written
from fetchd.job import Cursor
from tests.fetch.room import job

NOW = datetime(2026, 3, 1, 12, 30, 15, 987654, tzinfo=UTC)
KNOWN = Known(NOW, datetime(2026, 3, 1, 12, 30, tzinfo=UTC), datetime(2026, 2, 28, 23, 59, 59, tzinfo=UTC), "a/b c&d")
TIMED = Cursor(slot=True)
HELD = Cursor(next="next")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("{now}", "2026-03-01T12:30:15Z"),
        ("{now:iso}", "2026-03-01T12:30:15Z"),
        ("{now:unix}", "1772368215"),
        ("{now:unix_ms}", "1772368215987"),
        ("{now:%Y-%m-%d}", "2026-03-01"),
        ("{now:%d.%-m. %H:%M}", "01.3. 12:30"),
        ("{slot}", "2026-03-01T12:30:00Z"),
        ("{slot-5m}", "2026-03-01T12:25:00Z"),
        ("{now-1h30m:%H:%M}", "11:00"),
        ("{now+1d:%Y/%m/%d}", "2026/03/02"),
        ("{last_success}", "2026-02-28T23:59:59Z"),
        ("{last_success-1m:unix}", "1772323139"),
        ("{cursor}", "a/b c&d"),
        ("<{now:%Y}|{slot:%m}>", "<2026|03>"),
        ("{{now}}", "{now}"),
        ("{{now-1h:%H}} {now:%H}", "{now-1h:%H} 12"),
        ('{"a":{"since":{now:unix}}}', '{"a":{"since":1772368215}}'),
    ],
)
def test_what_is_filled_in(text: str, value: str) -> None:
    """Each name, each format, each offset, beside what looks like them."""
    assert fill(text, KNOWN) == value


@pytest.mark.parametrize(
    "text",
    [
        '{"now": 1, "cursor": {}}',
        "query { slot { id } items(after: $cursor) { now } }",
        "{ now }",
        "{Now}",
        "{nowadays}",
        "{now",
        "now}",
        "{cursor }",
        "{slot: 5}",
        "{%if now%}{% endif %}",
        "{{ now }}",
        "{{user}}",
        "{}",
        "${HOME}",
        "{now:%Q}",
        "{now:yesterday}",
        "{now-1}",
        "{now:%s}",
    ],
)
def test_other_braces_stay(text: str) -> None:
    """JSON, GraphQL and templates are full of them; what is written wrong is a finding, and left alone."""
    assert fill(text, KNOWN) == text


def test_before_the_first_success_everything_is_asked_for() -> None:
    """An offset does not lead to a time before all times, which servers would not understand."""
    known = Known(NOW, NOW)
    assert fill("{last_success}", known) == "1970-01-01T00:00:00Z"
    assert fill("{last_success-1m:unix}", known) == "0"


def test_times_are_utc_wherever_they_come_from() -> None:
    """A slot may be known in the job's time zone."""
    prague = Known(NOW, datetime(2026, 3, 1, 13, 30, tzinfo=timezone(timedelta(hours=1))))
    assert fill("{slot}", prague) == "2026-03-01T12:30:00Z"


def test_a_cursor_that_is_a_time_has_formats() -> None:
    """That of ``slot = true`` is one; before the first it is the beginning of all times."""
    known = Known(NOW, NOW, cursor=written(NOW))
    assert fill("{cursor}|{cursor-15s:%H:%M:%S}|{cursor:unix_ms}", known) == (
        "2026-03-01T12:30:15.987654Z|12:30:00|1772368215987"
    )
    assert fill("{cursor}|{cursor:unix}", Known(NOW, NOW)) == "|0"


def test_in_a_url_values_are_quoted() -> None:
    """A cursor cannot become another parameter or another path; slashes of a format are the author's own."""
    text = "http://h.test/{now:%Y/%m}/{cursor}?after={cursor}&at={now:%H:%M}"
    assert fill(text, KNOWN, quoted=True) == "http://h.test/2026/03/a%2Fb%20c%26d?after=a%2Fb%20c%26d&at=12%3A30"


def test_every_text_within_json() -> None:
    """Keys and numbers are left alone."""
    document = {"{now}": ["{slot:%H}", {"deep": "{cursor}!", "number": 5, "none": None}]}
    assert filled(document, KNOWN) == {"{now}": ["12", {"deep": "a/b c&d!", "number": 5, "none": None}]}


@pytest.mark.parametrize(
    ("text", "cursor", "words"),
    [
        ("{cursor}", None, "needs a cursor table"),
        ("{cursor:%Y}", HELD, "only times have formats"),
        ("{cursor-1h}", HELD, "only times have formats"),
        ("{cursor:%Q}", TIMED, "unknown format"),
        ("{now:nonsense}", None, "unknown format"),
        ("{now:%s}", None, "unknown format"),
        ("{now:%}", None, "unknown format"),
        ("{slot-1}", None, "the offset of {slot} is wrong"),
        ("{slot+400d}", None, "at most 366d"),
    ],
)
def test_findings(text: str, cursor: Cursor | None, words: str) -> None:
    """What cannot be filled in is said before anything starts, without the text itself, which may be secret."""
    (problem,) = problems(f"{text} and s3cr3t", cursor)
    assert words in problem
    assert "s3cr3t" not in problem


@pytest.mark.parametrize("text", ["{cursor:%Y}{cursor-1h}", "{now:%Y%%}", "{{cursor}}{{now:nonsense}}", "{x}"])
def test_no_findings(text: str) -> None:
    """What is right, and what is not ours."""
    assert not list(problems(text, TIMED if "{{" not in text else None))


@pytest.mark.parametrize(
    ("keys", "wanted"),
    [
        ({}, False),
        ({"params": {"since": "{now}"}}, True),
        ({"json": {"a": [{"b": "{cursor}"}]}}, True),
        ({"json": {"{now}": 1}}, False),
        ({"form": {"a": "{slot:%H}"}}, True),
        ({"body": "query { slot }"}, False),
        ({"body": "{last_success}"}, True),
        ({"headers": {"X-Now": "{now}"}}, False),
    ],
)
def test_which_jobs_vary(keys: dict[str, Any], wanted: bool) -> None:
    """Only they are put together anew each time."""
    assert varies(job("http://h.test/", **keys)) is wanted


def test_names_and_what_is_around_them() -> None:
    """What a log may mask of a secret address is what no placeholder changes."""
    assert names("{now}{{slot}}{cursor:%Y}") == {"now", "cursor"}
    assert around("/hooks/s3cr3t/{now:%Y}/x") == ["/hooks/s3cr3t/", "/x"]
    assert around("/plain") == ["/plain"]


@pytest.mark.parametrize("text", ["", "yesterday", "2026-13-01", "0001-01-01T00:00:00+23:00"])
def test_what_is_no_time(text: str) -> None:
    """A cursor that another definition has left may be anything."""
    assert read(text) is None


TEXT = st.text(alphabet="{}nowcursorltapi_:%-+1hYd \"'&/?é\ud800", max_size=40)


@given(TEXT, st.text(alphabet="{}now&=/ é", max_size=10))
def test_any_text_can_be_filled(text: str, cursor: str) -> None:
    """Nothing raises, and a value is never looked at again: a server cannot smuggle in a placeholder."""
    known = Known(NOW, NOW, NOW, cursor)
    fill(text, known)
    list(problems(text, TIMED))
    assert fill("<{cursor}>", known) == f"<{cursor}>"
    assert unquote(fill("<{cursor}>", known, quoted=True)) == f"<{cursor}>"


@given(st.text(alphabet='{}[]":,0123456789abc \\\n', max_size=60))
def test_text_without_names_is_never_touched(text: str) -> None:
    """Byte by byte: it may be signed."""
    assert fill(text, KNOWN) == text


@given(st.recursive(st.none() | st.text(alphabet="{}now:", max_size=8), lambda inner: st.lists(inner, max_size=3)))
def test_filled_json_keeps_its_shape(document: Any) -> None:
    """Only texts change."""
    assert json.dumps(filled(document, KNOWN)).count("[") == json.dumps(document).count("[")


@given(st.datetimes(datetime(1970, 1, 1), datetime(9000, 1, 1), timezones=st.just(UTC)))  # noqa: DTZ001 - UTC is added
def test_times_come_back(moment: datetime) -> None:
    """A cursor is kept exactly."""
    assert read(written(moment)) == moment
