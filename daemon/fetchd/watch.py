"""What happens, told to whoever watches: metrics, the page, alerts, pings."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from enum import StrEnum
from typing import Protocol

from fetchd.errors import Reason
from fetchd.run import Delivery, Report, Run


class Result(StrEnum):
    """What became of one try of a delivery."""

    DELIVERED = "delivered"
    FAILED = "failed"
    DEAD = "dead"


class Watcher(Protocol):
    """Is told on the loop, between two of its turns: it does nothing that takes long, and never raises."""

    def started(self, run: Run) -> None:
        """A Run's deadline has begun."""

    def finished(self, report: Report) -> None:
        """A Run has ended."""

    def skipped(self, job: str, slot: datetime, reason: Reason) -> None:
        """A slot found no Run of its own."""

    def missed(self, job: str, count: int) -> None:
        """So many due slots of a job were passed over because the loop was late."""

    def tried(self, delivery: Delivery, result: Result, error: str) -> None:
        """A delivery was tried; ``error`` says why it was not taken."""


class Unwatched:
    """Nobody watches."""

    def started(self, run: Run) -> None:
        """Tell nobody."""

    def finished(self, report: Report) -> None:
        """Tell nobody."""

    def skipped(self, job: str, slot: datetime, reason: Reason) -> None:
        """Tell nobody."""

    def missed(self, job: str, count: int) -> None:
        """Tell nobody."""

    def tried(self, delivery: Delivery, result: Result, error: str) -> None:
        """Tell nobody."""


class Watchers(Unwatched):
    """Tells several of them, in order."""

    def __init__(self, watchers: Iterable[Watcher]) -> None:
        self._watchers = tuple(watchers)

    def started(self, run: Run) -> None:
        """Tell all of them."""
        for watcher in self._watchers:
            watcher.started(run)

    def finished(self, report: Report) -> None:
        """Tell all of them."""
        for watcher in self._watchers:
            watcher.finished(report)

    def skipped(self, job: str, slot: datetime, reason: Reason) -> None:
        """Tell all of them."""
        for watcher in self._watchers:
            watcher.skipped(job, slot, reason)

    def missed(self, job: str, count: int) -> None:
        """Tell all of them."""
        for watcher in self._watchers:
            watcher.missed(job, count)

    def tried(self, delivery: Delivery, result: Result, error: str) -> None:
        """Tell all of them."""
        for watcher in self._watchers:
            watcher.tried(delivery, result, error)
