"""What fetchd remembers. The protocol that every store keeps; SQL lives in this room alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, NamedTuple, Protocol

from fetchd.errors import Reason
from fetchd.run import Carried, Delivery, Fetched, Report, Run, Validators

__all__ = ["NOTHING", "Lane", "Memory", "Owed", "Store"]


class Memory(NamedTuple):
    """What is remembered of a job's last result: enough to tell whether the next one is another.

    ``owed`` and ``dead`` count its deliveries that are not made; while one is dead the job is fetched in full again.
    ``owed_bytes`` is what they hand over: a body that is owed to two sinks counts twice. ``failures`` are the Runs
    that have failed in a row, the first of them at ``failing_since``.
    """

    validators: Validators = Validators()
    sha256: str = ""
    last_slot: datetime | None = None
    last_success: datetime | None = None
    owed: int = 0
    owed_bytes: int = 0
    dead: int = 0
    carried: Carried = Carried()
    failures: int = 0
    failing_since: datetime | None = None
    paused: bool = False

    def took(self, fetched: Fetched) -> Memory:
        """Return it with what a result leaves to the next one."""
        carried = self.carried if fetched.carried is None else fetched.carried
        return self._replace(validators=fetched.validators, sha256=fetched.body.sha256, carried=carried)

    def counted(self, report: Report) -> Memory:
        """Return it with the Runs counted whose fetch has failed in a row; those that were cancelled say nothing."""
        if not report.counts or not (report.failed_to_fetch or self.failures):
            return self
        if not report.failed_to_fetch:
            return self.forgiven()
        since = self.failing_since or report.started or report.run.slot
        return self._replace(failures=self.failures + 1, failing_since=since)

    def forgiven(self) -> Memory:
        """Return it without the Runs that have failed in a row."""
        return self._replace(failures=0, failing_since=None) if self.failures else self


NOTHING: Final = Memory()
"""What is remembered of a job that was never run."""


@dataclass(frozen=True, slots=True)
class Owed:
    """A delivery that is to be made, or was given up: what has been tried, and why it failed."""

    delivery: Delivery
    attempts: int
    since: datetime
    next_try: datetime
    error: str = ""


@dataclass(frozen=True, slots=True)
class Lane:
    """The deliveries that one sink of one job is owed, in their order. ``next_try`` is that of the first one."""

    job: str
    sink: str
    count: int
    bytes: int
    next_try: datetime


class Store(Protocol):
    """The memory of one daemon, or of many that share a database.

    What returns without await is kept in order with everything else, and written soon; what is awaited is kept when
    it returns. What a delivery became is tried until it can be written; `finish` and `skip` are lost, and counted,
    while nothing can be.

    Raises:
        StoreError: it could not be written or read, by any of the coroutines; what was to be kept is not.
    """

    @property
    def last_run(self) -> str:
        """The newest Run of earlier processes that is known of, "" if none is."""

    def recall(self, job: str) -> Memory:
        """Return what is remembered of ``job``; never waits. Its deliveries are counted as far as they are written."""

    async def claim(self, run: Run) -> bool:
        """Take the slot of ``run`` for this process; return whether it was still free."""

    async def commit(self, run: Run, fetched: Fetched, sinks: Sequence[str], now: datetime) -> Sequence[Delivery]:
        """Keep the result, a delivery for each of ``sinks`` and the validators, in one transaction.

        From here on nothing is lost. The deliveries returned share a body that is read from where it is kept now, and
        need not be closed; ``fetched`` is. If the caller is cancelled the result may be kept all the same.
        """

    def delivered(self, delivery: Delivery) -> None:
        """Note that the sink has taken ``delivery``; with the last delivery of a result its body goes."""

    def postponed(self, delivery: Delivery, attempts: int, next_try: datetime, error: str) -> None:
        """Note that ``delivery`` failed for the time ``attempts``, and when it is to be tried again."""

    def buried(self, delivery: Delivery, attempts: int, error: str) -> None:
        """Give ``delivery`` up: a dead letter, kept until somebody replays or purges it."""

    async def lanes(self) -> Sequence[Lane]:
        """Return every lane that is owed something."""

    async def first_owed(self, job: str, sink: str) -> Owed | None:
        """Return the oldest delivery that a lane is owed.

        Where the file of its body has vanished, reading the body raises FileNotFoundError.
        """

    def finish(self, report: Report) -> None:
        """Note how a Run ended: in the bounded history, and as the job's last success if it was one."""

    def skip(self, job: str, slot: datetime, reason: Reason) -> None:
        """Count a slot that found no Run of its own."""

    def pause(self, job: str, paused: bool) -> None:
        """Note whether ``job`` is paused."""

    def forgive(self, job: str) -> None:
        """Forget how often ``job`` has failed in a row: it is to keep its own rhythm again."""

    def note(self, name: str, value: str | None, *, needed: bool = True) -> None:
        """Keep ``value`` under ``name`` over restarts; None forgets it. For what has no table of its own.

        What is not ``needed`` is lost while nothing can be written.
        """

    async def notes(self, prefix: str) -> Mapping[str, str]:
        """Return what was noted under the names that begin with ``prefix``."""

    async def history(self, job: str, limit: int) -> Sequence[Report]:
        """Return the last ``limit`` reports of ``job``, the newest first."""

    async def recent(self, limit: int) -> Sequence[Report]:
        """Return the last ``limit`` reports of each job, the oldest first."""

    async def tidy(self) -> None:
        """Let go of history beyond its bound, of unneeded files and of unused pages; called now and then."""

    async def aclose(self) -> None:
        """Write what is to be written and let go of everything."""
