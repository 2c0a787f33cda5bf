"""What people are told, and what every kind of notifier is."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, Protocol

from pydantic import Field

from fetchd.errors import FetchdError
from fetchd.job import Frozen
from fetchd.secret import Secret
from fetchd.units import Duration

State = Literal["problem", "recovered", "mixed", "info", "test"]
"""What a message is about as a whole."""


@dataclass(frozen=True, slots=True)
class Message:
    """One message: all that happened together. Its texts hold no secret and are bounded.

    ``jobs`` and ``daemon`` are the parts that are told one by one, of which ``more`` are left out; ``dropped`` counts
    the messages before this one that could not be told.
    """

    id: str
    time: datetime
    host: str
    state: State
    title: str
    text: str
    jobs: tuple[Mapping[str, Any], ...] = ()
    daemon: tuple[Mapping[str, Any], ...] = ()
    more: int = 0
    dropped: int = 0

    def payload(self) -> dict[str, Any]:
        """Return the message as a receiver gets it in JSON; ``version`` changes when a field changes its meaning."""
        return {"version": 1, **asdict(self), "time": self.time.astimezone(UTC).isoformat(timespec="seconds")}

    def to_json(self) -> bytes:
        """Return `payload` as a JSON text."""
        return json.dumps(self.payload(), ensure_ascii=False).encode("utf-8", "replace")

    @classmethod
    def from_payload(cls, payload: Mapping[str, Any]) -> Message:
        """Return the message that `payload` was made of.

        Raises:
            KeyError, TypeError, ValueError: it was not made of one.
        """
        fields = {name: value for name, value in payload.items() if name != "version"}
        time = datetime.fromisoformat(fields["time"])
        return cls(**{**fields, "time": time, "jobs": tuple(fields["jobs"]), "daemon": tuple(fields["daemon"])})

    def plain(self) -> str:
        """Return the message as a text of several lines, the first of which says it all."""
        return f"{self.title}\n\n{self.text}" if self.text else self.title


class NotifierOptions(Frozen):
    """Where messages go; each kind is defined beside the code that sends them."""

    kind: str
    deadline: Annotated[Duration, Field(le=600)] = 10.0
    """The longest that one try may take."""

    def problems(self) -> Iterator[tuple[str, str]]:
        """Yield each (key, message) that only the running machine can tell, such as a package that is not there."""
        yield from ()

    def secrets(self) -> Iterable[Secret]:
        """Return what is hidden wherever it comes from; an address that is told of problems is a secret as a whole."""
        return ()


class NotifyError(FetchdError):
    """A message was not taken. ``permanent``: this very message never will be."""

    def __init__(self, message: str, *, permanent: bool = False) -> None:
        super().__init__(message)
        self.permanent = permanent


class Notifier(Protocol):
    """Takes messages, one at a time, each perhaps more than once with the same id."""

    async def notify(self, message: Message) -> None:
        """Hand ``message`` over.

        Raises:
            NotifyError: it was not taken.
        """
