"""Messages piped to a command."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, Field

from fetchd.child import Child, Program, how_it_ended
from fetchd.job import Listed
from fetchd.notifiers.message import Message, NotifierOptions, NotifyError
from fetchd.secret import Secret
from fetchd.shorten import shortened
from fetchd.sinks import Resources

_INHERITED: Final = frozenset({"HOME", "LANG", "LOGNAME", "PATH", "SHELL", "TMPDIR", "TZ", "USER", "VIRTUAL_ENV"})
_SAID: Final = 300
"""Characters of a failed command's output that are repeated."""


def _check_argv(argv: tuple[str, ...]) -> tuple[str, ...]:
    if not argv or not argv[0]:
        raise ValueError('name a command, such as ["sendmail", "admin@example.com"]')
    if any("\0" in word for word in argv):
        raise ValueError("a text that goes to a command cannot hold a NUL")
    return argv


def _check_environment(environment: dict[str, Secret]) -> dict[str, Secret]:
    for name, value in environment.items():
        if not name or "=" in name or "\0" in name + value.reveal():
            raise ValueError(f"{name!r} cannot be set: a name has no =, and neither name nor value a NUL")
        if name.startswith("FETCHD_"):
            raise ValueError(f"{name} is not yours to set: what starts with FETCHD_ tells of the message")
    return environment


class CommandNotifierOptions(NotifierOptions):
    """A command that is started for each message and finds it, as JSON, on its standard input."""

    kind: Literal["command"]
    argv: Annotated[tuple[str, ...], Listed, AfterValidator(_check_argv)]
    """The command and its arguments; no shell reads them."""
    env: Annotated[dict[str, Secret], AfterValidator(_check_environment)] = Field(default_factory=dict)
    """Its environment, besides FETCHD_ALERT_STATE and the like, PATH and HOME."""

    def problems(self) -> Iterator[tuple[str, str]]:
        """Yield what is wrong with the command, as far as it can be known without the state directory."""
        name = self.argv[0]
        path = self.env["PATH"].reveal() if "PATH" in self.env else None
        if (os.path.isabs(name) or os.sep not in name) and shutil.which(name, path=path) is None:
            hint = "; write each argument as a text of its own" if " " in name else ""
            yield "argv", f"there is no command {name}{hint}"


class CommandNotifier:
    """Starts the command in the folder for results and waits for its end; cut off, it is killed with its group."""

    def __init__(
        self, options: CommandNotifierOptions, resources: Resources, inherited: Mapping[str, str] = os.environ
    ) -> None:
        self._argv = options.argv
        self._cwd = resources.out
        self._environment = {
            **{name: value for name, value in inherited.items() if name in _INHERITED or name.startswith("LC_")},
            **{name: value.reveal() for name, value in options.env.items()},
        }

    async def notify(self, message: Message) -> None:
        """Run the command; exit status 0 says that it took the message.

        Raises:
            NotifyError: it did not, or could not be started.
        """
        program = Program(self._argv, self._cwd, self._environment | _told(message), stdin=message.to_json())
        try:
            child = await Child.start(program)
        except (OSError, ValueError) as error:
            raise NotifyError(f"cannot start {self._argv[0]}: {error}") from None
        try:
            status = await child.wait()
            await child.settle()
            said = child.stderr.take() or child.stdout.take()
        finally:
            await child.aclose()
        if status != 0:
            words = f": {shortened(said, _SAID, end=True)}" if said else ""
            raise NotifyError(f"{self._argv[0]} {how_it_ended(status)}{words}")


def _told(message: Message) -> dict[str, str]:
    told = {
        "FETCHD_ALERT_ID": message.id,
        "FETCHD_ALERT_TIME": message.payload()["time"],
        "FETCHD_ALERT_HOST": message.host,
        "FETCHD_ALERT_STATE": message.state,
        "FETCHD_ALERT_TITLE": message.title,
        "FETCHD_ALERT_TEXT": message.text,
        "FETCHD_ALERT_JOBS": " ".join(dict.fromkeys(str(part["job"]) for part in message.jobs)),
    }
    return {name: value.replace("\0", "").encode("utf-8", "replace").decode() for name, value in told.items()}
