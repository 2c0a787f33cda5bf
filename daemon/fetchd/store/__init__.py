"""What fetchd remembers. The protocol that every store keeps; SQL lives in this room alone."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

from fetchd.errors import Reason
from fetchd.run import Delivery, Fetched, Report, Run

__all__ = ["Store"]


class Store(Protocol):
    """The memory of one daemon, or of many that share a database."""

    async def claim(self, run: Run) -> bool:
        """Take the slot of ``run`` for this process; return whether it was still free."""

    async def commit(self, run: Run, fetched: Fetched, deliveries: Sequence[Delivery]) -> None:
        """Keep the result, its deliveries and its validators, in one transaction: from here on nothing is lost."""

    async def delivered(self, delivery: Delivery) -> None:
        """Note that the sink has taken ``delivery``."""

    async def finish(self, report: Report) -> None:
        """Note how a Run ended."""

    def skip(self, job: str, slot: datetime, reason: Reason) -> None:
        """Count a slot that found no Run of its own; never waits."""

    async def aclose(self) -> None:
        """Write what is to be written and let go of everything."""
