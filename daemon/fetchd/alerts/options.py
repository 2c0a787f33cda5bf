"""What the configuration says about being told, and about the times when nobody shall be."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import Annotated, Any, Final
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, Field, WithJsonSchema, model_validator

from fetchd.job import JOB_NAME, Frozen, Listed
from fetchd.schedule import Cron
from fetchd.units import Duration

Names = Annotated[tuple[Annotated[str, Field(pattern=JOB_NAME)], ...], Listed]


class AlertOptions(Frozen):
    """How people are told."""

    group_wait: Duration = 10.0
    """How long is waited, once something has happened, for what happens with it: it is told in one message."""
    group_interval: Duration = 60.0
    """The shortest time from one message to the next."""
    retry_for: Duration = 86400.0
    """How long a message that is not taken is tried again."""
    offline: bool = True
    """Whether one message says that this machine is offline, instead of each job that no host can be reached."""
    reminder: Duration = 14400.0
    """The shortest time after which somebody is told again what is still wrong with the daemon itself."""
    down_after: Duration = 300.0
    """Whoever waits for results is told when the daemon has been down for longer, once it is up again."""
    notify: Names | None = None
    """The notifiers that are told of the daemon itself, by their names; without, all of them."""


_Moment = Annotated[datetime, WithJsonSchema({"description": "A date and time of TOML."})]


def _zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (KeyError, OSError, ValueError):
        raise ValueError('unknown time zone; write one such as "Europe/Prague"') from None
    return name


class Maintenance(Frozen):
    """A time in which nobody is told what happens to some jobs; what is still so after it is told then."""

    jobs: Annotated[tuple[Annotated[str, Field(min_length=1)], ...], Listed] = ("*",)
    """The jobs, by their names, in which "*" stands for any letters."""
    start: _Moment | None = None
    """When it begins."""
    end: _Moment | None = None
    """When it ends."""
    cron: str | None = None
    """When it begins, time and again, as a cron expression."""
    duration: Duration | None = None
    """How long it takes, each time."""
    timezone: Annotated[str, AfterValidator(_zone)] = "UTC"
    """The time zone of the cron expression, and of a start and an end that name none."""
    reason: Annotated[str, Field(max_length=200)] = ""
    """What it is for; for whoever reads the file."""

    @model_validator(mode="after")
    def _once_or_again(self) -> Maintenance:
        once = self.start is not None and self.end is not None
        again = self.cron is not None and self.duration is not None
        given = [key for key in ("start", "end", "cron", "duration") if getattr(self, key) is not None]
        if len(given) != 2 or not (once or again):
            raise ValueError("write either start and end, or cron and duration")
        if self.cron is not None:
            Cron(self.cron, self.timezone)
        elif self.moment("start") >= self.moment("end"):
            raise ValueError("ends before it begins")
        return self

    def moment(self, key: str) -> datetime:
        """Return ``start`` or ``end``, in the time zone that counts for it."""
        value: Any = getattr(self, key)
        assert isinstance(value, datetime)
        return value.replace(tzinfo=ZoneInfo(self.timezone)) if value.tzinfo is None else value.astimezone(UTC)

    def covers(self, job: str) -> bool:
        """Return whether it is for ``job``."""
        return any(fnmatchcase(job, pattern) for pattern in self.jobs)

    def active(self, now: datetime) -> bool:
        """Return whether it is on at ``now``."""
        if self.cron is None:
            return self.moment("start") <= now < self.moment("end")
        assert self.duration is not None
        began = _cron(self.cron, self.timezone).latest(now)
        return began is not None and now < began + timedelta(seconds=self.duration)


@lru_cache(maxsize=256)
def _cron(expression: str, timezone: str) -> Cron:
    return Cron(expression, timezone)


ALWAYS_TOLD: Final = AlertOptions()
"""What counts where the configuration says nothing."""
