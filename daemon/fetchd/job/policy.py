"""What a job may inherit from [defaults]."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import Field

from fetchd.job.limits import Backoff, Retry, Timeouts
from fetchd.job.network import IpVersion, Proxy, Tls
from fetchd.job.values import LONGEST_DEADLINE, Frozen, Headers
from fetchd.job.watching import Alerting
from fetchd.secret import Secret
from fetchd.units import Duration, Size

SHORTEST_INTERVAL: Final = 0.01


class Policy(Frozen):
    """What a job may inherit from [defaults]."""

    interval: Annotated[Duration, Field(ge=SHORTEST_INTERVAL)] = 300.0
    """The time from one slot to the next."""
    deadline: Annotated[Duration, Field(le=LONGEST_DEADLINE)] = 30.0
    """The wall of the whole Run: attempts, backoff and inline deliveries fit under it."""
    timeout: Timeouts = Timeouts()
    """The longest wait within each phase of one attempt; one duration for all, or a table."""
    max_body: Size = 10 * 2**20
    """The largest body that is taken, in bytes after decompression."""
    retries: Annotated[int, Field(ge=0, le=10)] = 2
    """Further attempts after a transient failure, as far as the deadline allows."""
    redirects: Annotated[int, Field(ge=0, le=20)] = 5
    """The most redirects that are followed within one attempt."""
    allow_insecure_redirects: bool = False
    """Whether a redirect from https to http is followed."""
    headers: Headers = {}  # noqa: RUF012 - pydantic copies it
    """Headers sent with each request to the URL's own origin."""
    on_unchanged: Literal["skip", "deliver"] = "skip"
    """What becomes of a result that is the same as the last one: nothing, or deliveries as of any other."""
    backlog: Annotated[int, Field(ge=1, le=1_000_000)] = 1000
    """The deliveries that may be owed, or dead letters; with as many, slots are skipped until there are fewer."""
    backlog_size: Size = 100 * 2**20
    """The bytes that may be owed; with as many, slots are skipped until there are fewer."""
    catch_up: bool = False
    """Whether a slot that passed while the daemon was down is run, once, when it starts."""
    retry: Retry = Retry()
    """Which failed attempts are followed by another one, and when."""
    backoff: Backoff = Backoff()
    """How the rhythm slows down while the target fails."""
    proxy: Proxy = Field(Secret(""), json_schema_extra={"default": ""})
    """The proxy that requests go through: an address, "env" for what the environment names, "" for none.

    Names are looked up by the proxy, then.
    """
    ip: IpVersion = "any"
    """Which addresses of a host are asked."""
    deny_private: bool = False
    """Whether addresses of this machine and of private networks are refused, on every hop."""
    tls: Tls = Tls()
    """Whom the job trusts, and who it says it is."""
    respect_cache_control: bool = False
    """Whether nothing is fetched while the last response is still fresh by its own Cache-Control."""
    longest_fresh: Duration = 86400.0
    """The longest that a response is taken to be fresh."""
    overdue_after: Duration | None = None
    """The time without a success after which the job is overdue; without, three slots of its schedule."""
    alerts: Alerting = Alerting()
    """Whom the job's failures and its silence are told."""
