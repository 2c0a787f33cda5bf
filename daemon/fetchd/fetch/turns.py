"""Turns at one host: who is there, who waits, and when the next one may start."""

from __future__ import annotations

import asyncio
import math
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from typing import Final, Protocol

from fetchd.clock import Clock


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

NO_LIMITS: Final = HostLimits()


class Rank(IntEnum):
    """Who goes first. What a Run has begun goes before Runs that are yet to begin: its deadline runs already."""

    PLACED = 0
    EXCHANGE = 1
    RUN = 2


class Turn:
    """One exchange's turn at a host, waited for by its Run, or else by itself."""

    __slots__ = ("_host", "before", "mine_until", "placed", "started")

    def __init__(self, host: Host) -> None:
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
        await self._host.wait(self, Rank.RUN)

    def release(self) -> None:
        """Let the next one have it; more than once does no harm."""
        self._host.leave(self)

    def fits(self, host: Host) -> bool:
        """Return whether an exchange with ``host`` may begin with it."""
        return self._host is host and not self.started


class Host:
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
        self._queues: tuple[OrderedDict[Turn, asyncio.Future[bool]], ...] = tuple(OrderedDict() for _ in Rank)
        # Turns whose exchange has not begun: those of others that are under way may have their places. Their Runs may
        # wait for the very Runs that would else wait for them.
        self._lent: OrderedDict[Turn, None] = OrderedDict()
        self._timer: Timer | None = None

    @property
    def idle(self) -> bool:
        """Whether nobody is there or waits, and nobody has to."""
        waited = self._next_start > self._clock.monotonic()
        return not (self._taken or waited or self._held() or any(self._queues))

    async def wait(self, turn: Turn, rank: Rank) -> bool:
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
        for rank in Rank:
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

    def _may_start(self, turn: Turn, rank: Rank) -> bool:
        most = self.limits.max_concurrent
        borrowed = rank is Rank.EXCHANGE and self._lent
        if not (turn.placed or not most or self._taken < most or borrowed):
            return False  # whoever leaves calls
        wait = self._next_start - self._clock.monotonic()
        if wait > 0:
            self._call_in(wait)
        return wait <= 0

    def _grant(self, turn: Turn, rank: Rank) -> None:
        most = self.limits.max_concurrent
        if not turn.placed:
            if most and self._taken >= most:
                self._lent.popitem()[0].placed = False
            else:
                self._taken += 1
            turn.placed = True
        if rank is Rank.RUN:
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


def later(seconds: float, call: Callable[[], None]) -> Timer:
    return asyncio.get_running_loop().call_later(seconds, call)
