"""Words on the command line, and the exit status that each of them ends with."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from fetchd import __version__
from fetchd.errors import ConfigError, FetchdError, InstanceError, StateError, StoreError

if TYPE_CHECKING:
    from fetchd.config import Config
    from fetchd.log import Level, Log

EXIT_FAILED: Final = 1
EXIT_STATE: Final = 73
EXIT_HELD: Final = 75
EXIT_CONFIG: Final = 78
"""sysexits.h: can't create, try again later, configuration error."""


class _TerminatedError(BaseException):
    """SIGTERM came before there was a loop to hear it. No SystemExit: the user's modules may be under import."""


def _terminated(_number: int, _frame: object) -> None:
    raise _TerminatedError


def _errors_as_status(verb: Callable[..., int | None]) -> Callable[..., None]:
    """Turn what ``verb`` returns, or raises for the reader, into the exit status."""

    @wraps(verb)
    def run(*args: Any, **options: Any) -> None:
        status: dict[type[FetchdError], int] = {
            ConfigError: EXIT_CONFIG,
            InstanceError: EXIT_HELD,
            StateError: EXIT_STATE,
            StoreError: EXIT_STATE,
        }
        try:
            sys.exit(verb(*args, **options) or 0)
        except FetchdError as error:
            click.echo(str(error), err=True)
            sys.exit(next((code for kind, code in status.items() if isinstance(error, kind)), EXIT_FAILED))
        except KeyboardInterrupt:
            sys.exit(128 + signal.SIGINT)
        except _TerminatedError:
            sys.exit(128 + signal.SIGTERM)

    return run


_config = click.option(
    "-c",
    "--config",
    "given",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="The configuration file. Without it: $FETCHD_CONFIG, ./fetchd.toml, the user's, /etc/fetchd/config.toml.",
)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="fetchd", message="%(prog)s %(version)s")
def main() -> None:
    """Fetch over HTTP on a schedule and hand each result on."""
    _open_standard_streams()


@main.command()
@click.option("--new-state", is_flag=True, help="Set a damaged database aside, with its date, and begin a new one.")
@_config
@_errors_as_status
def run(new_state: bool, given: Path | None) -> int:
    """Run the daemon in the foreground.

    Exit status: 0 stopped in order, 1 ended for a loop that stood still, 70 a defect or too many stuck runs, 73 the
    state cannot be used, 75 another instance holds it, 78 the configuration has findings.
    """
    # As process 1 of a container, a process without a handler does not hear SIGTERM at all.
    signal.signal(signal.SIGTERM, _terminated)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    # Inherited as ignored, it would cost every command its exit status.
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    with _undrawn():
        from fetchd.app import serve
    config = _load(given)
    with _logging(config):
        return asyncio.run(serve(config, os.environ, new_state=new_state))


@main.command()
@_config
@_errors_as_status
def check(given: Path | None) -> None:
    """Print everything that is wrong with the configuration.

    Exit status: 0 nothing, 78 findings.
    """
    config = _load(given)
    click.echo(f"{config.path}: {_count(len(config.jobs), 'job')}, nothing wrong")


@main.command()
@click.argument("job")
@click.option("--dry-run", is_flag=True, help="Fetch, and show what would be delivered.")
@_config
@_errors_as_status
def once(job: str, dry_run: bool, given: Path | None) -> int:
    """Run JOB once, now, with its deliveries.

    Exit status: 0 it succeeded, or there was nothing new; 1 it failed.
    """
    with _undrawn():
        from fetchd import once as verb
    config = _load(given)
    with _logging(config, level="warning"):
        return asyncio.run(verb.once(config, job, dry_run=dry_run, show=click.echo))


@main.command()
@click.argument("job")
@_config
@_errors_as_status
def explain(job: str, given: Path | None) -> None:
    """Show what counts for JOB: each value, where it comes from, and the next slots. Secrets are not shown."""
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


@main.command()
@click.argument("job")
@click.option("-n", "limit", default=20, show_default=True, type=click.IntRange(1), help="How many runs.")
@click.option("--failures", is_flag=True, help="Only those that did not succeed.")
@_config
@_errors_as_status
def history(job: str, limit: int, failures: bool, given: Path | None) -> None:
    """Show how the last runs of JOB ended, whether the daemon runs or not."""
    from fetchd import past

    state_dir, show = _kept(given)
    for line in past.history(state_dir, job, limit, failures=failures):
        show(line)


