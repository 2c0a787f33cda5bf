"""Politeness towards hosts: how many exchanges at once, how far apart, and none before the time that a host named."""

from __future__ import annotations

import asyncio
import math
from collections import OrderedDict
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum
from functools import partial
from ipaddress import IPv6Address
from typing import TYPE_CHECKING, Final, Protocol

import httpx

from fetchd.clock import Clock
from fetchd.fetch.failures import HostHeldError
from fetchd.fetch.holds import Holds

if TYPE_CHECKING:
    from fetchd.fetch.exchange import Exchange


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

    __slots__ = ("_clock", "_held", "_later", "_lent", "_next_start", "_queues", "_taken", "_timer", "limits")

    def __init__(self, limits: HostLimits, held: Callable[[], float], clock: Clock, later: Later) -> None:
        """Begin. ``held`` tells for how many seconds the host wants no request."""
        self.limits = limits
        self._held = held
        self._clock = clock
        self._later = later
        self._taken = 0
        self._next_start = -math.inf
        self._queues: tuple[OrderedDict[Turn, asyncio.Future[bool]], ...] = tuple(OrderedDict() for _ in _Rank)
        # Turns whose exchange has not begun: those of others that are under way may have their places. Their Runs may
        # wait for the very Runs that would else wait for them.
        self._lent: OrderedDict[Turn, None] = OrderedDict()
        self._timer: Timer | None = None

    @property
    def idle(self) -> bool:
        """Whether nobody is there or waits, and nobody has to."""
        waited = self._next_start > self._clock.monotonic()
        return not (self._taken or waited or self._held() or any(self._queues))

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
                held = self._held() > 0
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
        if not turn.placed or self._held() or (spacing and now >= turn.mine_until):
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

    def __init__(
        self, limits: Mapping[str, HostLimits], clock: Clock, later: Later = _later, holds: Holds | None = None
    ) -> None:
        self._clock = clock
        self._later = later
        self._holds = Holds(clock) if holds is None else holds
        self._hosts: dict[str, _Host] = {}
        self.replace(limits)

    def replace(self, limits: Mapping[str, HostLimits]) -> None:
        """Obey ``limits`` from now on. Who is there still counts, and a time that a host has named still holds."""
        wanted = {_ascii(name): one for name, one in limits.items() if one != _NO_LIMITS}
        for name, host in list(self._hosts.items()):
            host.limit(wanted.get(name, _NO_LIMITS))
            if name not in wanted and host.idle:
                del self._hosts[name]
        for name in wanted.keys() - self._hosts.keys():
            self._hosts[name] = _Host(wanted[name], partial(self._holds.left, name), self._clock, self._later)
        for name in self._holds.names():
            host_alone, port = _parts(name)
            if port and (called := self._called(host_alone, port, port)) != name:
                self._holds.move(name, called)

    def name(self, url: httpx.URL) -> str:
        """Return what the server of ``url`` is called here: its host, with the port unless that is the scheme's own.

        Servers at several ports of one machine have nothing to do with one another, unless limits name their host.
        """
        host = _one_way(url.raw_host.decode("ascii"))
        if url.port is None and not self._hosts:
            return host
        return self._called(host, url.port, url.port or _PORTS.get(url.scheme))

    @property
    def remembered(self) -> int:
        """How many hosts have named a time."""
        return len(self._holds)

    def turn(self, name: str) -> Turn | None:
        """Return a turn to be waited for at the host called ``name``; None where there is nothing to wait for."""
        host = self._hosts.get(name)
        return Turn(host) if host is not None and host.limits != _NO_LIMITS else None

    def left(self, name: str) -> float:
        """Return for how many seconds the host wants no request; 0 if it takes them."""
        return self._holds.left(name)

    def held_until(self, name: str) -> datetime | None:
        """Return when the host takes requests again, by the wall's clock; None if it takes them."""
        return self._holds.until(name)

    def hold(self, name: str, seconds: float) -> None:
        """Send the host no request for ``seconds``, as it has asked; a longer time that it has named stays.

        Those who wait for their turn are told at once.
        """
        if self._holds.hold(name, seconds) and name in self._hosts:
            self._hosts[name].admit()

    def lift(self, name: str) -> bool:
        """Take requests to be welcome again, whatever time the host has named; return whether it had named one."""
        return self._holds.lift(name)

    def refusal(self, name: str, exchange: Exchange | None = None) -> HostHeldError:
        """Return the error for an exchange with a host that wants none yet."""
        until = self.held_until(name) or self._clock.now()
        time = until.isoformat(timespec="seconds")
        return HostHeldError(f"{name} asked for no request before {time}", exchange, self.left(name))

    async def start(self, name: str, exchange: Exchange, held: ExitStack) -> None:
        """Wait for the exchange's turn; it is given back when ``held`` closes.

        Raises:
            HostHeldError: the host wants no request yet.
        """
        host = self._hosts.get(name)
        if host is None:
            if self.left(name):
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

    def _called(self, host: str, port: int | None, reached: int | None) -> str:
        """Return the name of a server by its host, the port that is written, and the one that it is reached at."""
        server = _server(host, reached)
        if server in self._hosts or (port is not None and host not in self._hosts):
            return server
        return host


def _ascii(name: str) -> str:
    """Return ``name`` as requests carry it; international names may be written either way."""
    host, port = _parts(name)
    try:
        ascii_host = _one_way(httpx.URL(scheme="http", host=host).raw_host.decode("ascii"))
    except httpx.InvalidURL:
        return name  # no request can name it
    return _server(ascii_host, port) if port else ascii_host


def _parts(name: str) -> tuple[str, int | None]:
    """Return the host and the port of a name, in which IPv6 addresses need brackets only where a port follows."""
    host, _, port = name.rpartition(":")
    if not (port.isdecimal() and host) or (":" in host and not host.startswith("[")):
        return name.strip("[]"), None
    return host.strip("[]"), int(port)


def _one_way(host: str) -> str:
    """Return ``host`` as it is written here: a final dot, or the zeros of an address, make no other host of it."""
    if ":" not in host:
        return host.removesuffix(".")
    try:
        return str(IPv6Address(host))
    except ValueError:
        return host


def _server(host: str, port: int | None) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
