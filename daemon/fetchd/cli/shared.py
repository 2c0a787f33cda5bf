"""What the verbs share: options, how errors become exit statuses, and how the configuration is read and shown."""

from __future__ import annotations

import linecache
import os
import signal
import sys
from collections.abc import Callable, Iterator
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
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="The configuration file. Without it: $FETCHD_CONFIG, ./fetchd.toml, the user's, /etc/fetchd/config.toml.",
)


state_dir_option = click.option(
    "--state-dir",
    type=click.Path(path_type=Path),
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
    """Open what whoever started us has closed: the next file opened would else be taken for stderr."""
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free


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