@main.group()
def dead() -> None:
    """Deliveries that were given up. They may be looked at, tried again or thrown away, beside a running daemon too."""


@dead.command("list")
@click.option("--job", help="Only those of this job.")
@_config
@_errors_as_status
def dead_list(job: str | None, given: Path | None) -> None:
    """List the dead letters, the oldest first."""
    from fetchd import past

    state_dir, show = _kept(given)
    for line in past.dead_list(state_dir, job):
        show(line)


@dead.command("show")
@click.argument("id")
@_config
@_errors_as_status
def dead_show(id: str, given: Path | None) -> None:
    """Show one dead letter with the beginning of its body."""
    from fetchd import past

    state_dir, show = _kept(given)
    for line in past.dead_show(state_dir, id):
        show(line)


@dead.command("replay")
@click.argument("ids", nargs=-1, metavar="ID...")
@click.option("--all", "everything", is_flag=True, help="All of them.")
@_config
@_errors_as_status
def dead_replay(ids: tuple[str, ...], everything: bool, given: Path | None) -> None:
    """Try dead letters again; a running daemon begins within seconds."""
    from datetime import UTC, datetime

    from fetchd import past

    state_dir, show = _kept(given)
    show(past.dead_replay(state_dir, _chosen(ids, everything), datetime.now(UTC)))


@dead.command("purge")
@click.argument("ids", nargs=-1, metavar="ID...")
@click.option("--all", "everything", is_flag=True, help="All of them.")
@_config
@_errors_as_status
def dead_purge(ids: tuple[str, ...], everything: bool, given: Path | None) -> None:
    """Throw dead letters away for good."""
    from fetchd import past

    state_dir, show = _kept(given)
    show(past.dead_purge(state_dir, _chosen(ids, everything)))


@main.command()
@_errors_as_status
def schema() -> None:
    """Print the JSON Schema of the configuration file."""
    from fetchd.config import schema as generated

    click.echo(json.dumps(generated(), indent=2, sort_keys=True))


@main.command()
@click.option("--for", "length", default="30s", show_default=True, metavar="DURATION", help="How long it goes on.")
@_errors_as_status
def demo(length: str) -> int:
    """Show the daemon at work beside upstreams that are slow, hang, drip and flood. Nothing leaves this machine."""
    from fetchd.demo.show import show
    from fetchd.units import parse_duration

    try:
        seconds = parse_duration(length)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--for") from None
    return show(seconds)


def _load(given: Path | None, *, functions: bool = True) -> Config:
    from fetchd.config import find, load

    return load(find(given, environment=os.environ), environment=os.environ, functions=functions)


def _kept(given: Path | None) -> tuple[Path, Callable[[str], None]]:
    """Return where things are kept, and how to show them: errors and results may hold the configuration's secrets."""
    from fetchd.secret import Redactor

    config = _load(given, functions=False)
    redact = Redactor(config.secret_texts())
    return config.daemon.state_dir, lambda text: click.echo(redact(text))


def _chosen(ids: tuple[str, ...], everything: bool) -> tuple[str, ...]:
    """Return the ids to act on, none of which stands for all: that nobody shall say by accident."""
    if bool(ids) == everything:
        raise click.UsageError("name dead letters, or say --all")
    return ids


@contextmanager
def _logging(config: Config, level: Level | None = None) -> Iterator[Log]:
    """Log to stderr as ``config`` says, without its secrets, for as long as the verb runs."""
    from fetchd.log import open_log
    from fetchd.secret import Redactor

    opened = open_log(level or config.log.level, config.log.format, Redactor(config.secret_texts()), colour=_coloured())
    try:
        yield opened
    finally:
        opened.close()


def _open_standard_streams() -> None:
    """Open what whoever started us has closed: the next file opened would else be taken for stderr."""
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free


def _coloured() -> bool:
    return sys.stderr is not None and sys.stderr.isatty() and not os.environ.get("NO_COLOR")


@contextmanager
def _undrawn() -> Iterator[None]:
    """Import the libraries without what they draw with: httpx and structlog take in rich and pygments if they can.

    That is ten of the megabytes that the daemon does not have.
    """
    hidden = ("rich", "pygments")
    missing: dict[str, Any] = {name: None for name in hidden if name not in sys.modules}
    sys.modules.update(missing)
    try:
        yield
    finally:
        for name in missing:
            del sys.modules[name]


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("" if number == 1 else "s")
