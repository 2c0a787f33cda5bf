"""When: the slots of a job. Pure functions of the wall's time, the same before and after a restart."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta
from itertools import islice, takewhile
from typing import Final, Protocol
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

from fetchd.job import Job

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_TICK: Final = timedelta(microseconds=1)
_DAY: Final = timedelta(days=1)
_FAR: Final = timedelta(days=50 * 366)
"""How far a cron expression is followed."""
COUNTED: Final = 1000
"""The most slots of a cron expression that are counted one by one."""


class Schedule(Protocol):
    """An endless row of slots."""

    def after(self, moment: datetime) -> datetime | None:
        """Return the first slot later than ``moment``, in UTC; None if there is none."""

    def latest(self, moment: datetime) -> datetime | None:
        """Return the last slot not later than ``moment``, in UTC; None if there is none."""

    def between(self, earlier: datetime, later: datetime) -> int:
        """Return how many slots lie between the two moments, both left out."""


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

    def between(self, earlier: datetime, later: datetime) -> int:
        """Return how many slots lie between the two moments, both left out."""
        return max(0, self._index(later - _TICK) - self._index(earlier))

    def _index(self, moment: datetime) -> int:
        since = (moment - _EPOCH) // _TICK
        return (since - self._phase) // self._interval

    def _slot(self, index: int) -> datetime:
        return _EPOCH + timedelta(microseconds=self._phase + index * self._interval)


class Cron:
    """The slots of a cron expression, read in a time zone as Debian's cron reads it, clock changes included.

    An expression of five fields whose minute and hour do not begin with a star names times of the day: one that the
    clock leaps over comes due when the leap is done, one that the clock shows twice comes due the first time. Any other
    expression follows the clock: it does not come due where the clock leaps, and does so again where the clock repeats.

    The expression is matched against the wall's clock without a zone, and each match is turned into UTC and compared
    there: local times do not grow with time.
    """

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
        fields = expression.split()
        self._names_times = len(fields) == 5 and not any(field.startswith("*") for field in fields[:2])
        if self.after(_EPOCH) is None:
            raise ValueError("this cron expression never comes due")

    def after(self, moment: datetime) -> datetime | None:
        """Return the first slot later than ``moment``, in UTC; None if there is none within 50 years."""
        return min(self._nearest(moment, back=False), default=None)

    def latest(self, moment: datetime) -> datetime | None:
        """Return the last slot not later than ``moment``, in UTC; None if there is none within 50 years."""
        return max(self._nearest(moment, back=True), default=None)

    def between(self, earlier: datetime, later: datetime) -> int:
        """Return how many slots lie between the two moments, both left out; no more than ``COUNTED`` are counted.

        They are counted on the wall's clock, so a change of the clock in between is not allowed for.
        """
        end = self._wall(later)
        walls = takewhile(lambda wall: wall < end, CronSim(self._expression, self._wall(earlier)))
        return sum(1 for _ in islice(walls, COUNTED))

    def _nearest(self, moment: datetime, *, back: bool) -> list[datetime]:
        """Return the slots that may be the nearest: one for each way to read an hour that the clock shows twice."""
        local = moment.astimezone(self._zone)
        if self._names_times:
            slot = self._search(moment, 0, back=back)
            return [slot] if slot else []
        found: list[datetime] = []
        # First as the clock reads it at the moment; the other way matters only if the clock is changed before the slot.
        for fold in (local.fold, 1 - local.fold):
            slot = self._search(moment, fold, back=back)
            if slot is not None:
                found.append(slot)
                unchanged = slot.astimezone(self._zone).utcoffset() == local.utcoffset()
                if unchanged and abs(slot - moment) < _DAY:
                    break
        return found

    def _search(self, moment: datetime, fold: int, *, back: bool) -> datetime | None:
        """Return the nearest slot, hours that the clock shows twice being read by ``fold`` alone."""
        wall = self._wall(moment)
        # The wall's clock as it would be, were the moment's hour read by ``fold``: no match beyond both is nearer.
        offset = moment.astimezone(self._zone).replace(fold=fold).utcoffset() or timedelta()
        other = moment.astimezone(UTC).replace(tzinfo=None) + offset
        start = max(wall, other) + _TICK if back else min(wall, other)
        walls = CronSim(self._expression, start, reverse=back)
        for match in takewhile(lambda match: abs(match - start) < _FAR, walls):
            slot = self._instant(match, fold)
            if slot is not None and (slot <= moment) is back:
                return slot
        return None

    def _wall(self, moment: datetime) -> datetime:
        return moment.astimezone(self._zone).replace(tzinfo=None)

    def _instant(self, wall: datetime, fold: int) -> datetime | None:
        """Return when ``wall`` is due, in UTC; None if the clock leaps over it and nothing is due in its place."""
        instant = wall.replace(tzinfo=self._zone, fold=fold).astimezone(UTC)
        if self._wall(instant) == wall:
            return instant
        return self._landing(wall) if self._names_times else None

    def _landing(self, wall: datetime) -> datetime:
        """Return the first instant after the leap that leaves ``wall`` out, in UTC."""
        # Of a time that is left out, fold 1 makes an instant before the leap and fold 0 one after it (PEP 495).
        before, after = (wall.replace(tzinfo=self._zone, fold=fold).astimezone(UTC) for fold in (1, 0))
        offset = after.astimezone(self._zone).utcoffset()
        while (seconds := (after - before) // timedelta(seconds=1)) > 1:
            middle = before + timedelta(seconds=seconds // 2)
            if middle.astimezone(self._zone).utcoffset() == offset:
                after = middle
            else:
                before = middle
        return after


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
