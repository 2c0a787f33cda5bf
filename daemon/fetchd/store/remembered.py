"""What the SQLite store answers from memory: one value for each job, the counts of its deliveries in it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from fetchd.store import NOTHING, Memory
from fetchd.store.ledger import Counts
from fetchd.store.rows import carried_of, time_of, validators_of
from fetchd.store.writer import Transaction

_JOBS: Final = """
SELECT job, validators, sha256, last_slot, last_success, carried, failures, failing_since, paused FROM jobs
"""
_LAST_RUN: Final = """
SELECT max(coalesce((SELECT max(run) FROM results), ''),
  coalesce((SELECT max(run) FROM (SELECT run FROM runs ORDER BY id DESC LIMIT 1000)), ''))
"""
"""Reports come in the order in which Runs end, which is nearly that in which they began."""


class Remembered:
    """What is known of each job; the loop alone reads and changes it."""

    def __init__(self) -> None:
        self._memories: dict[str, Memory] = {}
        self.last_run = ""
        self.changed: set[str] = set()
        """The jobs of which something else is known than when somebody last took them out."""

    def of(self, job: str) -> Memory:
        """Return what is known of ``job``."""
        return self._memories.get(job, NOTHING)

    def keep(self, job: str, memory: Memory) -> None:
        """Let ``memory`` be what is known of ``job``."""
        self._memories[job] = memory
        self.changed.add(job)

    def count(self, job: str, counts: Counts) -> None:
        """Note the deliveries of ``job`` that are not made."""
        owed, owed_bytes, dead = counts
        self.keep(job, self.of(job)._replace(owed=owed, owed_bytes=owed_bytes, dead=dead))

    def load(self, memories: Mapping[str, Memory], last_run: str) -> None:
        """Know what was read, beside the counts, which may have come before it."""
        self.last_run = last_run
        for job, memory in memories.items():
            known = self.of(job)
            self.keep(job, memory._replace(owed=known.owed, owed_bytes=known.owed_bytes, dead=known.dead))


def load(transaction: Transaction) -> tuple[dict[str, Memory], set[str], str]:
    """Return what is known of each job but the counts of its deliveries, the Runs whose bodies are in files, and the
    newest Run."""
    jobs = {
        job: Memory(
            validators=validators_of(validators),
            sha256=sha256,
            last_slot=time_of(slot),
            last_success=time_of(success),
            carried=carried_of(carried),
            failures=failures,
            failing_since=time_of(since),
            paused=bool(paused),
        )
        for job, validators, sha256, slot, success, carried, failures, since, paused in transaction.connection.execute(
            _JOBS
        )
    }
    filed = transaction.connection.execute("SELECT run FROM results WHERE filed")
    (last_run,) = transaction.connection.execute(_LAST_RUN).fetchone()
    return jobs, {run for (run,) in filed}, last_run
