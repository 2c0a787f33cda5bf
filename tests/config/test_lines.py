"""The scan for lines: it must tell the line of every key in every file that the standard parser takes."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fetchd.config.lines import KeyPath, key_lines
from fetchd.config.written import toml_text, toml_value


def paths(value: Any, path: KeyPath = ()) -> Iterator[KeyPath]:
    """Yield the way to everything in ``value``."""
    if path:
        yield path
    if isinstance(value, dict):
        for key, item in value.items():
            yield from paths(item, (*path, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from paths(item, (*path, index))


KEYS = st.sampled_from(
    ["a", "b-1", "c_2", "3", "with space", 'quo"te', "dot.ted", "é", "", "tab\t", "back\\slash", "#"]
)
TEXTS = st.text(
    alphabet=st.characters(codec="utf-8", exclude_characters="\x7f", exclude_categories=["Cc", "Cs"]), max_size=8
)
SCALARS = (
    TEXTS.map(toml_text)
    | st.sampled_from(["'a # b'", "'''x\n]'''", '"""q"uo"te""""', '"""\\\n  # no\n"""', "'''''a'''''", '""', "''"])
    | st.sampled_from(["1979-05-27 07:32:00", "07:32:00", "1e3", "-inf", "nan", "0xff", "1_000", "true"])
    | st.integers().map(str)
)
BLANKS = st.sampled_from(["", " ", "\n", "\n\n", " # note ]\n", '\t# """\n  '])


@st.composite
def values(draw: st.DrawFn, depth: int = 3) -> str:
    """Draw a value, with line ends and comments wherever an array may have them."""
    shape = draw(st.sampled_from(["scalar", "array", "table"])) if depth else "scalar"
    if shape == "array":
        items = draw(st.lists(values(depth - 1), max_size=3))
        between = [draw(BLANKS) + item + draw(BLANKS) for item in items]
        return f"[{','.join(between)}{draw(st.sampled_from(['', ','])) if items else ''}{draw(BLANKS)}]"
    if shape == "table":
        pairs = draw(st.dictionaries(KEYS, values(depth - 1), max_size=3))
        return "{" + ", ".join(f"{toml_text(key)} = {item}" for key, item in pairs.items()) + "}"
    return draw(SCALARS)


@st.composite
def documents(draw: st.DrawFn) -> str:
    """Draw a text of headers, keys, dotted keys, comments and empty lines."""
    lines = []
    for _ in range(draw(st.integers(0, 8))):
        keys = [toml_text(key) for key in draw(st.lists(KEYS, min_size=1, max_size=3))]
        dotted = draw(st.sampled_from([".", " . "])).join(keys)
        shape = draw(st.sampled_from(["[{}]", "[[{}]]", "[ {} ]", "pair", "pair", "pair"]))
        lines.append(f"{dotted} = {draw(values())}" if shape == "pair" else shape.format(dotted))
        lines.append(draw(st.sampled_from(["", "# = [note]", "  "])))
    return "\n".join(lines)


@given(documents())
def test_everything_the_parser_knows_has_a_line(text: str) -> None:
    """A finding without its line sends the reader searching; a line that the file has not, astray."""
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return
    lines = key_lines(text)
    assert set(paths(data)) == set(lines)
    assert all(1 <= line <= text.count("\n") + 1 for line in lines.values())


@given(st.lists(st.tuples(KEYS, values(), st.integers(0, 3)), max_size=6, unique_by=lambda entry: entry[0]))
def test_a_key_has_the_line_that_it_was_written_on(entries: list[tuple[str, str, int]]) -> None:
    """The line is counted over values of several lines, comments and strings that look like TOML."""
    text, expected = "", {}
    for key, value, blank in entries:
        text += "\n" * blank
        expected[(key,)] = text.count("\n") + 1
        text += f"{toml_text(key)} = {value} # {toml_value(key)}\n"
    try:
        tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return
    lines = key_lines(text)
    assert {path: lines[path] for path in expected} == expected


def test_tables_and_elements_have_the_lines_of_their_headers() -> None:
    """Headers, arrays of tables, implied tables and elements of arrays, all in one file."""
    text = """\
[daemon]              # 1
max = 3
[jobs.a.timeout]      # 3: jobs and jobs.a are implied
connect = "1s"
[jobs.a]              # 5
x.y = 1
"z.z" = [
  1,                  # 8
  { k = 2 },
]
[[jobs.a.sinks]]      # 11
kind = "file"
[[jobs.a.sinks]]      # 13
kind = "file"
[jobs.a.sinks.inner]  # 15
k = 1
"""
    lines = key_lines(text)
    assert lines == {
        ("daemon",): 1,
        ("daemon", "max"): 2,
        ("jobs",): 3,
        ("jobs", "a", "timeout"): 3,
        ("jobs", "a", "timeout", "connect"): 4,
        ("jobs", "a"): 5,
        ("jobs", "a", "x"): 6,
        ("jobs", "a", "x", "y"): 6,
        ("jobs", "a", "z.z"): 7,
        ("jobs", "a", "z.z", 0): 8,
        ("jobs", "a", "z.z", 1): 9,
        ("jobs", "a", "z.z", 1, "k"): 9,
        ("jobs", "a", "sinks"): 11,
        ("jobs", "a", "sinks", 0): 11,
        ("jobs", "a", "sinks", 0, "kind"): 12,
        ("jobs", "a", "sinks", 1): 13,
        ("jobs", "a", "sinks", 1, "kind"): 14,
        ("jobs", "a", "sinks", 1, "inner"): 15,
        ("jobs", "a", "sinks", 1, "inner", "k"): 16,
    }


@pytest.mark.parametrize("key", ['"a\\u00e9"', '"a\\U000000e9"', "'aé'", '"aé"'])
def test_a_key_is_found_however_it_is_spelled(key: str) -> None:
    """The parser resolves escapes, so the scan must."""
    assert key_lines(f"\n{key} = 1") == {("aé",): 2}
