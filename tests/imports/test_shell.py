"""How a command line is read: as a shell reads it, word by word."""

from __future__ import annotations

import contextlib
import shutil
import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fetchd.imports.marks import marked, shown
from fetchd.imports.shell import ShellError, ansi_text, pipelines

BASH = shutil.which("bash")


def words(line: str) -> list[str]:
    """Return the words of the only command in ``line``."""
    (pipeline,) = pipelines(line)
    (command,) = pipeline.commands
    return [shown(word.text) for word in command.words]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("a 'b c' \"d e\" f\\ g", ["a", "b c", "d e", "f g"]),
        ("a'b'\"c\"d", ["abcd"]),
        ("'' \"\"", ["", ""]),
        ("a \\\n  b\\\nc", ["a", "bc"]),
        (r'"a\"b\\c\$d\`e\n"', [r'a"b\c$d`e\n']),
        ("'a\\'", ["a\\"]),
        (r"$'a\tb\x41\101\u00e9\'\\' $'\xc3\xa9'", ["a\tbAAé'\\", "é"]),
        ("a # rest", ["a"]),
        ("a#b 'c#'", ["a#b", "c#"]),
        ("$A ${B}c \"$D\" '$E' \\$F $ $.", ["${A}", "${B}c", "${D}", "$E", "$F", "$", "$."]),
        ("~/x ~y a~/b", ["${HOME}/x", "~y", "a~/b"]),
        ("https://h/?a=1\\&b=[1]*", ["https://h/?a=1&b=[1]*"]),
        ('a "b\nc"', ["a", "b\nc"]),
        ("a\r\n", ["a"]),
    ],
)
def test_words(line: str, expected: list[str]) -> None:
    """Each kind of quote keeps what it keeps in a shell."""
    assert words(line) == expected


SAFE = st.text(alphabet="ab '\"\\\n\t#=x", max_size=12)


@pytest.mark.skipif(BASH is None, reason="needs the Debian package bash")
def test_words_as_bash_reads_them() -> None:
    """The rules are bash's own: it is asked about texts full of quotes, all at once."""
    lines: list[str] = []

    @settings(max_examples=150, deadline=None, database=None, derandomize=True)
    @given(SAFE)
    def collect(text: str) -> None:
        with contextlib.suppress(ShellError):
            if len(pipelines(f"x {text}")) == 1 and not text.endswith("\\"):
                lines.append(f"x {text}")

    collect()
    assert len(lines) > 30
    script = "x() { printf '%s\\0' \"$@\"; printf '\\1\\0'; }\n" + "\n".join(lines)
    output = subprocess.run([str(BASH), "-c", script], capture_output=True, check=True, timeout=10).stdout
    by_bash = [answer.split("\0")[:-1] for answer in output.decode().split("\1\0")[:-1]]
    mine = [words(line)[1:] for line in lines]
    assert [answer or [""] for answer in mine] == [answer or [""] for answer in by_bash]


def test_pipelines_and_redirections() -> None:
    """What stands around a command decides what becomes of its output."""
    first, second, third = pipelines("a 2>&1 >f | b 'c' | d; e && f &>g\n")
    assert [len(first.commands), first.before, first.rest] == [3, "", "b 'c' | d"]
    assert [(one.descriptor, one.operator, one.target.text) for one in first.commands[0].redirections] == [
        ("2", ">&", "1"),
        ("", ">", "f"),
    ]
    assert (second.before, second.source) == (";", "e")
    assert (third.before, third.commands[0].redirections[0].operator) == ("&&", "&>")


@pytest.mark.parametrize(
    ("line", "doubt"),
    [
        ("a $(b 'c)' d) e", "$(b 'c)' d)"),
        ('a "x$(date +%F)"', "$(date +%F)"),
        ("a `b`", "`b`"),
        ("a ${b:-c}", "${b:-c}"),
        ("a $((1+(2)))", "$((1+(2)))"),
        ("a $1", "$1"),
        ("a $'\\xff'", "$'\\xff'"),
    ],
)
def test_what_only_a_shell_can_tell(line: str, doubt: str) -> None:
    """It is pointed out in full, and nothing is put in its place."""
    (pipeline,) = pipelines(line)
    assert [one for word in pipeline.commands[0].words for one in word.doubts] == [doubt]


SCRIPTS = [
    *("a 'b", 'a "b', "a $(b", "a `b", "$'x", "a | ", "| a", "a >"),
    *("for x in a; do b; done", "if a; then b; fi", "f() { a; }", "(a)", "a <(b)", "a <<EOF\nx\nEOF"),
    *("a ^\r\n -b", "a ^ \n b"),
    *("a\0b", "a\udcff", f"a {marked('X')}"),
]


@pytest.mark.parametrize("line", SCRIPTS, ids=ascii)
def test_more_than_commands(line: str) -> None:
    """A script is refused as a whole: half of it would be another script."""
    with pytest.raises(ShellError):
        pipelines(line)


def test_ansi_text_that_is_none() -> None:
    """Octets that are no text, and those that could not be an argument, are not guessed."""
    assert [ansi_text(text) for text in (r"\xff", r"\0", r"\x01", r"\ud800", r"\q\cA")] == [None] * 5
    assert ansi_text(r"\q\?\e") == "\\q?\x1b"


@settings(deadline=None, database=None, max_examples=200, derandomize=True)
@given(st.text(max_size=40) | st.text(alphabet="ab$'\"\\`(){}|&;<>#~ \n*", max_size=30))
def test_any_text(text: str) -> None:
    """Whatever the text is, it is read or refused."""
    with contextlib.suppress(ShellError):
        assert all(pipeline.commands for pipeline in pipelines(text))
