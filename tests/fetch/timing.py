"""Time that passes only when a test lets it: a clock, its timers and its sleep."""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime

from fetchd.clock import FakeClock

TURNS = 30
"""Turns of the loop in which everything does what it can do now."""


@dataclass(slots=True, order=True)
class Due:
    """What is to be called, and when."""

    at: float
    number: int
    call: Callable[[], None] | None = field(compare=False)

    def cancel(self) -> None:
        """Do not call it."""
        self.call = None


class Timing:
    """What waiting is done with."""

    def __init__(self) -> None:
        self.clock = FakeClock(datetime(2026, 1, 1, tzinfo=UTC))
        self._due: list[Due] = []
        self._numbers = itertools.count()

    @property
    def now(self) -> float:
        """The seconds that have passed."""
        return round(self.clock.monotonic() - 1000.0, 6)

    def later(self, seconds: float, call: Callable[[], None]) -> Due:
        """Call ``call`` after ``seconds``."""
        due = Due(self.clock.monotonic() + seconds, next(self._numbers), call)
        heapq.heappush(self._due, due)
        return due

    async def sleep(self, seconds: float) -> None:
        """Wait for ``seconds``."""
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        over = asyncio.Event()
        due = self.later(seconds, over.set)
        try:
            await over.wait()
        finally:
            due.cancel()

    async def settle(self) -> None:
        """Let everything do what it can do now."""
        for _ in range(TURNS):
            await asyncio.sleep(0)

    async def advance(self, seconds: float) -> None:
        """Let ``seconds`` pass."""
        end = self.clock.monotonic() + seconds
        await self.settle()
        while self._due and self._due[0].at <= end:
            due = heapq.heappop(self._due)
            self.clock.advance(max(0.0, due.at - self.clock.monotonic()))
            if due.call is not None:
                due.call()
                await self.settle()
        self.clock.advance(max(0.0, end - self.clock.monotonic()))
        await self.settle()
