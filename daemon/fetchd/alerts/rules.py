"""What the configuration in force says: of what people are told, when nobody is, and who hears of it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import Final, Protocol
from urllib.parse import urlsplit

from fetchd.alerts.options import ALWAYS_TOLD, AlertOptions, Maintenance
from fetchd.alerts.troubles import DAEMON, SINK, Change, Key, News, Policy
from fetchd.job import Job
from fetchd.notifiers.message import NotifierOptions

_LOCAL: Final = ("localhost", "127.", "[::1]")


class Told(Protocol):
    """What of a configuration counts here."""

    @property
    def jobs(self) -> Mapping[str, Job]:
        """Return the jobs by name."""

    @property
    def alerts(self) -> AlertOptions:
        """Return how people are told."""

    @property
    def notifiers(self) -> Mapping[str, NotifierOptions]:
        """Return where messages go, by name."""

    @property
    def maintenance(self) -> Sequence[Maintenance]:
        """Return when nobody is told."""


@dataclass(frozen=True)
class Rules:
    """What holds for these jobs."""

    jobs: Mapping[str, Job] = field(default_factory=dict)
    options: AlertOptions = ALWAYS_TOLD
    maintenance: Sequence[Maintenance] = ()

    @classmethod
    def of(cls, told: Told) -> Rules:
        """Return those of a configuration."""
        return cls(told.jobs, told.alerts, told.maintenance)

    @cached_property
    def hosts(self) -> Mapping[str, str]:
        """The host that each job fetches from, where it is known."""
        return {name: host for name, job in self.jobs.items() if (host := _host(job))}

    @cached_property
    def remote(self) -> frozenset[str]:
        """The jobs that cannot reach their host without a network."""
        return frozenset(name for name, host in self.hosts.items() if not _is_local(host))

    @cached_property
    def _sinks(self) -> frozenset[Key]:
        return frozenset((name, SINK + sink) for name, job in self.jobs.items() for sink in job.sink_names())

    def has(self, key: Key) -> bool:
        """Return whether the job is still there, and the sink if the trouble is with one."""
        job, kind = key
        return job == DAEMON or (job in self.jobs and (not kind.startswith(SINK) or key in self._sinks))

    def at(self, now: datetime, paused: Callable[[str], bool]) -> Callable[[str], Policy]:
        """Return what tells, of each job by name, when people are told of it."""
        active = [window for window in self.maintenance if window.active(now)]

        def policy(name: str) -> Policy:
            if name == DAEMON:
                return Policy(reminder=self.options.reminder)
            quiet = any(window.covers(name) for window in active)
            job = self.jobs.get(name)
            if job is None:
                return Policy(quiet=quiet)
            return Policy(
                after=job.alerts.after,
                overdue=job.alerts.overdue,
                recovery=job.alerts.recovery,
                reminder=job.alerts.reminder,
                host=self.hosts.get(name, ""),
                quiet=quiet or paused(name),
            )

        return policy

    def hear(self, news: News, names: Collection[str]) -> Collection[str]:
        """Return those of the notifiers called ``names`` that are told.

        What is over is told to those who know of it, whoever is to be told of the job by now.
        """
        job = self.jobs.get(news.job)
        notify = (job.alerts if job is not None else self.options).notify
        named = [name for name in names if notify is None or name in notify]
        if news.change is not Change.OVER:
            return named
        if not self._tells_ends(news.job):
            return ()
        if news.to is None:
            return named
        know = [name for name in names if name in news.to]
        return know if know or news.gone else named

    def owed(self, news: News, names: Collection[str]) -> Collection[str]:
        """Return those who, once they are told ``news``, are to be told when that is over."""
        return self.hear(news, names) if self._tells_ends(news.job) else ()

    def _tells_ends(self, name: str) -> bool:
        job = self.jobs.get(name)
        return job is None or job.alerts.recovery


def _host(job: Job) -> str:
    """Return the host that ``job`` fetches from; empty if a function knows it alone."""
    return urlsplit(job.url.reveal()).netloc.rpartition("@")[2].lower() if job.url else ""


def _is_local(host: str) -> bool:
    """Return whether ``host`` is this machine, which can be reached without a network."""
    name = host.rpartition(":")[0] or host
    return host.startswith(_LOCAL) or name.endswith(".localhost") or "%2f" in host
