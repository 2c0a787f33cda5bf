"""The sinks of jobs as deliveries see them: open, and with the limits within which each is tried again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from fetchd.errors import SinkError
from fetchd.run import Delivery
from fetchd.sinks import Sink


@dataclass(frozen=True, slots=True)
class Target:
    """An open sink, the seconds that a further try of a delivery may take, and when a delivery is given up."""

    sink: Sink
    deadline: float
    max_attempts: int = 1000
    max_age: float = 86400.0


Sinks = Mapping[str, Mapping[str, Target]]
"""The open sinks of each job, by their names, in order."""


class _Absent:
    """Fails each time, so that what is owed is not given up before somebody may have put the sink back."""

    async def deliver(self, delivery: Delivery) -> None:
        """Take nothing."""
        raise SinkError("the configuration has no such sink any more")

    async def aclose(self) -> None:
        """Nothing is held."""


ABSENT: Final = Target(_Absent(), deadline=1.0)
"""Stands where deliveries are owed to a sink that the configuration has no more."""
