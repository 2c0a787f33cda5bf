"""Messages to any of the services that the package apprise knows. It is heavy and waits: a worker process has it."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable, Iterator
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, Field

from fetchd.errors import UserCodeError
from fetchd.job import Listed
from fetchd.notifiers.apprise_process import Letter, send
from fetchd.notifiers.message import Message, NotifierOptions, NotifyError, State
from fetchd.secret import Secret
from fetchd.sinks import Resources
from fetchd.units import Duration

_TYPES: Final[dict[State, str]] = {
    "problem": "failure",
    "mixed": "warning",
    "recovered": "success",
    "info": "warning",
    "test": "info",
}


def _check_urls(urls: tuple[Secret, ...]) -> tuple[Secret, ...]:
    if not urls:
        raise ValueError("name at least one address")
    if any(url.reveal() and "://" not in url.reveal() for url in urls):
        raise ValueError('an address begins with its service, such as "mailto://" or "tgram://"')
    return urls


class AppriseNotifierOptions(NotifierOptions):
    """A message to each of some services."""

    kind: Literal["apprise"]
    urls: Annotated[tuple[Secret, ...], Listed, AfterValidator(_check_urls)]
    """The services' addresses in apprise's own form, such as "mailto://user:password@example.com"."""
    deadline: Annotated[Duration, Field(le=600)] = 30.0
    """The longest that one try may take; the process has to be started for it."""

    def problems(self) -> Iterator[tuple[str, str]]:
        """Yield that the package is missing."""
        if importlib.util.find_spec("apprise") is None:
            yield "kind", "needs the package apprise: pip install apprise, where fetchd is installed"

    def secrets(self) -> Iterable[Secret]:
        """Return the addresses."""
        return self.urls


class AppriseNotifier:
    """Has a worker process send the message; killed at the deadline. The daemon's proxies and CAs do not count."""

    def __init__(self, options: AppriseNotifierOptions, resources: Resources) -> None:
        self._urls = tuple(url.reveal() for url in options.urls)
        self._workers = resources.workers

    async def notify(self, message: Message) -> None:
        """Send the message to each service; what a service got already it gets again if another one failed.

        Raises:
            NotifyError: a service did not take it.
        """
        letter: Letter = (self._urls, message.title, message.text or message.title, _TYPES[message.state])
        try:
            failed = await self._workers.call(send, letter)
        except UserCodeError as error:
            raise NotifyError(str(error).splitlines()[-1]) from None
        if failed:
            raise NotifyError(f"{len(failed)} of {len(self._urls)} services did not take it: {', '.join(failed)}")
