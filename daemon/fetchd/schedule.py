"""When: the slots of a job. Pure functions of the wall's time, the same before and after a restart."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Final, Protocol
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

from fetchd.job import Job

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class Schedule(Protocol):
    """An endless row of slots."""

    def after(self, moment: datetime) -> datetime | None:
        """Return the first slot later than ``moment``, in UTC; None if there is none."""

    def latest(self, moment: datetime) -> datetime | None:
        """Return the last slot not later than ``moment``, in UTC; None if there is none."""


class Every:
    """A slot each ``interval`` seconds, at a phase that the name decides.

    Jobs of the same interval are so spread over it, instead of starting as a herd; and a job keeps its slots
    over restarts, whatever other jobs come and go.
    """

    def __init__(self, interval: float, name: str) -> None:
        self._interval = round(interval * 1_000_000)
        digest = hashlib.blake2b(name.encode(), digest_size=8).digest()
        self._phase = int.from_bytes(digest, "big") % self._interval

    def after(self, moment: datetime) -> datetime:
        """Return the first slot later than ``moment``, in UTC."""
        return self._slot(self._index(moment) + 1)

    def latest(self, moment: datetime) -> datetime:
        """Return the last slot not later than ``moment``, in UTC."""
        return self._slot(self._index(moment))

    def _index(self, moment: datetime) -> int:
        since = (moment - _EPOCH) // timedelta(microseconds=1)
        return (since - self._phase) // self._interval

    def _slot(self, index: int) -> datetime:
        return _EPOCH + timedelta(microseconds=self._phase + index * self._interval)


class Cron:
    """The slots of a cron expression, read in a time zone as Debian's cron reads it, clock changes included."""

    def __init__(self, expression: str, timezone: str = "UTC") -> None:
        """Parse ``expression``.

        Raises:
            ValueError: it is not a cron expression, it never comes due, or there is no such time zone.
        """
        try:
            self._zone = ZoneInfo(timezone)
        except (KeyError, OSError, ValueError) as error:
            raise ValueError(f'there is no time zone "{timezone}"; write one such as "Europe/Prague"') from error
        self._expression = expression
        try:
            CronSim(expression, _EPOCH)
        except CronSimError as error:
            raise ValueError(f'not a cron expression: {error}; write one such as "*/5 9-17 * * mon-fri"') from error
        if self.after(_EPOCH) is None:
            raise ValueError("this cron expression never comes due")

    def after(self, moment: datetime) -> datetime | None:
        """Return the first slot later than ``moment``, in UTC; None if there is none within 50 years."""
        return self._first(CronSim(self._expression, moment.astimezone(self._zone)))

    def latest(self, moment: datetime) -> datetime | None:
        """Return the last slot not later than ``moment``, in UTC; None if there is none within 50 years."""
        just_after = moment.astimezone(self._zone) + timedelta(microseconds=1)
        return self._first(CronSim(self._expression, just_after, reverse=True))

    def _first(self, slots: Iterator[datetime]) -> datetime | None:
        slot = next(slots, None)
        return slot.astimezone(UTC) if slot else None


def schedule_of(job: Job) -> Schedule:
    """Return the schedule that ``job`` names."""
    return Cron(job.cron, job.timezone) if job.cron else Every(job.interval, job.name)


def next_slots(schedule: Schedule, moment: datetime, count: int) -> list[datetime]:
    """Return the next ``count`` slots after ``moment``, fewer if there are not so many."""
    slots: list[datetime] = []
    slot = schedule.after(moment)
    while slot is not None and len(slots) < count:
        slots.append(slot)
        slot = schedule.after(slot)
    return slots
