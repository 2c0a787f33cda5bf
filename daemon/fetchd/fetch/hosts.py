"""Politeness towards hosts: how many exchanges at once, how far apart, and none before the time that a host named."""

from __future__ import annotations

import asyncio
import math
from collections import OrderedDict
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import timedelta
from enum import IntEnum
from typing import TYPE_CHECKING, Final, Protocol

import httpx

from fetchd.clock import Clock
from fetchd.fetch.failures import HostHeldError

if TYPE_CHECKING:
    from fetchd.fetch.exchange import Exchange

REMEMBERED_AT_MOST: Final = 4096
"""Hosts without limits of their own that have named a time: redirects may lead to any number of them."""


@dataclass(frozen=True, slots=True)
class HostLimits:
    """What a host is spared: exchanges at one time, and seconds from one start to the next. 0 sets no limit."""

    max_concurrent: int = 0
    min_spacing: float = 0.0


class Timer(Protocol):
    """What is going to be called."""

    def cancel(self) -> None:
        """Do not call it."""


Later = Callable[[float, Callable[[], None]], Timer]
"""Calls a function after so many seconds."""

_NO_LIMITS: Final = HostLimits()
_PORTS: Final = {"http": 80, "https": 443}


class _Rank(IntEnum):
    """Who goes first. What a Run has begun goes before Runs that are yet to begin: its deadline runs already."""

    PLACED = 0
    EXCHANGE = 1
    RUN = 2


class Turn:
    """One exchange's turn at a host, waited for by its Run, or else by itself."""

    __slots__ = ("_host", "before", "mine_until", "placed", "started")

    def __init__(self, host: _Host) -> None:
        self._host = host
        self.placed = False
        """Whether it counts among the host's exchanges."""
        self.started = False
        self.mine_until = self.before = -math.inf
        """Up to when nobody else may start; from when on others could, had it not been given."""

    async def taken(self) -> None:
        """Wait for the turn, before the Run begins.

        It also ends, without a turn, once the host has named a time before which it wants no request.
        """
        await self._host.wait(self, _Rank.RUN)

    def release(self) -> None:
        """Let the next one have it; more than once does no harm."""
        self._host.leave(self)

    def fits(self, host: _Host) -> bool:
        """Return whether an exchange with ``host`` may begin with it."""
        return self._host is host and not self.started


