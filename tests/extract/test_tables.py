"""CSV as upstreams send it: with marks, charsets, quotes and all that is wrong with it."""

from __future__ import annotations

import csv
import io
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fetchd.errors import FetchError
from tests.extract.made import read, rows

FIELD = st.text(st.characters(codec="utf-8", exclude_characters="\0\r"), min_size=1)


def table(content: bytes, content_type: str = "text/csv", **keys: Any) -> list[Any]:
    """Return the records of ``content``."""
    return rows(read(content, parse="csv", content_type=content_type, **keys))


@pytest.mark.parametrize(
    ("content", "records"),
    [
        (b"a,b\n1,2\n3,4\n", [{"a": "1", "b": "2"}, {"a": "3", "b": "4"}]),
        (b'a,b\r\n"x, ""y""\nz",\r\n', [{"a": 'x, "y"\nz', "b": ""}]),
        (b"\xef\xbb\xbfa\n1", [{"a": "1"}]),
        ("a\n\u010d".encode("utf-16"), [{"a": "\u010d"}]),
        (b"a,a,a_2,a\n1,2,3,4\n", [{"a": "1", "a_3": "2", "a_2": "3", "a_4": "4"}]),
        (b"a,,b,\n1,2,3,\n", [{"a": "1", "b": "3"}]),
        (b"a,b\n1\n\n2,3,,\n", [{"a": "1"}, {"a": "2", "b": "3"}]),
        (b"a,b\n", []),
        (b"", []),
    ],
)
def test_the_first_row_names_the_fields(content: bytes, records: list[Any]) -> None:
    """Whatever is short, empty or there twice: nothing is lost that has a name."""
    assert table(content) == records


def test_the_delimiter_is_the_jobs() -> None:
    """Half of Europe writes semicolons."""
    assert table(b"a;b\n1,5;2\n", delimiter=";") == [{"a": "1,5", "b": "2"}]
    assert table(b"a\tb\n1\t2\n", delimiter="\t") == [{"a": "1", "b": "2"}]


@pytest.mark.parametrize(
    ("declared", "content", "text"),
    [
        ("text/csv; charset=iso-8859-2", b"\xe8", "\u010d"),
        ('text/csv; header=present; charset="windows-1250"', b"\xe8", "\u010d"),
        ("text/csv", "\u010d".encode(), "\u010d"),
        ("text/csv", b"\xe8", "\xe8"),
        ("text/csv; charset=zip", "\u010d".encode(), "\u010d"),
        ("text/csv; charset=unicode_escape", b"\\u010d", "\\u010d"),
    ],
)
def test_the_charset_is_found(declared: str, content: bytes, text: str) -> None:
    """Only real ones count: Python's codecs are more than that."""
    assert table(b"a\n" + content, declared) == [{"a": text}]


@pytest.mark.parametrize(
    ("content", "declared", "message"),
    [
        (b"a\n\xff", "text/csv; charset=utf-8", "the body is not utf-8, as it says it is"),
        (b'a,b\n1,2\n"s3cret', "", "the body is not CSV: line 3: unexpected end of data"),
        (b'a\n"s3cret"x\n', "", "the body is not CSV: line 2: ',' expected after '\"'"),
        (b"a,b\n1,2\n1,2,s3cret\n", "", "the body is not CSV: line 3 has more fields than the first one"),
        (b"\n<!DOCTYPE html><title>Log in</title>", "", "the body is not CSV: it is a page of HTML, or XML"),
        (b'<?xml version="1.0"?>\n<error/>', "text/csv", "the body is not CSV: it is a page of HTML, or XML"),
        (b"a," * 10_001, "", "the table has more than 10000 columns"),
    ],
)
def test_what_is_no_csv_says_where(content: bytes, declared: str, message: str) -> None:
    """And repeats nothing of it."""
    with pytest.raises(FetchError) as caught:
        table(content, declared)
    assert str(caught.value) == message


def test_expressions_choose_rows_and_fields() -> None:
    """The result is records all the same."""
    content = b"id,state\n1,open\n2,closed\n"
    assert table(content, extract="[?state == 'open']") == [{"id": "1", "state": "open"}]
    assert table(content, split="[*].{n: to_number(id)}") == [{"n": 1}, {"n": 2}]


def test_rows_are_told_apart() -> None:
    """An export that grows by a line a day is a line a day."""
    first = read(b"id,x\n1,a\n", parse="csv", unique="id")
    assert table(b"id,x\n1,b\n2,c\n", unique="id", seen=first.seen) == [{"id": "2", "x": "c"}]


def test_a_large_field_is_one() -> None:
    """The csv module's own bound is for programs that cannot bound bodies; it is left as it was."""
    before = csv.field_size_limit()
    assert len(table(b'a\n"' + b"x" * 300_000 + b'"\n')[0]["a"]) == 300_000
    assert csv.field_size_limit() == before


@given(st.lists(FIELD, min_size=1, max_size=5, unique_by=str.strip), st.data())
def test_what_was_written_is_read(names: list[str], data: st.DataObject) -> None:
    """By any program that keeps to RFC 4180."""
    table_rows = data.draw(st.lists(st.lists(FIELD, min_size=len(names), max_size=len(names)), max_size=5))
    text = io.StringIO(newline="")
    csv.writer(text, quoting=csv.QUOTE_ALL).writerows([names, *table_rows])
    named = [name.strip() for name in names]
    wanted = [{name: field for name, field in zip(named, row, strict=True) if name} for row in table_rows]
    assert table(text.getvalue().encode(), "text/csv; charset=utf-8") == wanted
