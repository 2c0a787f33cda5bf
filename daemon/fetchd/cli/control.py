"""The verbs that speak with the running daemon over its control socket. They import next to nothing."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click

from fetchd.cli.completion import job_names
from fetchd.cli.progress import drawn_line
from fetchd.cli.shared import config_option, errors_as_status, state_dir_option, state_folder


def _asks(verb: Callable[..., int | None]) -> Callable[..., None]:
    return state_dir_option(config_option(errors_as_status(verb)))


@click.command()
@click.option("--json", "as_json", is_flag=True, help="As JSON: one object.")
@click.option("--watch", is_flag=True, help="Go on showing it, until Ctrl-C.")
@click.option("-q", "--quiet", is_flag=True, help="Show nothing unless something is wrong; for health checks.")
@_asks
def status(as_json: bool, watch: bool, quiet: bool, given: Path | None, state_dir: Path | None) -> int:
    """Show what the running daemon does: each job, its last run, its next slot, and what it is owed.

    Exit status: 0 it does its work, 1 it does not, 69 there is none.
    """
    folder = state_folder(given, state_dir)
    if watch:
        from fetchd.cli.watching import watch as show

        return show(lambda: _asked(folder))
    if quiet:
        return _quietly(folder)
    head, rows, code = _asked(folder)
    if not head:
        return code
    if as_json:
        owed = [row for row in rows if "owed_to" in row]
        click.echo(json.dumps({**head, "jobs": [row for row in rows if "job" in row], "owed_to_none": owed}, indent=2))
        return code
    from fetchd.cli.standing import lines

    for line in lines(head, rows, _width()):
        click.echo(line)
    return code


@click.command()
@click.argument("job", shell_complete=job_names)
@click.option("--no-wait", is_flag=True, help="If a run of it is under way, do not wait for its end: refuse.")
@_asks
def trigger(job: str, no_wait: bool, given: Path | None, state_dir: Path | None) -> int:
    """Run JOB now, beside its schedule, also if it is paused or backs off; show how it ended.

    It is skipped, which counts for nothing, while its backlog is full, or its host has asked for no request before a
    time beyond its deadline. Ctrl-C leaves the run to itself.

    Exit status: 0 it succeeded, or there was nothing new; 1 it failed, or was skipped, 69 no daemon runs.
    """
    return _tell(state_folder(given, state_dir), {"verb": "trigger", "job": job, "wait": not no_wait})


@click.command()
@click.argument("jobs", nargs=-1, metavar="JOB...", shell_complete=job_names)
@click.option("--all", "everything", is_flag=True, help="All of them.")
@_asks
def pause(jobs: tuple[str, ...], everything: bool, given: Path | None, state_dir: Path | None) -> int:
    """Leave out the slots of jobs until they are resumed. A run under way goes on; restarts change nothing."""
    return _tell(state_folder(given, state_dir), {"verb": "pause", **_chosen(jobs, everything)})


@click.command()
@click.argument("jobs", nargs=-1, metavar="JOB...", shell_complete=job_names)
@click.option("--all", "everything", is_flag=True, help="All of them.")
@_asks
def resume(jobs: tuple[str, ...], everything: bool, given: Path | None, state_dir: Path | None) -> int:
    """Run jobs again at their slots; those that back off keep their own rhythm again."""
    return _tell(state_folder(given, state_dir), {"verb": "resume", **_chosen(jobs, everything)})


@click.command()
@_asks
def reload(given: Path | None, state_dir: Path | None) -> int:
    """Have the daemon read its configuration again, and show what came of it. With findings nothing changes.

    Exit status: 0 it is in force, with or without changes; 1 it could not be put in force, 69 no daemon runs, 78 it has
    findings.
    """
    return _tell(state_folder(given, state_dir), {"verb": "reload"})


def _chosen(jobs: tuple[str, ...], everything: bool) -> dict[str, Any]:
    if bool(jobs) == everything:
        raise click.UsageError("name jobs, or say --all")
    return {"all": True} if everything else {"jobs": list(jobs)}


def _messages(folder: Path, request: dict[str, Any]) -> Iterator[dict[str, Any]]:
    from fetchd.control.client import ask

    return ask(folder, request)


def _asked(folder: Path) -> tuple[dict[str, Any], list[dict[str, Any]], int]:
    """Return what is known of the daemon, of each job, and the exit status."""
    found: list[dict[str, Any]] = []
    code = 0
    for message in _messages(folder, {"verb": "status", "jobs": True}):
        if "data" in message:
            found.append(message["data"])
        elif "err" in message:
            click.echo(message["err"], err=True)
        code = message.get("exit", code)
    return (found[0] if found else {}), found[1:], code


def _width() -> int | None:
    """Return how many columns the terminal has; None if it does not say, or there is none."""
    return os.get_terminal_size(sys.stdout.fileno()).columns or None if sys.stdout.isatty() else None


def _quietly(folder: Path) -> int:
    code = 0
    for message in _messages(folder, {"verb": "status"}):
        for problem in message.get("data", {}).get("problems", ()):
            click.echo(problem, err=True)
        code = message.get("exit", code)
    return code


def _tell(folder: Path, request: dict[str, Any]) -> int:
    """Ask, and show the answer as it comes; how far a Run has come only on a terminal."""
    from fetchd.cli.standing import progress

    code = 0
    with drawn_line() as line:
        for message in _messages(folder, request):
            if line.drawn and "progress" in message:
                line.show(progress(message["progress"]))
            for key in ("out", "err"):
                if key in message:
                    line.say(message[key], err=key == "err")
            code = message.get("exit", code)
    return code
