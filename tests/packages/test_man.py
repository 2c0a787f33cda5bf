"""The manual page says what the command line does."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from typing import Final

import click
import pytest

from fetchd.cli import main
from man.page import ENVIRONMENT, page, text
from tests.packages.made import ROOT

PAGE: Final = ROOT / "man/fetchd.1"


def test_it_is_that_of_the_command_line() -> None:
    """Whoever changes a verb forgets its page: ``make generate`` writes it anew."""
    assert PAGE.read_text() == page()


def verbs(group: click.Group, path: str) -> Iterator[tuple[str, click.Command]]:
    """Yield every verb of ``group`` with what is typed for it."""
    for name, command in group.commands.items():
        yield f"{path} {name}", command
        if isinstance(command, click.Group):
            yield from verbs(command, f"{path} {name}")


@pytest.mark.parametrize(("path", "command"), [*verbs(main, "fetchd")], ids=str)
def test_verbs_and_options_are_told(path: str, command: click.Command) -> None:
    """The verbs within verbs as well."""
    section = PAGE.read_text().partition(f"\n.SS {text(path)} ")[2].partition("\n.S")[0]
    assert section
    for option in command.params:
        if isinstance(option, click.Option) and not option.hidden:
            assert [name for name in (*option.opts, *option.secondary_opts) if text(name) not in section] == []


def test_the_environment_is_that_of_the_code() -> None:
    """A variable that nobody reads any more is looked for in vain."""
    code = "".join(path.read_text() for path in (ROOT / "daemon/fetchd").rglob("*.py"))
    assert [name for name in ENVIRONMENT if f'"{name}"' not in code] == []


@pytest.mark.parametrize(
    ("words", "roff"),
    [
        ("a-b --c", "a\\-b \\-\\-c"),
        ("`fetchd run` it", "\\fBfetchd run\\fR it"),
        (".TH is a word", "\\&.TH is a word"),
        ("'it' \\ \"is\"", "\\(aqit\\(aq \\e \\(dqis\\(dq"),
    ],
)
def test_what_roff_would_take_for_its_own(words: str, roff: str) -> None:
    """A dash that is copied must be one, and no text may become a request."""
    assert text(words) == roff


@pytest.mark.skipif(shutil.which("mandoc") is None, reason="needs the Debian package mandoc")
def test_mandoc_finds_nothing() -> None:
    """It reads more strictly than man does. A date is left out on purpose: the page would change each day."""
    done = subprocess.run(["mandoc", "-T", "lint", str(PAGE)], capture_output=True, text=True, check=False)
    assert [line for line in done.stdout.splitlines() if "missing date" not in line] == []


@pytest.mark.skipif(shutil.which("man") is None, reason="needs the Debian package man-db")
def test_man_shows_it() -> None:
    """It is what users call."""
    command = ["man", "--warnings", "-l", str(PAGE)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env={"PATH": "/usr/bin:/bin"})
    assert done.stderr == ""
    assert "fetchd dead replay [OPTIONS] ID..." in done.stdout
