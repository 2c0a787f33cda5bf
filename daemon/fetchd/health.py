"""One verdict on the daemon: for /readyz, for ``fetchd status`` and for the service manager's watchdog."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

LATE: Final = 5.0
"""Seconds that a slot may be due without being dispatched; the scheduler itself helps after two."""
LAGGING: Final = 5.0
"""Seconds that the loop may have stood still within the last minute."""
NOTICED: Final = 1.0
"""Seconds of that from which on somebody should look for the cause."""
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

    @property
    def conditions(self) -> Mapping[str, Callable[[], str]]:
        """What each tells, by a word for it, of one thing that keeps the daemon from its work; "" for nothing."""
        return {"late": self._slots_wait, "lag": self._loop_stood, "stuck": self._runs_stuck}

    def verdict(self) -> Verdict:
        """Return how things are."""
        problems = [] if self.stage is Stage.RUNNING else [f"the daemon is {self.stage}"]
        problems += filter(None, [condition() for condition in self.conditions.values()])
        warnings: list[str] = []
        if NOTICED < (lag := self._lag()) <= LAGGING:
            warnings.append(f"the loop stood still for {lag:.1f} s within the last minute")
        if why := self._unwritable():
            warnings.append(f"the store cannot be written: {why}")
        return Verdict(not problems, tuple(problems), tuple(warnings))

    def problems(self) -> tuple[str, ...] | None:
        """Return what is wrong; None while the daemon starts or stops, for then it neither works nor fails."""
        return self.verdict().problems if self.stage is Stage.RUNNING else None

    def scheduling(self) -> bool:
        """Return whether slots are dispatched: what the watchdog is fed by, for a new process can help there."""
        return self._late() <= LATE

    def _slots_wait(self) -> str:
        late = self._late()
        return f"no slot is dispatched: the earliest has been due for {late:.0f} s" if late > LATE else ""

    def _loop_stood(self) -> str:
        lag = self._lag()
        return f"the loop stood still for {lag:.0f} s within the last minute" if lag > LAGGING else ""

    def _runs_stuck(self) -> str:
        stuck = self._stuck()
        return f"stuck, and to be ended only with the process: {_names(stuck)}" if stuck else ""


def _names(jobs: Sequence[str]) -> str:
    named = ", ".join(jobs[:NAMED])
    return f"{named} and {len(jobs) - NAMED} more" if len(jobs) > NAMED else named
