"""Every verb of the command line, from the command line itself."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import click

from docs.generating.markdown import code, document, one_line, table
from fetchd.app import EXIT_FAILED as EXIT_DEFECT
from fetchd.cli import main
from fetchd.cli.shared import EXIT_CONFIG, EXIT_FAILED, EXIT_HELD, EXIT_STATE, EXIT_UNAVAILABLE

INTRODUCTION: Final = """
`fetchd VERB --help` says the same. Verbs that need a configuration look for it as
[Configuration](configuration.md) says. Secrets are taken out of everything that is printed.
"""
STATUSES: Final[tuple[tuple[int, str], ...]] = (
    (0, "it did what it should"),
    (
        EXIT_FAILED,
        "it did not: a run failed, the daemon does not do its work, its loop stood still, a disk is full",
    ),
    (2, "the command line is wrong"),
    (EXIT_UNAVAILABLE, "no daemon answers"),
    (EXIT_DEFECT, "the daemon itself failed: a defect, or too many runs that ignore their cancellation"),
    (EXIT_STATE, "the state directory, or what is kept in it, cannot be used"),
    (EXIT_HELD, "another fetchd holds the state directory, or the daemon is stopping: try again later"),
    (EXIT_CONFIG, "the configuration has findings, or there is no such job"),
)


def page() -> str:
    """Return the page."""
    parts = [INTRODUCTION, "## Exit statuses", table(("Status", "Says"), _statuses())]
    parts += _verbs(main, ("fetchd",))
    return document("Command line", *parts)


def _statuses() -> Iterator[tuple[str, str]]:
    for status, words in STATUSES:
        yield code(str(status)), words
    yield "128 + number", "it was ended by that signal: 130 by Ctrl-C, 141 by a reader that has seen enough"


def _verbs(group: click.Group, path: tuple[str, ...]) -> Iterator[str]:
    context = click.Context(group, info_name=" ".join(path))
    for name in group.list_commands(context):
        verb = group.get_command(context, name)
        if verb is None or verb.hidden:
            continue
        yield f"## `{' '.join((*path, name))}`"
        yield from _verb(verb, (*path, name), context)
        if isinstance(verb, click.Group):
            yield from _verbs(verb, (*path, name))


def _verb(verb: click.Command, path: tuple[str, ...], parent: click.Context) -> Iterator[str]:
    with click.Context(verb, info_name=path[-1], parent=parent) as context:
        yield f"```text\n{' '.join((*path, *verb.collect_usage_pieces(context)))}\n```"
        yield "\n\n".join(map(one_line, (verb.help or "").split("\n\n")))
        rows = list(_options(verb, context))
    if rows:
        yield table(("Option", "Says"), rows)


def _options(verb: click.Command, context: click.Context) -> Iterator[tuple[str, str]]:
    for parameter in verb.get_params(context):
        record = parameter.get_help_record(context)
        if isinstance(parameter, click.Option) and record is not None and "--help" not in parameter.opts:
            yield code(record[0]), one_line(record[1])
