"""The verbs of what was: history, and the dead letters. They work whether a daemon runs or not."""

from __future__ import annotations

from pathlib import Path

import click

from fetchd.cli.completion import job_names
from fetchd.cli.shared import config_option, errors_as_status, kept


@click.command()
@click.argument("job", shell_complete=job_names)
@click.option("-n", "limit", default=20, show_default=True, type=click.IntRange(1), help="How many runs.")
@click.option("--failures", is_flag=True, help="Only those that did not succeed.")
@config_option
@errors_as_status
def history(job: str, limit: int, failures: bool, given: Path | None) -> None:
    """Show how the last runs of JOB ended, whether the daemon runs or not."""
    from fetchd import past

    state_dir, show = kept(given)
    for line in past.history(state_dir, job, limit, failures=failures):
        show(line)


@click.group()
def dead() -> None:
    """Deliveries that were given up. They may be looked at, tried again or thrown away, beside a running daemon too."""


@dead.command("list")
@click.option("--job", shell_complete=job_names, help="Only those of this job.")
@config_option
@errors_as_status
def dead_list(job: str | None, given: Path | None) -> None:
    """List the dead letters, the oldest first."""
    from fetchd import past

    state_dir, show = kept(given)
    for line in past.dead_list(state_dir, job):
        show(line)


@dead.command("show")
@click.argument("id")
@config_option
@errors_as_status
def dead_show(id: str, given: Path | None) -> None:
    """Show one dead letter with the beginning of its body."""
    from fetchd import past

    state_dir, show = kept(given)
    for line in past.dead_show(state_dir, id):
        show(line)


@dead.command("replay")
@click.argument("ids", nargs=-1, metavar="ID...")
@click.option("--all", "everything", is_flag=True, help="All of them.")
@click.option(
    "--wait", is_flag=True, help="Wait until the running daemon has tried them all with success, or given up."
)
@config_option
@errors_as_status
def dead_replay(ids: tuple[str, ...], everything: bool, wait: bool, given: Path | None) -> int:
    """Try dead letters again; a running daemon begins within seconds.

    Exit status: 0 they are tried, with --wait: they are delivered; 1 one is dead again, 69 with --wait: no daemon runs.
    """
    from datetime import UTC, datetime

    from fetchd import past

    chosen = _chosen(ids, everything)
    state_dir, show = kept(given)
    if not wait:
        show(past.dead_replay(state_dir, chosen, datetime.now(UTC)))
        return 0
    from fetchd.cli.replaying import replay

    return replay(state_dir, chosen)


@dead.command("purge")
@click.argument("ids", nargs=-1, metavar="ID...")
@click.option("--all", "everything", is_flag=True, help="All of them.")
@config_option
@errors_as_status
def dead_purge(ids: tuple[str, ...], everything: bool, given: Path | None) -> None:
    """Throw dead letters away for good."""
    from fetchd import past

    state_dir, show = kept(given)
    show(past.dead_purge(state_dir, _chosen(ids, everything)))


def _chosen(ids: tuple[str, ...], everything: bool) -> tuple[str, ...]:
    """Return the ids to act on, none of which stands for all: that nobody shall say by accident."""
    if bool(ids) == everything:
        raise click.UsageError("name dead letters, or say --all")
    return ids
