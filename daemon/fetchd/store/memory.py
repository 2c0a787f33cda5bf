"""A store that forgets at exit: for tests, and where nothing needs to be kept."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Sequence
from datetime import datetime
from typing import Final

from fetchd.errors import Reason
from fetchd.run import Delivery, Fetched, Report, Run

HISTORY: Final = 20


class MemoryStore:
    """Keeps the last reports of each job, the deliveries that are owed, and counts the skipped slots."""

    def __init__(self, *, history: int = HISTORY) -> None:
        self._history = history
        self._claimed: dict[str, datetime] = {}
        self.reports: dict[str, deque[Report]] = {}
        self.skipped: Counter[tuple[str, Reason]] = Counter()
        self.owed: dict[str, Delivery] = {}

    async def claim(self, run: Run) -> bool:
        """Take the slot of ``run``; the same slot is given only once."""
        if self._claimed.get(run.job) == run.slot:
            return False
        self._claimed[run.job] = run.slot
        return True

    async def commit(self, run: Run, fetched: Fetched, deliveries: Sequence[Delivery]) -> None:
        """Keep what is owed until it is delivered or its Run has ended."""
        for delivery in deliveries:
            self.owed[delivery.id] = delivery

    async def delivered(self, delivery: Delivery) -> None:
        """Note that the sink has taken ``delivery``."""
        self.owed.pop(delivery.id, None)

    async def finish(self, report: Report) -> None:
        """Keep the report; what its Run still owes is forgotten with it."""
        self.reports.setdefault(report.run.job, deque(maxlen=self._history)).append(report)
        for key in [key for key, delivery in self.owed.items() if delivery.run == report.run.id]:
            del self.owed[key]

    def skip(self, job: str, slot: datetime, reason: Reason) -> None:
        """Count a slot that found no Run of its own."""
        self.skipped[job, reason] += 1

    async def aclose(self) -> None:
        """Forget everything that is owed."""
        self.owed.clear()
