"""The two clocks: the wall's, for slots; the monotonic one, for every duration."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """What time it is. Durations are never taken from ``now``: the wall's clock can be stepped."""

    def now(self) -> datetime:
        """Return the wall's time, in UTC."""

    def monotonic(self) -> float:
        """Return seconds that only ever grow."""


class SystemClock:
    """The machine's clocks."""

    def now(self) -> datetime:
        """Return the wall's time, in UTC."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """Return seconds that only ever grow."""
        return time.monotonic()


class FakeClock:
    """A clock that moves when it is told to; for tests."""

    def __init__(self, now: datetime, monotonic: float = 1000.0) -> None:
        self._now = now
        self._monotonic = monotonic

    def now(self) -> datetime:
        """Return the wall's time, in UTC."""
        return self._now

    def monotonic(self) -> float:
        """Return seconds that only ever grow."""
        return self._monotonic

    def advance(self, seconds: float) -> None:
        """Let both clocks run on."""
        self.step(seconds)
        self._monotonic += seconds

    def step(self, seconds: float) -> None:
        """Set the wall's clock forward, or back, alone."""
        self._now = datetime.fromtimestamp(self._now.timestamp() + seconds, UTC)
