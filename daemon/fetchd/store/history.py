"""The history of each job, within its bounds. Failures have their own, lest a flood of good Runs pushes them out."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Final

from fetchd.run import Report
from fetchd.store.rows import INSERT_REPORT, report_row
from fetchd.store.writer import Transaction

_SUCCESS: Final = """
INSERT INTO jobs (job, last_success) VALUES (?, ?) ON CONFLICT (job) DO UPDATE SET last_success = excluded.last_success
"""
_FAILURES: Final = """
INSERT INTO jobs (job, failures, failing_since) VALUES (?, ?, ?)
ON CONFLICT (job) DO UPDATE SET failures = excluded.failures, failing_since = excluded.failing_since
"""
_PRUNE: Final = """
DELETE FROM runs WHERE job = :job
  AND id < (SELECT id FROM runs WHERE job = :job ORDER BY id DESC LIMIT 1 OFFSET :runs - 1)
  AND (good OR id < (SELECT id FROM runs WHERE job = :job AND NOT good ORDER BY id DESC LIMIT 1 OFFSET :failures - 1))
"""
_SKIP: Final = """
INSERT INTO skips (job, reason, count) VALUES (?, ?, 1) ON CONFLICT (job, reason) DO UPDATE SET count = count + 1
"""


class History:
    """Keeps the last ``runs`` of each job, and apart from them the last ``failures``; in the writer's thread.

    ``redact`` takes secrets out of what a Run ended with.
    """

    def __init__(self, runs: int, failures: int, redact: Callable[[str], str] = str) -> None:
        self._runs = runs
        self._failures = failures
        self._redact = redact
        self._slack = max(16, runs // 4)
        self._added: dict[str, int] = {}

    def add(self, report: Report, succeeded: str | None, transaction: Transaction) -> None:
        """Keep ``report``, and when its job succeeded if it did; now and then let go of what is beyond the bounds."""
        job = report.run.job
        if report.message:  # before it is cut: nobody finds half a secret
            report = replace(report, message=self._redact(report.message))
        transaction.connection.execute(INSERT_REPORT, report_row(report))
        if succeeded is not None:
            transaction.connection.execute(_SUCCESS, (job, succeeded))
        added = self._added.get(job, 0) + 1
        self._added[job] = added
        if added >= self._slack:
            self.prune([job], transaction)

    @staticmethod
    def failing(job: str, failures: int, since: str | None, transaction: Transaction) -> None:
        """Keep how many Runs have failed in a row, the first of them ``since``."""
        transaction.connection.execute(_FAILURES, (job, failures, since))

    def prune(self, jobs: Iterable[str], transaction: Transaction) -> None:
        """Let go of what is beyond the bounds of ``jobs``."""
        for job in jobs:
            transaction.connection.execute(_PRUNE, {"job": job, "runs": self._runs, "failures": self._failures})
            self._added.pop(job, None)

    def grown(self, _transaction: Transaction) -> list[str]:
        """Return the jobs that have more than they had when they were pruned."""
        return list(self._added)

    @staticmethod
    def skip(job: str, reason: str, transaction: Transaction) -> None:
        """Count a slot that was skipped."""
        transaction.connection.execute(_SKIP, (job, reason))
