"""The verbs of the daemon and of its configuration: run, check, once, explain, example, schema, demo."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fetchd.cli.completion import job_names
from fetchd.cli.progress import drawn_line
from fetchd.cli.shared import TerminatedError, config_option, errors_as_status, load, logging, sparing
from fetchd.shorten import count_of
from fetchd.signals import Hangups

if TYPE_CHECKING:
    from fetchd.config import Config
    from fetchd.run import Progress


def _terminated(_number: int, _frame: object) -> None:
    raise TerminatedError


@click.command()
@click.option("--new-state", is_flag=True, help="Set a damaged database aside, with its date, and begin a new one.")
@config_option
@errors_as_status
def run(new_state: bool, given: Path | None) -> int:
    """Run the daemon in the foreground.

    SIGHUP, or `fetchd reload`, has it read its configuration again.

    Exit status: 0 stopped in order, 1 ended for a loop that stood still, 70 a defect or too many stuck runs, 73 the
    state cannot be used, 75 another instance holds it, 78 the configuration has findings.
    """
    # As process 1 of a container, a process without a handler does not hear SIGTERM at all.
    signal.signal(signal.SIGTERM, _terminated)
    hangups = Hangups()
    hangups.listen()
    # Inherited as ignored, it would cost every command its exit status.
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    import asyncio

    from fetchd.heap import few_arenas

    few_arenas()
    with sparing():
        from fetchd.app import serve
        from fetchd.parts import Launch
    from fetchd.config import find
    from fetchd.config.source import Source
    from fetchd.secret import Redactor

    redact = Redactor()
    source = Source(find(given, environment=os.environ), os.environ, redact.learn)
    reading = source.read()
    with logging(reading.config, redact) as log:
        launch = Launch(source, reading, log, redact, hangups)
        return asyncio.run(serve(launch, os.environ, new_state=new_state))


@click.command()
@click.option("--online", is_flag=True, help="Also connect to every server, and look at what sinks need.")
@config_option
@errors_as_status
def check(online: bool, given: Path | None) -> int:
    """Print everything that is wrong with the configuration.

    With --online each server that it names is connected to as its jobs do, up to the TLS handshake; no request is sent.
    Of sinks it is told what keeps them from their work. It holds for the user who asks, and for this machine.

    Exit status: 0 nothing, 78 findings.
    """
    with sparing():
        from fetchd.fetch.tls import unverified

    config = load(given)
    for name in unverified(config.jobs.values()):
        warning = f"warning: jobs.{name}.tls: with verify = false any server is believed"
        click.echo(f"{config.path}: {warning}", err=True)
    click.echo(f"{config.path}: {count_of(len(config.jobs), 'job')}, nothing wrong")
    return _check_online(config) if online else 0


def _check_online(config: Config) -> int:
    import asyncio

    with sparing():
        from fetchd.cli.online import online
    from fetchd.secret import Redactor

    redact = Redactor(config.secret_texts())
    with logging(config, redact, level="error"), drawn_line() as line:
        return asyncio.run(online(config, redact, line))


@click.command()
@click.argument("job", shell_complete=job_names)
@click.option("--dry-run", is_flag=True, help="Fetch, and show what would be delivered.")
@config_option
@errors_as_status
def once(job: str, dry_run: bool, given: Path | None) -> int:
    """Run JOB once, now, with its deliveries.

    Exit status: 0 it succeeded, or there was nothing new; 1 it failed, or was skipped.
    """
    import asyncio

    from fetchd.cli.standing import progress as how_far

    with sparing():
        from fetchd import once as verb
    from fetchd.secret import Redactor

    config = load(given)
    redact = Redactor(config.secret_texts())
    with logging(config, redact, level="warning"), drawn_line() as line:

        def follow(progress: Progress) -> None:
            line.show(how_far(progress.how_far()))

        return asyncio.run(verb.once(config, job, dry_run=dry_run, show=line.say, redact=redact, follow=follow))


@click.command()
@click.argument("job", shell_complete=job_names)
@config_option
@errors_as_status
def explain(job: str, given: Path | None) -> None:
    """Show what counts for JOB: each value, where it comes from, the next slots, and with whom it shares its host.

    Secrets are not shown.
    """
    from datetime import UTC, datetime

    from fetchd.config import explain as explained
    from fetchd.config import find
    from fetchd.schedule import next_slots, schedule_of

    found = explained(find(given, environment=os.environ), job, environment=os.environ)
    rows = found.rows
    widths = [max(len(row.key) for row in rows), max(min(60, len(row.value)) for row in rows)]
    for row in rows:
        click.echo(f"{row.key:<{widths[0]}}  {row.value:<{widths[1]}}  {row.origin}")
    slots = next_slots(schedule_of(found.job), datetime.now(UTC), 5)
    click.echo("\nnext slots: " + ", ".join(slot.isoformat(sep=" ", timespec="milliseconds") for slot in slots))
    if found.shared:
        click.echo(f"\n{found.shared}")


@click.command()
@errors_as_status
def example() -> None:
    """Print a configuration with every key, what it is for, and a job to begin with: `fetchd example > fetchd.toml`."""
    from importlib.resources import files

    click.echo(files("fetchd").joinpath("config/example.toml").read_text(encoding="utf-8"), nl=False)


@click.command()
@errors_as_status
def schema() -> None:
    """Print the JSON Schema of the configuration file."""
    from fetchd.config import schema as generated

    click.echo(json.dumps(generated(), indent=2, sort_keys=True))


@click.command()
@click.option("--for", "length", default="30s", show_default=True, metavar="DURATION", help="How long it goes on.")
@errors_as_status
def demo(length: str) -> int:
    """Show the daemon at work beside upstreams that are slow, hang, drip and flood. Nothing leaves this machine."""
    from fetchd.demo.show import show
    from fetchd.units import parse_duration

    try:
        seconds = parse_duration(length)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--for") from None
    return show(seconds)
