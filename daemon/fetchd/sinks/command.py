"""Results piped to a command."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Final, Literal

import structlog
from pydantic import Field

from fetchd.child import Child, Program, how_it_ended
from fetchd.errors import SinkError
from fetchd.job import SinkOptions
from fetchd.job.commands import Argv, CommandText, Variables, environment_of, missing
from fetchd.run import Delivery
from fetchd.shorten import shortened
from fetchd.sinks import Resources
from fetchd.sinks.content import clean

log = structlog.get_logger()

EX_DATAERR: Final = 65
"""The exit status (sysexits.h) by which a command says that this result will never do. Any other may pass."""

_SAID_LINES: Final = 5
_SAID_CHARACTERS: Final = 600


class CommandOptions(SinkOptions):
    """A command that is started for each result and finds the body on its standard input."""

    kind: Literal["command"]
    argv: Argv
    """The command and its arguments; no shell reads them."""
    cwd: Annotated[CommandText, Field(min_length=1)] | None = None
    """The folder that it is started in; relative to, and by default, the folder out in the state directory."""
    env: Variables = Field(default_factory=dict)
    """Its environment, besides FETCHD_JOB and the like, PATH, HOME and what else says where and in which language."""

    def problems(self) -> Iterator[tuple[str, str]]:
        """Yield what is wrong with the command, as far as it can be known without the state directory."""
        folder = Path(self.cwd) if self.cwd and os.path.isabs(self.cwd) else None
        if folder is not None and not folder.is_dir():
            yield "cwd", f"there is no folder {folder}"
        name = self.argv[0]
        if os.sep in name and not os.path.isabs(name):
            if folder is None:
                return
            name = str(folder / name)
        if problem := missing(self.argv, name, self.env):
            yield "argv", problem


class CommandSink:
    """Starts the command for each delivery and waits for its end; cut off, it is killed with its whole group."""

    def __init__(
        self, options: CommandOptions, resources: Resources, inherited: Mapping[str, str] = os.environ
    ) -> None:
        self._argv = options.argv
        self._cwd = resources.out / options.cwd if options.cwd else resources.out
        self._environment = environment_of(options.env, inherited)

    async def deliver(self, delivery: Delivery) -> None:
        """Run the command; exit status 0 says that it took the result.

        Raises:
            SinkError: it did not; permanent if there is no such command, or if its exit status is 65.
        """
        child = await self._start(delivery)
        status = None
        try:
            status = await child.wait()
            await child.settle()
        except BaseException:
            child.kill()
            raise
        finally:
            stdout, stderr = child.stdout.take(), child.stderr.take()
            await child.aclose()
            self._log_output(delivery, status, stdout, stderr)
        if status != 0:
            message = f"{self._argv[0]} {how_it_ended(status)}{_last_words(stderr or stdout)}"
            raise SinkError(message, permanent=status == EX_DATAERR)

    async def aclose(self) -> None:
        """Nothing is held: a command lives as long as its delivery."""

    async def _start(self, delivery: Delivery) -> Child:
        body = delivery.fetched.body
        told = {name: clean(value) for name, value in delivery.environment().items()}
        program = Program(
            argv=self._argv,
            cwd=self._cwd,
            environment=self._environment | told,
            stdin=body.path or await body.read(),
        )
        try:
            return await Child.start(program)
        except OSError as error:
            missing = isinstance(error, FileNotFoundError | PermissionError | NotADirectoryError)
            permanent = (missing and error.filename == self._argv[0]) or error.errno == errno.ENOEXEC
            raise SinkError(f"cannot start {self._argv[0]}: {_told(error)}", permanent=permanent) from None
        except ValueError as error:
            raise SinkError(f"cannot start {self._argv[0]}: {error}", permanent=True) from None

    def _log_output(self, delivery: Delivery, status: int | None, stdout: str, stderr: str) -> None:
        written = {name: text for name, text in (("stdout", stdout), ("stderr", stderr)) if text}
        if written:
            log.info(
                "command_output",
                job=delivery.job,
                run=delivery.run,
                sink=delivery.sink,
                command=self._argv[0],
                exit_status=status,
                **written,
            )


def _told(error: OSError) -> str:
    where = f": {error.filename}" if error.filename else ""
    return f"{error.strerror or error}{where}"


def _last_words(output: str) -> str:
    lines = output.splitlines()[-_SAID_LINES:]
    return ": " + shortened("\n".join(lines), _SAID_CHARACTERS, end=True) if lines else ""
