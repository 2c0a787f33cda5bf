"""The verbs that make jobs of what people have already: command lines and crontabs. They print, and write no file."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from fetchd.cli.shared import EXIT_FAILED, errors_as_status

if TYPE_CHECKING:
    from fetchd.imports import Imported, Surroundings

_SYSTEM: Final = re.compile(r"/etc/(?:crontab|cron\.d/[^/]+)")
_PLAIN: Final = {"ignore_unknown_options": True, "allow_interspersed_args": False}

_secrets = click.option(
    "--secrets",
    type=click.Choice(["inline", "env"]),
    default="inline",
    show_default=True,
    help="Keep secrets where they are, or print variables in their place; pipes and lines left over stay as they are.",
)


@click.group("import")
def importing() -> None:
    """Make jobs of command lines or of a crontab, and print them.

    What cannot be said in a job is a comment; where the request would be another one without it, so is the job.
    """


@importing.command(context_settings=_PLAIN)
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
@click.option("--name", help="What the job is called, instead of a name made of its URL.")
@click.option("--interval", default="5m", show_default=True, metavar="DURATION", help="How often it runs.")
@_secrets
@errors_as_status
def curl(command: tuple[str, ...], name: str | None, interval: str, secrets: Any) -> int:
    """Print the jobs of COMMAND, a line with curl or wget in quotes, or "-" for lines on the standard input.

    The options of this verb stand before it. Exit status: 0 there is a job, 1 there is none.
    """
    from fetchd.imports import Choices, from_command

    choices = Choices(_name(name), _seconds(interval), secrets)
    given: str | tuple[str, ...] = command
    if len(command) == 1:
        given = _content(Path("-")) if command[0] == "-" else command[0]
    return _show(from_command(given, _surroundings(os.getcwd(), ""), choices))


@importing.command()
@click.argument("file", type=click.Path(path_type=Path, allow_dash=True))
@click.option("--system", is_flag=True, help="A user stands before each command, as in /etc/crontab, which is known.")
@click.option("--timezone", help="The time zone that cron runs in, instead of this machine's.")
@_secrets
@errors_as_status
def crontab(file: Path, system: bool, timezone: str | None, secrets: Any) -> int:
    """Print the jobs of FILE, a crontab, or of the standard input: crontab -l | fetchd import crontab -

    Exit status: 0 there is a job, 1 there is none.
    """
    from fetchd.imports import Choices, from_crontab

    system = system or bool(_SYSTEM.fullmatch(str(file)))
    zone = timezone or _local_zone()
    text, choices = _content(file), Choices(secrets=secrets)
    home = "" if system else os.environ.get("HOME", "")
    return _show(from_crontab(text, _surroundings(home, home), choices, timezone=_zone(zone), system=system))


def _surroundings(folder: str, home: str) -> Surroundings:
    from fetchd.imports import Surroundings

    return Surroundings(folder or None, home or None, {"HOME": home} if home else {}, _read)


def _read(file: str) -> bytes:
    with open(file, "rb", opener=lambda path, flags: os.open(path, flags | os.O_NONBLOCK)) as opened:
        return opened.read(2**20)


def _content(file: Path) -> str:
    try:
        content = sys.stdin.buffer.read() if str(file) == "-" else file.read_bytes()
    except OSError as error:
        raise click.BadParameter(f"cannot be read: {error.strerror}", param_hint=str(file)) from None
    return content.decode("utf-8", "surrogateescape")


def _show(found: Imported) -> int:
    click.echo(found.text, nl=False)
    if found.left:
        click.echo(f"{found.jobs} imported; {found.left} not, as the comments say", err=True)
    elif not found.jobs:
        click.echo("there is no command to import", err=True)
    return 0 if found.jobs else EXIT_FAILED


def _name(name: str | None) -> str | None:
    from fetchd.job import JOB_NAME

    if name is not None and not re.fullmatch(JOB_NAME, name):
        raise click.BadParameter("letters, digits, hyphens, dots and underscores, at most 64", param_hint="--name")
    return name


def _seconds(interval: str) -> float:
    from fetchd.job import SHORTEST_INTERVAL
    from fetchd.units import parse_duration

    try:
        seconds = parse_duration(interval)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--interval") from None
    if seconds < SHORTEST_INTERVAL:
        raise click.BadParameter("the shortest is 10ms", param_hint="--interval")
    return seconds


def _zone(name: str) -> str:
    from zoneinfo import ZoneInfo

    try:
        ZoneInfo(name)
    except (KeyError, OSError, ValueError):
        raise click.BadParameter(f'there is no time zone "{name}"', param_hint="--timezone") from None
    return name


def _local_zone() -> str:
    """Return the name of this machine's time zone; UTC where it has none."""
    _, sign, name = os.path.realpath("/etc/localtime").partition("/zoneinfo/")
    return name if sign else "UTC"
