"""What a job shares with others: the host that it asks first, the limits of that, and whatever time that names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from fetchd.clock import SystemClock
from fetchd.config.model import Config, Host
from fetchd.errors import FetchError
from fetchd.fetch.hosts import Hosts, canonical
from fetchd.fetch.request import parsed
from fetchd.fetch.turns import HostLimits
from fetchd.job import Job
from fetchd.shorten import by_number, count_of, listed


@dataclass(frozen=True, slots=True)
class Shared:
    """A host, the jobs that ask it first, and what it is spared; ``table`` is its key among the hosts, None without."""

    host: str
    table: str | None
    limits: HostLimits
    jobs: tuple[str, ...]

    def in_words(self) -> str:
        """Return what follows from it for a job that starts late."""
        if len(self.jobs) == 1:
            return (
                f"{self.host} is asked by this job alone. A time that it names with Retry-After holds: "
                "`fetchd status` shows when the job is run next."
            )
        return (
            f"{self.host} is asked by {count_of(len(self.jobs), 'job')}: {listed(self.jobs)}. Its limits hold for all "
            "of them together, and so does a time that it names with Retry-After: `fetchd status` shows when each is "
            "run next."
        )


def shared(config: Config, job: Job) -> Shared | None:
    """Return what ``job`` shares of its host; None if its code alone knows whom it asks, or a socket is asked."""
    hosts = Hosts(limits_of(config.hosts), SystemClock())
    name = _name(job, hosts)
    if not name:
        return None
    limits = hosts.limits(name)
    table = next((key for key in config.hosts if canonical(key) == name), None)
    jobs = [other.name for other in config.jobs.values() if _name(other, hosts) == name]
    return Shared(name, table, limits, tuple(sorted(jobs, key=by_number)))


def limits_of(hosts: Mapping[str, Host]) -> dict[str, HostLimits]:
    """Return what is spared of each host."""
    return {name: HostLimits(host.max_concurrent, host.min_spacing or 0.0) for name, host in hosts.items()}


def _name(job: Job, hosts: Hosts) -> str:
    """Return the name of the host that ``job`` asks first; "" if it has none."""
    if job.url is None or urlsplit(job.url.reveal()).scheme.lower() not in {"http", "https"}:
        return ""
    try:
        return hosts.name(parsed(job.url.reveal()))
    except FetchError:
        return ""
