"""One try of a delivery: what it is, how it may end, and how it is told of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from fetchd.body import on_disk
from fetchd.errors import SinkError, StoreError
from fetchd.lanes import OpenLane
from fetchd.run import Delivery, Fetched
from fetchd.targets import Target


@dataclass(frozen=True, slots=True)
class Try:
    """One try of the first delivery of a lane: which one it is, of what age, and whose limits it is held to."""

    lane: OpenLane
    delivery: Delivery
    number: int
    since: datetime
    target: Target


@dataclass(frozen=True, slots=True)
class Unkept:
    """A result that the store could not keep, and the lanes that it may be delivered to all the same."""

    fetched: Fetched
    deliveries: Sequence[Delivery]
    held: Mapping[str, OpenLane]
    error: StoreError


def why_dead(one: Try, error: SinkError, now: datetime) -> str | None:
    """Return why a delivery is given up after ``error``; None if it is worth another try."""
    if error.permanent:
        return "refused"
    if one.number >= one.target.max_attempts:
        return "max_attempts"
    return "max_age" if (now - one.since).total_seconds() >= one.target.max_age else None


async def is_gone(delivery: Delivery) -> bool:
    """Return whether the file of its body has vanished."""
    path = delivery.fetched.body.path
    return path is not None and not await on_disk(path.exists)


def which(delivery: Delivery) -> dict[str, str]:
    """Return how the log names ``delivery``."""
    return {"job": delivery.job, "run": delivery.run, "sink": delivery.sink, "delivery": delivery.id}
