"""Politeness towards hosts: how many exchanges at once, how far apart, and none before the time that a host named."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack, nullcontext
from datetime import datetime
from functools import partial
from ipaddress import IPv6Address
from typing import Final

import httpx

from fetchd.clock import Clock
from fetchd.fetch.exchange import Exchange
from fetchd.fetch.failures import HostHeldError
from fetchd.fetch.holds import Holds
from fetchd.fetch.turns import NO_LIMITS, Host, HostLimits, Later, Rank, Turn, later

_PORTS: Final = {"http": 80, "https": 443}


class Hosts:
    """What all jobs share about each host, by the name that `name` gives it. Times are monotonic seconds."""

    def __init__(
        self, limits: Mapping[str, HostLimits], clock: Clock, later: Later = later, holds: Holds | None = None
    ) -> None:
        self._clock = clock
        self._later = later
        self._holds = Holds(clock) if holds is None else holds
        self._hosts: dict[str, Host] = {}
        self.replace(limits)

    def replace(self, limits: Mapping[str, HostLimits]) -> None:
        """Obey ``limits`` from now on. Who is there still counts, and a time that a host has named still holds."""
        wanted = {canonical(name): one for name, one in limits.items() if one != NO_LIMITS}
        for name, host in list(self._hosts.items()):
            host.limit(wanted.get(name, NO_LIMITS))
            if name not in wanted and host.idle:
                del self._hosts[name]
        for name in wanted.keys() - self._hosts.keys():
            self._hosts[name] = Host(wanted[name], partial(self._holds.left, name), self._clock, self._later)
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

    def limits(self, name: str) -> HostLimits:
        """Return what the host called ``name`` is spared."""
        host = self._hosts.get(name)
        return host.limits if host is not None else NO_LIMITS

    def turn(self, name: str) -> Turn | None:
        """Return a turn to be waited for at the host called ``name``; None where there is nothing to wait for."""
        host = self._hosts.get(name)
        return Turn(host) if host is not None and host.limits != NO_LIMITS else None

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
            rank = Rank.PLACED if turn.placed else Rank.EXCHANGE
            with exchange.progress.idle() if exchange.alone else nullcontext():
                welcome = await host.wait(turn, rank)
            if not welcome:
                raise self.refusal(name, exchange)
        turn.started = True

    def _called(self, host: str, port: int | None, reached: int | None) -> str:
        """Return the name of a server by its host, the port that is written, and the one that it is reached at."""
        server = _server(host, reached)
        if server in self._hosts or (port is not None and host not in self._hosts):
            return server
        return host


def canonical(name: str) -> str:
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
