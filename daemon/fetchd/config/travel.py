"""Whether a job can travel as it says: through its proxy, with its certificate, to public addresses alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from fetchd.config.rules import Problems
from fetchd.fetch.proxies import Proxies
from fetchd.fetch.tls import identity_problem
from fetchd.job import ENVIRONMENT, Job, Tls
from fetchd.job.values import SOCKET_SCHEME


@dataclass
class Travel:
    """Judges the jobs of one document. Certificates that several of them share are read once."""

    environment: Mapping[str, str]
    _read: dict[Tls, tuple[str, str] | None] = field(default_factory=dict)

    def judge(self, job: Job) -> Problems:
        """Yield what keeps ``job``, with all that it inherits, from being fetched."""
        proxy = job.proxy.reveal()
        proxies = Proxies.of(self.environment) if proxy == ENVIRONMENT else Proxies()
        if proxy == ENVIRONMENT:
            for _, problem in proxies.problems:
                yield ("proxy",), problem
        if job.deny_private and proxy and (proxy != ENVIRONMENT or not proxies.none):
            yield ("deny_private",), "goes with no proxy, which would look names up itself: nobody can judge addresses"
        if job.deny_private and job.url and job.url.reveal().lower().startswith(f"{SOCKET_SCHEME}:"):
            yield ("deny_private",), "refuses sockets of this machine, and url is one"
        if job.tls.cert is not None:
            if job.tls not in self._read:
                self._read[job.tls] = identity_problem(job.tls)
            if problem_of := self._read[job.tls]:
                key, message = problem_of
                yield ("tls", key), message
