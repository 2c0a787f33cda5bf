"""Completion in a shell. Each TAB starts the program anew: nothing here imports more than the command line does."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

import click
from click.shell_completion import CompletionItem, get_completion_class

from fetchd.errors import ConfigError
from fetchd.whereabouts import find
from fetchd.whereabouts import job_names as names_in

SHELLS: Final = ("bash", "zsh", "fish")


@click.command()
@click.argument("shell", type=click.Choice(SHELLS))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print what SHELL needs to complete verbs, options and the names of jobs.

    Keep it where the shell looks: for bash in ~/.local/share/bash-completion/completions/fetchd, for zsh as _fetchd in
    a folder of $fpath, for fish in ~/.config/fish/completions/fetchd.fish.
    """
    root = context.find_root()
    kind = get_completion_class(shell)
    assert kind is not None  # Choice has seen to it
    click.echo(kind(root.command, {}, "fetchd", "_FETCHD_COMPLETE").source())


def job_names(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Return the jobs that begin with ``incomplete`` and are not named yet, as the configuration's file has them.

    The file is not judged, only looked at. Names alone are shown: what stands beside them may be secret.
    """
    named = context.params.get(parameter.name or "") or ()
    jobs = _jobs(context.params.get("given"))
    return [CompletionItem(job) for job in jobs if job.startswith(incomplete) and job not in named]


def _jobs(given: Path | None) -> list[str]:
    try:
        # No shell has expanded the words of half a command line.
        path = find(given and given.expanduser(), environment=os.environ)
    except (ConfigError, RuntimeError):  # it is missing; no HOME for ~
        return []  # half a command line is no place to say so: the verb will
    return sorted(names_in(path) or [])
