"""Alerts with everything around them that is real but the clock, and a notifier that keeps what it is given."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

from fetchd.alerts.memory import RUNS
from fetchd.alerts.options import ALWAYS_TOLD, AlertOptions, Maintenance
from fetchd.alerts.posts import Box, Posts
from fetchd.alerts.telling import Alerts, Teller
from fetchd.body import Body
from fetchd.clock import FakeClock
from fetchd.errors import Reason
from fetchd.job import Job
from fetchd.notifiers.message import Message, NotifyError
from fetchd.run import Delivery, Fetched, Outcome, Report, Run
from fetchd.secret import Redactor
from fetchd.store import Memory
from fetchd.store.memory import MemoryStore
from fetchd.watch import Result

START = datetime(2026, 3, 2, 12, tzinfo=UTC)
FAR = datetime(2036, 1, 1, tzinfo=UTC)


class Kept:
    """Takes messages, or refuses them as it is told to."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.error: NotifyError | None = None
        self.hangs = False
        self.came = asyncio.Event()

    async def notify(self, message: Message) -> None:
        """Take a message."""
        if self.hangs:
            await asyncio.Event().wait()
        if self.error is not None:
            raise self.error
        self.messages.append(message)
        self.came.set()

    @property
    def titles(self) -> list[str]:
        """Return what was said, without by whom."""
        return [message.title.removeprefix("fetchd on box: ") for message in self.messages]


def job(name: str = "rates", url: str = "https://api.test/", **values: Any) -> Job:
    """Return a job whose alerts are as given."""
    return Job.model_validate({"name": name, "url": url, **values})


def report(name: str, reason: Reason | None, at: datetime, *, message: str = "", status: int | None = None) -> Report:
    """Return how a Run ended: well, or for a reason."""
    failed = Outcome.DELIVERY_FAILED if reason is Reason.SINK else Outcome.FETCH_FAILED
    outcome = failed if reason else Outcome.SUCCEEDED
    return Report(Run("r1", name, at), outcome, reason, message, status=status, started=at)


@dataclass
class Desk:
    """Alerts for some jobs. ``overdue`` are the instants at which jobs become so."""

    jobs: Sequence[Job]
    options: AlertOptions = ALWAYS_TOLD
    maintenance: Sequence[Maintenance] = ()
    store: MemoryStore = field(default_factory=MemoryStore)
    clock: FakeClock = field(default_factory=lambda: FakeClock(START))
    notifiers: Mapping[str, Kept] = field(default_factory=lambda: {"ops": Kept()})
    overdue: dict[str, datetime] = field(default_factory=dict)
    redact: Redactor = field(default_factory=Redactor)

    def __post_init__(self) -> None:
        self.posts = Posts(self.store, self.clock, jitter=lambda: 1.0)
        self.alerts = Alerts(self.store, self.clock, self._overdue, self.posts, Teller("box", self.redact))

    def _overdue(self, job: Job, memory: Memory) -> datetime:
        return self.overdue.get(job.name, FAR)

    @property
    def config(self) -> Any:
        """Return what the alerts are told of the configuration."""
        jobs = {job.name: job for job in self.jobs}
        return SimpleNamespace(jobs=jobs, alerts=self.options, notifiers={}, maintenance=self.maintenance)

    @property
    def boxes(self) -> dict[str, Box]:
        """Return the open notifiers."""
        return {name: Box(kept, 0.05) for name, kept in self.notifiers.items()}

    @property
    def titles(self) -> list[str]:
        """Return what the first notifier was told."""
        return next(iter(self.notifiers.values())).titles

    async def open(self) -> Desk:
        """Load."""
        await self.alerts.load(self.config, self.boxes)
        return self

    async def again(self, *, killed: bool = False, **changed: Any) -> Desk:
        """Return what a new process makes of the same store; notifiers and clock go on.

        The old one told nobody anything any more; that it was ``killed`` is to be seen only where a test asks for it.
        """
        if not killed:
            self.store.note(RUNS, None)
        parts = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return await Desk(**{**parts, **changed}).open()

    async def reload(self, *jobs: Job) -> Desk:
        """Let these jobs be in force."""
        self.jobs = jobs
        self.alerts.replace(self.config, self.boxes)
        return self

    def fail(self, name: str = "rates", reason: Reason = Reason.HTTP_5XX, times: int = 1, **values: Any) -> None:
        """Let a job fail, and the store know of it."""
        for _ in range(times):
            told = report(name, reason, self.clock.now(), **values)
            self.store.finish(told)
            self.alerts.finished(told)

    def succeed(self, name: str = "rates") -> None:
        """Let a job succeed, and the store know of it."""
        told = report(name, None, self.clock.now())
        self.store.finish(told)
        self.alerts.finished(told)

    def deliver(self, result: Result, error: str = "", name: str = "rates") -> None:
        """Let a delivery to the job's file be tried."""
        fetched = Fetched(200, "", "", {}, Body.of(b""))
        self.alerts.tried(Delivery("d", name, "r", START, "file", fetched), result, error)

    async def after(self, seconds: float, step: float = 5.0) -> Desk:
        """Let time pass, with what the alerts do in it."""
        end = self.clock.now() + timedelta(seconds=seconds)
        while self.clock.now() < end:
            self.clock.advance(min(step, (end - self.clock.now()).total_seconds()))
            self.alerts.tick()
            await self.posts.drain(1.0)
        return self
