"""One verdict on the daemon: for /readyz, for ``fetchd status`` and for the service manager's watchdog."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

LATE: Final = 5.0
"""Seconds that a slot may be due without being dispatched; the scheduler itself helps after two."""
LAGGING: Final = 5.0
"""Seconds that the loop may have stood still within the last minute."""
NAMED: Final = 5
"""Stuck jobs that are named; of further ones, only the number is told."""


class Stage(StrEnum):
    """How far the daemon's life has come."""

    STARTING = "starting"
    RUNNING = "running"
    STOPPING = "stopping"


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether the daemon does its work; ``problems`` say why not, ``warnings`` what else somebody should see to."""

    ready: bool
    problems: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


class Health:
    """Asks those who know, each time anew; nothing of it waits.

    ``late`` and ``lag`` are in seconds; ``stuck`` names the jobs whose Run ignores its cancellation; ``unwritable``
    says why the store cannot be written, "" if it can.
    """

    def __init__(
        self,
        *,
        late: Callable[[], float],
        lag: Callable[[], float],
        stuck: Callable[[], Sequence[str]],
        unwritable: Callable[[], str],
    ) -> None:
        self.stage = Stage.STARTING
        self._late = late
        self._lag = lag
        self._stuck = stuck
        self._unwritable = unwritable

    def verdict(self) -> Verdict:
        """Return how things are."""
        problems: list[str] = []
        if self.stage is not Stage.RUNNING:
            problems.append(f"the daemon is {self.stage}")
        if (late := self._late()) > LATE:
            problems.append(f"no slot is dispatched: the earliest has been due for {late:.0f} s")
        if (lag := self._lag()) > LAGGING:
            problems.append(f"the loop stood still for {lag:.0f} s within the last minute")
        if stuck := self._stuck():
            problems.append(f"stuck, and to be ended only with the process: {_names(stuck)}")
        why = self._unwritable()
        warnings = (f"the store cannot be written: {why}",) if why else ()
        return Verdict(not problems, tuple(problems), warnings)

    def scheduling(self) -> bool:
        """Return whether slots are dispatched: what the watchdog is fed by, for a new process can help there."""
        return self._late() <= LATE


def _names(jobs: Sequence[str]) -> str:
    named = ", ".join(jobs[:NAMED])
    return f"{named} and {len(jobs) - NAMED} more" if len(jobs) > NAMED else named
