"""An attempt in progress: which phase its HTTP exchange is in, how long that may take, and what has come so far."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from enum import StrEnum
from types import TracebackType
from typing import TYPE_CHECKING, Final

import anyio

from fetchd.fetch.network import DIRECT, Network
from fetchd.fetch.turns import Turn
from fetchd.job import Policy, Timeouts
from fetchd.run import Progress

if TYPE_CHECKING:
    from aiohttp.connector import Connection

EXTENSION: Final = "fetchd"
"""Where a request carries its Exchange."""


class Phase(StrEnum):
    """Where an exchange is."""

    AUTH = "auth"
    POOL = "pool"
    DNS = "dns"
    CONNECT = "connect"
    WRITE = "write"
    HEADERS = "headers"
    BODY = "body"


_LIMITED_BY: Final = {
    Phase.AUTH: "pool",  # outside of every wall: what is waited for has its own
    Phase.POOL: "pool",
    Phase.DNS: "connect",
    Phase.CONNECT: "connect",
    Phase.WRITE: "write",
    Phase.HEADERS: "read",
    Phase.BODY: "read",
}


_SENDING: Final = frozenset({Phase.WRITE, Phase.HEADERS, Phase.BODY})


@dataclass(frozen=True, slots=True)
class Limits:
    """What one exchange is held to: seconds by phase, bytes, redirects, and how it travels."""

    timeouts: Timeouts
    max_body: int
    redirects: int
    allow_insecure_redirects: bool
    network: Network = DIRECT

    @classmethod
    def of(cls, policy: Policy) -> Limits:
        """Return the limits that ``policy`` sets."""
        network = Network.of(policy)
        return cls(policy.timeout, policy.max_body, policy.redirects, policy.allow_insecure_redirects, network)


class Exchange:
    """The one mutable record of an attempt, its redirects included. Each phase has a wall, below the Run's deadline."""

    __slots__ = (
        "_afterwards",
        "_entered",
        "_started",
        "alone",
        "at_proxy",
        "fresh",
        "limits",
        "phase",
        "progress",
        "proxy",
        "reused",
        "scope",
        "sent",
        "turn",
    )

    def __init__(self, limits: Limits, progress: Progress, afterwards: str = "") -> None:
        """Begin. ``afterwards`` is the Run's phase once the exchange is over, where nobody else says that."""
        self.limits = limits
        self.progress = progress
        self._afterwards = afterwards
        self.phase = progress.phase = Phase.POOL
        self.sent = False
        """Whether anything of a request may have arrived at a server."""
        self.turn: Turn | None = None
        """The turn at the first host, if the Run has waited for it already."""
        self.alone = False
        """Whether its Run does nothing else meanwhile."""
        self.reused = False
        """Whether the connection has served an exchange before."""
        self.fresh = False
        """Whether it has to be a new one."""
        self.proxy = ""
        """The proxy that this hop goes through, fit to be shown."""
        self.at_proxy = False
        """Whether what is waited for is the proxy's own answer, not yet that of the host behind it."""
        self.scope: anyio.CancelScope | None = None
        """What ends the phase, as long as there is a wall."""
        self._started = self._entered = time.monotonic()

    def elapsed(self) -> float:
        """Return the seconds since the attempt began."""
        return time.monotonic() - self._started

    def timeout_of(self, phase: Phase) -> float:
        """Return the seconds that ``phase`` may take."""
        return getattr(self.limits.timeouts, _LIMITED_BY[phase])  # type: ignore[no-any-return]

    def enter(self, phase: Phase) -> None:
        """Go over to ``phase``; its time begins now. DNS and connect share one wall, as they do one timeout."""
        now = time.monotonic()
        self.sent = self.sent or phase in _SENDING
        if phase is not self.phase:
            timings = self.progress.timings
            timings[self.phase] = timings.get(self.phase, 0.0) + now - self._entered
            same_wall = _LIMITED_BY[phase] == _LIMITED_BY[self.phase] == "connect"
            self.phase = self.progress.phase = phase
            self._entered = now
            if same_wall:
                return
        if self.scope is not None:
            self.scope.deadline = now + self.timeout_of(phase)  # the loop's clock is the monotonic one

    def be_patient(self) -> None:
        """Wait for as long as the Run may take, up to the next phase: nobody is slow, a host is spared."""
        if self.scope is not None:
            self.scope.deadline = math.inf

    def connected(self, connection: Connection) -> None:
        """Take notice of the connection that the request is about to be sent on."""

    def leave(self) -> None:
        """Note how long the last phase took."""
        now = time.monotonic()
        timings = self.progress.timings
        timings[self.phase] = timings.get(self.phase, 0.0) + now - self._entered
        self._entered = now

    def end(self) -> None:
        """Go on to what comes after the exchange, which was neither cancelled nor cut off by the deadline."""
        if self._afterwards:
            self.progress.phase = self._afterwards

    def walled(self, phase: Phase) -> Wall:
        """Hold what happens inside to the timeout of ``phase``, and of each further phase that is entered inside.

        The scope that it gives tells afterwards, by ``cancelled_caught``, whether a phase ran into its wall.
        """
        return Wall(self, phase)


class Wall:
    """What an exchange is held to while it is inside.

    Not a generator: the error that ends a read would go through it, and keep the generator, all frames below it and so
    the response in a cycle (seen with Python 3.13).
    """

    __slots__ = ("_exchange", "_phase", "_scope")

    def __init__(self, exchange: Exchange, phase: Phase) -> None:
        self._exchange = exchange
        self._phase = phase
        self._scope = anyio.CancelScope(deadline=math.inf)

    def __enter__(self) -> anyio.CancelScope:
        self._scope.__enter__()
        self._exchange.scope = self._scope
        self._exchange.enter(self._phase)
        return self._scope

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        self._exchange.scope = None
        return bool(self._scope.__exit__(kind, error, traceback))
