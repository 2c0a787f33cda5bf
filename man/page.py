"""Writes the manual page in roff: ``python -m man.page > man/fetchd.1``, or ``make generate``."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from textwrap import TextWrapper
from typing import Final

import click

from fetchd import __version__
from fetchd.cli import main, shared

DESCRIPTION: Final = """\
fetchd is one long-lived process that fetches over HTTP on a schedule and hands each result on: to a command, a Python
function, a file, an SQLite table or a webhook. A run that hangs is ended, counted and told; the next one starts on
time.

Jobs are tables of a TOML file; `fetchd schema` prints its JSON Schema."""

EXIT: Final[dict[int, str]] = {
    0: "All is well.",
    shared.EXIT_FAILED: "It did not succeed; what the verb says of it tells why.",
    2: "The command line is not understood.",
    shared.EXIT_UNAVAILABLE: "No daemon runs.",
    70: "A defect, or too many runs that ignored their end.",
    shared.EXIT_STATE: "The state cannot be used.",
    shared.EXIT_HELD: "Another instance holds the state.",
    shared.EXIT_CONFIG: "The configuration has findings.",
}

ENVIRONMENT: Final[dict[str, str]] = {
    "FETCHD_CONFIG": "The configuration file, where -c names none.",
    "STATE_DIRECTORY": "Where state is kept, where the configuration does not say; systemd sets it.",
    "CREDENTIALS_DIRECTORY": "Where secrets by { credential = NAME } are; systemd sets it.",
    "XDG_CONFIG_HOME": "The user's configuration is in its folder fetchd; without it, in ~/.config.",
    "XDG_STATE_HOME": "The user's state is in its folder fetchd; without it, in ~/.local/state.",
    "NOTIFY_SOCKET": "Where systemd is told that the daemon is ready, stops, or still turns.",
    "NO_COLOR": "Anything: no colours on a terminal.",
}

FILES: Final[dict[str, str]] = {
    "./fetchd.toml": "The configuration, where neither -c nor $FETCHD_CONFIG names one,",
    "~/.config/fetchd/config.toml": "else this,",
    "/etc/fetchd/config.toml": "else this.",
    "~/.local/state/fetchd": "Where state is kept, where neither the configuration nor $STATE_DIRECTORY says.",
}

_WRAPPER: Final = TextWrapper(width=80, break_long_words=False, break_on_hyphens=False)

SIGNALS: Final[dict[str, str]] = {
    "SIGTERM, SIGINT": "Stop in order: no new runs; those under way may end within daemon.shutdown_grace.",
    "SIGHUP": "Read the configuration again, as `fetchd reload` does.",
}


def page() -> str:
    """Return the page. The same program always makes the same one: it bears no date."""
    return "\n".join(_lines()) + "\n"


def text(words: str) -> str:
    """Return ``words`` as roff that shows just them; what stands in backticks is shown as it is typed."""
    escaped = (
        words.replace("\\", "\\e").replace("-", "\\-").replace("'", "\\(aq").replace("~", "\\(ti").replace('"', "\\(dq")
    )
    escaped = re.sub(r"`([^`]+)`", r"\\fB\1\\fR", escaped.replace("^", "\\(ha"))
    # A line that begins with a full stop would be a request.
    return "\n".join(f"\\&{line}" if line.startswith(".") else line for line in _WRAPPER.wrap(escaped))


def _lines() -> Iterator[str]:
    yield '.\\" Made of the command line by "make generate": change it there.'
    yield f'.TH FETCHD 1 "" "fetchd {__version__}" "User Commands"'
    yield ".SH NAME"
    yield "fetchd \\- " + text(_lowered((main.help or "").rstrip(".")))
    yield ".SH SYNOPSIS"
    yield ".B fetchd\n.I VERB\n[\\fIOPTIONS\\fR] [\\fIARGUMENTS\\fR]"
    yield ".SH DESCRIPTION"
    yield from _paragraphs(DESCRIPTION)
    yield ".SH VERBS"
    yield from _verbs(main, click.Context(main, info_name="fetchd"))
    for heading, entries in (
        ("EXIT STATUS", {str(code): what for code, what in EXIT.items()}),
        ("ENVIRONMENT", ENVIRONMENT),
        ("FILES", FILES),
        ("SIGNALS", SIGNALS),
    ):
        yield f".SH {heading}"
        yield from _entries(entries)


def _verbs(group: click.Group, context: click.Context) -> Iterator[str]:
    for name, command in sorted(group.commands.items()):
        inner = click.Context(command, parent=context, info_name=name)
        usage = " ".join(command.collect_usage_pieces(inner))
        yield f".SS {text(inner.command_path)} {text(usage)}"
        yield from _paragraphs(command.help or "")
        if isinstance(command, click.Group):
            yield from _verbs(command, inner)
            continue
        options = (option for option in command.params if isinstance(option, click.Option))
        yield from _entries(dict(record for option in options if (record := option.get_help_record(inner))))


def _lowered(words: str) -> str:
    return words[:1].lower() + words[1:]


def _paragraphs(words: str) -> Iterator[str]:
    for number, paragraph in enumerate(re.split(r"\n\s*\n", words.strip())):
        if number:
            yield ".PP"
        yield text(" ".join(paragraph.split()))


def _entries(entries: dict[str, str]) -> Iterator[str]:
    for name, what in entries.items():
        yield f".TP\n.B {text(name)}"
        yield text(what)


if __name__ == "__main__":
    sys.stdout.write(page())
