"""Where results go. A new kind is its module, a line in the map of ``kinds``, and its test."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from fetchd.body import Body
from fetchd.job import Timeouts
from fetchd.run import Delivery
from fetchd.sinks.databases import Databases
from fetchd.worker import Workers

__all__ = ["Outgoing", "Resources", "Send", "Sink"]


class Sink(Protocol):
    """Takes deliveries, one at a time, each perhaps more than once with the same id."""

    async def deliver(self, delivery: Delivery) -> None:
        """Hand ``delivery`` over; it is safe with the receiver when this returns.

        Raises:
            SinkError: the receiver did not take it; the error says whether trying again can help.
        """

    async def aclose(self) -> None:
        """Let go of everything."""


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A request that a sink wants sent."""

    method: str
    url: str
    headers: Mapping[str, str]
    body: Body
    timeouts: Timeouts


Send = Callable[[Outgoing], Awaitable[int]]
"""Sends a request and returns the response's status.

Raises:
    FetchError: no response came.
"""


@dataclass(frozen=True, slots=True)
class Resources:
    """What sinks share: the folder that relative paths start from, the HTTP client, worker processes, databases."""

    out: Path
    send: Send
    workers: Workers
    databases: Databases = field(default_factory=Databases)
