"""The verbs of what was: history, and the dead letters. They work whether a daemon runs or not."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path

import click

from fetchd.cli.completion import job_names
from fetchd.cli.shared import config_option, errors_as_status, load, say_missing, state_dir_option, state_folder
from fetchd.errors import ConfigError
from fetchd.whereabouts import find
from fetchd.whereabouts import job_names as job_names_in


def _looks(verb: Callable[..., int | None]) -> Callable[..., None]:
    return state_dir_option(config_option(errors_as_status(verb)))


@click.command()
@click.argument("job", shell_complete=job_names)
@click.option("-n", "limit", default=20, show_default=True, type=click.IntRange(1), help="How many runs.")
@click.option("--failures", is_flag=True, help="Only those that did not succeed.")
@_looks
def history(job: str, limit: int, failures: bool, given: Path | None, state_dir: Path | None) -> None:
    """Show how the last runs of JOB ended, whether the daemon runs or not, also of one that was removed."""
    from fetchd import past

    folder = state_folder(given, state_dir)
    _look_for(job, folder, given, state_dir)
    _say(past.history(folder, job, limit, failures=failures))


@click.group()
def dead() -> None:
    """Deliveries that were given up. They may be looked at, tried again or thrown away, beside a running daemon too."""


@dead.command("list")
@click.option("--job", shell_complete=job_names, help="Only those of this job.")
@_looks
def dead_list(job: str | None, given: Path | None, state_dir: Path | None) -> None:
    """List the dead letters, the oldest first."""
    from fetchd import past

    folder = state_folder(given, state_dir)
    if job is not None:
        _look_for(job, folder, given, state_dir)
    _say(past.dead_list(folder, job))


@dead.command("show")
@click.argument("id")
@_looks
def dead_show(id: str, given: Path | None, state_dir: Path | None) -> None:
    """Show one dead letter with the beginning of its body, unless the configuration's secrets cannot be read."""
    from fetchd import past

    _say(past.dead_show(state_folder(given, state_dir), id, _redactor(given, state_dir)))


@dead.command("replay")
@click.argument("ids", nargs=-1, metavar="ID...")
@click.option("--all", "everything", is_flag=True, help="All of them.")
@click.option(
    "--wait", is_flag=True, help="Wait until the running daemon has tried them all with success, or given up."
)
@_looks
def dead_replay(ids: tuple[str, ...], everything: bool, wait: bool, given: Path | None, state_dir: Path | None) -> int:
    """Try dead letters again; a running daemon begins within seconds.

    Exit status: 0 they are tried, with --wait: they are delivered; 1 one is dead again, or was not there, 69 with
    --wait: no daemon runs.
    """
    from datetime import UTC, datetime

    from fetchd import past

    chosen = _chosen(ids, everything)
    folder = state_folder(given, state_dir)
    if not wait:
        missing = past.missing(folder, chosen)
        click.echo(past.dead_replay(folder, chosen, datetime.now(UTC)))
        return say_missing(missing)
    from fetchd.cli.replaying import replay

    return replay(folder, chosen)


@dead.command("purge")
@click.argument("ids", nargs=-1, metavar="ID...")
@click.option("--all", "everything", is_flag=True, help="All of them.")
@_looks
def dead_purge(ids: tuple[str, ...], everything: bool, given: Path | None, state_dir: Path | None) -> int:
    """Throw dead letters away for good.

    Exit status: 0 they are gone, 1 one was not there.
    """
    from fetchd import past

    chosen = _chosen(ids, everything)
    folder = state_folder(given, state_dir)
    missing = past.missing(folder, chosen)
    click.echo(past.dead_purge(folder, chosen))
    return say_missing(missing)


def _chosen(ids: tuple[str, ...], everything: bool) -> tuple[str, ...]:
    """Return the ids to act on, none of which stands for all: that nobody shall say by accident."""
    if bool(ids) == everything:
        raise click.UsageError("name dead letters, or say --all")
    return ids


def _look_for(job: str, folder: Path, given: Path | None, state_dir: Path | None) -> None:
    """Do nothing if there is a ``job``, or was, or if the configuration cannot tell."""
    from fetchd import past

    if state_dir is not None and given is None:
        return past.look_for(job, folder, (), state_dir)
    path = find(given, environment=os.environ)
    names = job_names_in(path)
    return None if names is None else past.look_for(job, folder, names, path)


def _say(lines: Iterable[str]) -> None:
    """Show what was kept. Its messages were kept without secrets; they may hold whatever a server said."""
    from fetchd.log import printable

    for line in lines:
        click.echo(printable(line, keep="\n\t"))


def _redactor(given: Path | None, state_dir: Path | None) -> Callable[[str], str] | None:
    """Return what takes the configuration's secrets out of a body; None if they are not known here, and say why."""
    from fetchd.secret import Redactor

    if state_dir is not None and given is None:
        click.echo("to see the body, say with -c which configuration's secrets are to be taken out of it", err=True)
        return None
    try:
        return Redactor(load(given, functions=False).secret_texts())
    except ConfigError as error:
        click.echo(f"{error}\nso the secrets are not known that would be taken out of the body", err=True)
        return None
