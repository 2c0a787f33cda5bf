"""Messages piped to a command."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Final, Literal

from pydantic import Field

from fetchd.child import Child, Program, how_it_ended
from fetchd.job.commands import Argv, Variables, environment_of, missing
from fetchd.notifiers.message import Message, NotifierOptions, NotifyError
from fetchd.shorten import shortened
from fetchd.sinks import Resources

_SAID: Final = 300
"""Characters of a failed command's output that are repeated."""


class CommandNotifierOptions(NotifierOptions):
    """A command that is started for each message and finds it, as JSON, on its standard input."""

    kind: Literal["command"]
    argv: Argv
    """The command and its arguments; no shell reads them."""
    env: Variables = Field(default_factory=dict)
    """Its environment, besides FETCHD_ALERT_STATE and the like, PATH and HOME."""

    def problems(self) -> Iterator[tuple[str, str]]:
        """Yield what is wrong with the command, as far as it can be known without the state directory."""
        name = self.argv[0]
        if (os.path.isabs(name) or os.sep not in name) and (problem := missing(self.argv, name, self.env)):
            yield "argv", problem


class CommandNotifier:
    """Starts the command in the folder for results and waits for its end; cut off, it is killed with its group."""

    def __init__(
        self, options: CommandNotifierOptions, resources: Resources, inherited: Mapping[str, str] = os.environ
    ) -> None:
        self._argv = options.argv
        self._cwd = resources.out
        self._environment = environment_of(options.env, inherited)

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
