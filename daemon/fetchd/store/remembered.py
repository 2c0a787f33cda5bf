"""What the SQLite store answers from memory: one value for each job, beside the counts of its deliveries."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from fetchd.run import Carried, Fetched, Report, Validators
from fetchd.store import Memory
from fetchd.store.rows import carried_of, time_of, validators_of
from fetchd.store.writer import Transaction

_JOBS: Final = """
SELECT job, validators, sha256, last_slot, last_success, carried, failures, failing_since, paused FROM jobs
"""


class Remembered:
    """What is known of a job; the loop alone changes it."""

    __slots__ = ("carried", "failing_since", "failures", "last_slot", "last_success", "paused", "sha256", "validators")

    def __init__(self) -> None:
        self.validators = Validators()
        self.sha256 = ""
        self.last_slot: datetime | None = None
        self.last_success: datetime | None = None
        self.carried = Carried()
        self.failures = 0
        self.failing_since: datetime | None = None
        self.paused = False

    def memory(self, counts: tuple[int, int, int]) -> Memory:
        """Return it with ``counts``: deliveries owed, their bytes, and dead ones."""
        return Memory(
            self.validators,
            self.sha256,
            self.last_slot,
            self.last_success,
            *counts,
            self.carried,
            self.failures,
            self.failing_since,
            self.paused,
        )

    def took(self, fetched: Fetched) -> None:
        """Take over what a result leaves to the next one."""
        self.validators, self.sha256 = fetched.validators, fetched.body.sha256
        if fetched.carried is not None:
            self.carried = fetched.carried

    def counted(self, report: Report) -> bool:
        """Count the Runs whose fetch has failed in a row; return whether that has changed anything.

        Those that were cancelled say nothing of it.
        """
        if not report.counts or (not report.failed_to_fetch and not self.failures):
            return False
        if report.failed_to_fetch:
            self.failures += 1
            self.failing_since = self.failing_since or report.started or report.run.slot
        else:
            self.forgive()
        return True

    def forgive(self) -> None:
        """Forget how often it has failed in a row."""
        self.failures, self.failing_since = 0, None


def load(transaction: Transaction) -> tuple[dict[str, Remembered], set[str]]:
    """Return what is known of each job, and the Runs whose bodies are in files."""
    jobs: dict[str, Remembered] = {}
    rows = transaction.connection.execute(_JOBS)
    for job, validators, sha256, slot, success, carried, failures, since, paused in rows:
        known = jobs[job] = Remembered()
        known.validators, known.sha256 = validators_of(validators), sha256
        known.last_slot, known.last_success = time_of(slot), time_of(success)
        known.carried, known.paused = carried_of(carried), bool(paused)
        known.failures, known.failing_since = failures, time_of(since)
    filed = transaction.connection.execute("SELECT run FROM results WHERE filed")
    return jobs, {run for (run,) in filed}