class _Host:
    """One host: who is there, who waits, and when the next one may start."""

    __slots__ = ("_clock", "_later", "_lent", "_next_start", "_queues", "_taken", "_timer", "limits", "not_before")

    def __init__(self, limits: HostLimits, clock: Clock, later: Later) -> None:
        self.limits = limits
        self.not_before = -math.inf
        self._clock = clock
        self._later = later
        self._taken = 0
        self._next_start = -math.inf
        self._queues: tuple[OrderedDict[Turn, asyncio.Future[bool]], ...] = tuple(OrderedDict() for _ in _Rank)
        # Turns whose exchange has not begun: those of others that are under way may have their places. Their Runs may
        # wait for the very Runs that would else wait for them.
        self._lent: OrderedDict[Turn, None] = OrderedDict()
        self._timer: Timer | None = None

    def left(self) -> float:
        """Return for how many seconds the host wants no request; 0 or less if it takes them."""
        return self.not_before - self._clock.monotonic()

    async def wait(self, turn: Turn, rank: _Rank) -> bool:
        """Wait until ``turn`` may start; return False if the host wants no request at all for some time."""
        ready: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._queues[rank][turn] = ready
        try:
            self.admit()
            return await ready
        except asyncio.CancelledError:
            turn.release()
            raise

    def admit(self) -> None:
        """Let all those go on who may, in their order."""
        for rank in _Rank:
            queue = self._queues[rank]
            while queue:
                turn, ready = next(iter(queue.items()))
                held = self.left() > 0
                if not ready.done():
                    if not (held or self._may_start(turn, rank)):
                        return
                    if not held:
                        self._grant(turn, rank)
                    ready.set_result(not held)
                del queue[turn]

    def begin(self, turn: Turn) -> bool:
        """Begin the exchange of a turn that its Run has waited for; return False if it has to wait once more.

        Between the two the Run may have waited elsewhere, while others started.
        """
        self._lent.pop(turn, None)
        now = self._clock.monotonic()
        spacing = self.limits.min_spacing
        if not turn.placed or self.left() > 0 or (spacing and now >= turn.mine_until):
            return False
        self._next_start = max(self._next_start, now + spacing)
        return True

    def leave(self, turn: Turn) -> None:
        """Take ``turn`` back, whether it was given or not."""
        for queue in self._queues:
            queue.pop(turn, None)
        self._lent.pop(turn, None)
        if turn.placed:
            turn.placed = False
            self._taken -= 1
            if not turn.started and self._next_start == turn.mine_until:
                self._next_start = turn.before
        self.admit()

    def limit(self, limits: HostLimits) -> None:
        """Obey ``limits`` from now on; those who are there stay."""
        self.limits = limits
        self._next_start = min(self._next_start, self._clock.monotonic() + limits.min_spacing)
        self.admit()

    def _may_start(self, turn: Turn, rank: _Rank) -> bool:
        most = self.limits.max_concurrent
        borrowed = rank is _Rank.EXCHANGE and self._lent
        if not (turn.placed or not most or self._taken < most or borrowed):
            return False  # whoever leaves calls
        wait = self._next_start - self._clock.monotonic()
        if wait > 0:
            self._call_in(wait)
        return wait <= 0

    def _grant(self, turn: Turn, rank: _Rank) -> None:
        most = self.limits.max_concurrent
        if not turn.placed:
            if most and self._taken >= most:
                self._lent.popitem()[0].placed = False
            else:
                self._taken += 1
            turn.placed = True
        if rank is _Rank.RUN:
            self._lent[turn] = None
        turn.before = self._next_start
        turn.mine_until = self._next_start = self._clock.monotonic() + self.limits.min_spacing

    def _call_in(self, seconds: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._later(seconds, self._called)

    def _called(self) -> None:
        self._timer = None
        self.admit()


def _later(seconds: float, call: Callable[[], None]) -> Timer:
    return asyncio.get_running_loop().call_later(seconds, call)


class Hosts:
    """What all jobs share about each host, by the name that `name` gives it. Times are monotonic seconds."""

    def __init__(self, limits: Mapping[str, HostLimits], clock: Clock, later: Later = _later) -> None:
        self._clock = clock
        self._later = later
        self._hosts: dict[str, _Host] = {}
        self._not_before: dict[str, float] = {}
        """For hosts without limits, where nobody waits for a turn."""
        self.replace(limits)

    def replace(self, limits: Mapping[str, HostLimits]) -> None:
        """Obey ``limits`` from now on. Who is there still counts, and a time that a host has named still holds."""
        wanted = {_ascii(name): one for name, one in limits.items() if one != _NO_LIMITS}
        for name, host in self._hosts.items():
            host.limit(wanted.get(name, _NO_LIMITS))
        for name in wanted.keys() - self._hosts.keys():
            self._hosts[name] = host = _Host(wanted[name], self._clock, self._later)
            host.not_before = self._not_before.pop(name, host.not_before)

    def name(self, url: httpx.URL) -> str:
        """Return what the server of ``url`` is called here: its host, with the port unless that is the scheme's own.

        Servers at several ports of one machine have nothing to do with one another, unless limits name their host.
        """
        host = url.raw_host.decode("ascii")
        if url.port is None and not self._hosts:
            return host
        server = _server(host, url.port or _PORTS.get(url.scheme))
        if server in self._hosts or (url.port is not None and host not in self._hosts):
            return server
        return host

    @property
    def remembered(self) -> int:
        """How many hosts without limits have named a time."""
        return len(self._not_before)

    def turn(self, name: str) -> Turn | None:
        """Return a turn to be waited for at the host called ``name``; None where there is nothing to wait for."""
        host = self._hosts.get(name)
        return Turn(host) if host is not None and host.limits != _NO_LIMITS else None

    def left(self, name: str) -> float:
        """Return for how many seconds the host wants no request; 0 if it takes them."""
        host = self._hosts.get(name)
        if host is not None:
            return max(0.0, host.left())
        if not self._not_before or (time := self._not_before.get(name)) is None:
            return 0.0
        left = time - self._clock.monotonic()
        if left <= 0:
            del self._not_before[name]
        return max(0.0, left)

    def hold(self, name: str, seconds: float) -> None:
        """Send the host no request for ``seconds``, as it has asked; a longer time that it has named stays.

        Those who wait for their turn are told at once.
        """
        if seconds <= self.left(name):
            return
        time = self._clock.monotonic() + seconds
        host = self._hosts.get(name)
        if host is not None:
            host.not_before = time
            host.admit()
            return
        if name not in self._not_before and len(self._not_before) >= REMEMBERED_AT_MOST:
            del self._not_before[min(self._not_before, key=lambda known: self._not_before[known])]
        self._not_before[name] = time

    def refusal(self, name: str, exchange: Exchange | None = None) -> HostHeldError:
        """Return the error for an exchange with a host that wants none yet."""
        left = self.left(name)
        time = (self._clock.now() + timedelta(seconds=left)).isoformat(timespec="seconds")
        return HostHeldError(f"{name} asked for no request before {time}", exchange, left)

    async def start(self, name: str, exchange: Exchange, held: ExitStack) -> None:
        """Wait for the exchange's turn; it is given back when ``held`` closes.

        Raises:
            HostHeldError: the host wants no request yet.
        """
        host = self._hosts.get(name)
        if host is None:
            if self._not_before and self.left(name):
                raise self.refusal(name, exchange)
            return
        turn = exchange.turn if exchange.turn is not None and exchange.turn.fits(host) else Turn(host)
        held.callback(turn.release)
        if not host.begin(turn):
            if host.limits.min_spacing:
                exchange.be_patient()
            rank = _Rank.PLACED if turn.placed else _Rank.EXCHANGE
            if not await host.wait(turn, rank):
                raise self.refusal(name, exchange)
        turn.started = True


def _ascii(name: str) -> str:
    """Return ``name`` as requests carry it; international names may be written either way."""
    host, _, port = name.rpartition(":")
    if not host or (":" in host and not host.startswith("[")):
        host, port = name, ""
    try:
        ascii_host = httpx.URL(scheme="http", host=host.strip("[]")).raw_host.decode("ascii")
    except httpx.InvalidURL:
        return name  # no request can name it
    return _server(ascii_host, int(port)) if port else ascii_host


def _server(host: str, port: int | None) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
