"""What the verbs share: options, how errors become exit statuses, and how the configuration is read and shown."""

from __future__ import annotations

import errno
import io
import linecache
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from fetchd.errors import ConfigError, FetchdError, InstanceError, StateError, StoreError, UnavailableError

if TYPE_CHECKING:
    from fetchd.config import Config
    from fetchd.log import Level, Log
    from fetchd.secret import Redactor

EXIT_FAILED: Final = 1
EXIT_UNAVAILABLE: Final = 69
EXIT_STATE: Final = 73
EXIT_HELD: Final = 75
EXIT_CONFIG: Final = 78
"""sysexits.h: service unavailable, can't create, try again later, configuration error."""


class TerminatedError(BaseException):
    """SIGTERM came before there was a loop to hear it. No SystemExit: the user's modules may be under import."""


class OutputError(OSError):
    """What is printed cannot be written: the disk is full, or whoever read it has gone."""


class _Output(io.TextIOWrapper):
    """The standard output, whose errors are told from all others."""

    def write(self, text: str) -> int:
        try:
            return super().write(text)
        except OSError as error:
            raise OutputError(error.errno, error.strerror) from None

    def flush(self) -> None:
        try:
            super().flush()
        except OSError as error:
            raise OutputError(error.errno, error.strerror) from None


def _print_nothing_more() -> None:
    """Let what is still to be written vanish: Python would else complain of it at its end."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.close(nowhere)


def errors_as_status(verb: Callable[..., int | None]) -> Callable[..., None]:
    """Turn what ``verb`` returns, or raises for the reader, into the exit status."""

    @wraps(verb)
    def run(*args: Any, **options: Any) -> None:
        status: dict[type[FetchdError], int] = {
            ConfigError: EXIT_CONFIG,
            InstanceError: EXIT_HELD,
            StateError: EXIT_STATE,
            StoreError: EXIT_STATE,
            UnavailableError: EXIT_UNAVAILABLE,
        }
        try:
            sys.exit(verb(*args, **options) or 0)
        except FetchdError as error:
            _complain(str(error))
            sys.exit(next((code for kind, code in status.items() if isinstance(error, kind)), EXIT_FAILED))
        except OutputError as error:
            _print_nothing_more()
            if error.errno == errno.EPIPE:  # whoever reads has seen enough
                sys.exit(128 + signal.SIGPIPE)
            click.echo(f"cannot write to the standard output: {error.strerror}", err=True)
            sys.exit(EXIT_FAILED)
        except KeyboardInterrupt:
            sys.exit(128 + signal.SIGINT)
        except TerminatedError:
            sys.exit(128 + signal.SIGTERM)

    return run


def _complain(text: str) -> None:
    """Print ``text`` on stderr; journald is told that it is an error, for ``journalctl -p warning`` to find it."""
    from fetchd.lines import journalled

    mark = "<3>" if journalled(2, os.environ.get("JOURNAL_STREAM", "")) else ""
    click.echo("\n".join(mark + line for line in text.splitlines()), err=True)


config_option = click.option(
    "-c",
    "--config",
    "given",
    type=click.Path(path_type=Path, readable=False),
    metavar="FILE",
    help="The configuration file. Without it: $FETCHD_CONFIG, ./fetchd.toml, the user's, /etc/fetchd/config.toml.",
)


state_dir_option = click.option(
    "--state-dir",
    type=click.Path(path_type=Path, readable=False),
    metavar="FOLDER",
    help="Where the daemon keeps its state; without it, the configuration file says, or the service has it.",
)


def load(given: Path | None, *, functions: bool = True) -> Config:
    """Return what the configuration file says.

    Raises:
        ConfigError: something is wrong; all of it at once.
    """
    from fetchd.config import find
    from fetchd.config import load as read

    return read(find(given, environment=os.environ), environment=os.environ, functions=functions)


def state_folder(given: Path | None, state_dir: Path | None) -> Path:
    """Return where the daemon to ask keeps its state: ``state_dir``, else as its file says, which is not judged.

    Raises:
        ConfigError: there is no such file, or nothing says where state is.
    """
    if state_dir is not None:
        return state_dir
    from fetchd import whereabouts

    return whereabouts.running_state_dir(whereabouts.find(given, environment=os.environ), environment=os.environ)


def say_missing(lines: Sequence[str]) -> int:
    """Say what is not there of what was named, and return the exit status."""
    for line in lines:
        click.echo(line, err=True)
    return EXIT_FAILED if lines else 0


@contextmanager
def logging(config: Config, redact: Redactor, level: Level | None = None) -> Iterator[Log]:
    """Log to stderr as ``config`` says, without what ``redact`` takes out, for as long as the verb runs."""
    from fetchd.log import open_log

    journal = os.environ.get("JOURNAL_STREAM", "")
    opened = open_log(level or config.log.level, config.log.format, redact, colour=_coloured(), journal=journal)
    try:
        yield opened
    finally:
        opened.close()


def open_standard_streams() -> None:
    """Open what whoever started us has closed: the next file opened would else be taken for stderr.

    What is printed holds whatever a server or a path says: letters that the terminal's encoding lacks are written out.
    """
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free
    if sys.stdout is sys.__stdout__:
        said = sys.stdout
        sys.stdout = _Output(
            open(1, "wb", closefd=False),  # noqa: SIM115 - it lives as long as the process
            encoding=said.encoding if said else None,
            errors=said.errors if said and said.errors != "strict" else "backslashreplace",
            line_buffering=bool(said and said.isatty()),
        )


@contextmanager
def sparing() -> Iterator[None]:
    """Import the libraries without what they can do without, which is a sixth of the daemon's memory.

    httpx and structlog draw with rich and pygments, if they can: ten megabytes. The C form of frozenlist takes one, for
    the sake of libstdc++, to keep lists of a hook or two. pydantic has Python remember the sources of all models, for
    their docstrings.
    """
    hidden = ("rich", "pygments", "frozenlist._frozenlist")
    missing: dict[str, Any] = {name: None for name in hidden if name not in sys.modules}
    sys.modules.update(missing)
    try:
        yield
    finally:
        for name in missing:
            del sys.modules[name]
        linecache.clearcache()


def _coloured() -> bool:
    return sys.stderr is not None and sys.stderr.isatty() and not os.environ.get("NO_COLOR")
