"""What can go wrong, by cause. Each error carries the decision that its caller needs."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Reason(StrEnum):
    """Why a Run, a slot or a Delivery did not do what it should: one word for logs, metrics, history and alerts."""

    DNS = "dns"
    CONNECT = "connect"
    TLS = "tls"
    TIMEOUT_CONNECT = "timeout_connect"
    TIMEOUT_READ = "timeout_read"
    TIMEOUT_WRITE = "timeout_write"
    TIMEOUT_POOL = "timeout_pool"
    PROTOCOL = "protocol"
    TOO_LARGE = "too_large"
    TOO_MANY_REDIRECTS = "too_many_redirects"
    REDIRECT_REFUSED = "redirect_refused"
    ADDRESS_REFUSED = "address_refused"
    AUTH = "auth"
    PAGES = "pages"
    EXTRACT = "extract"
    DECODE = "decode"
    HTTP_429 = "http_429"
    HTTP_4XX = "http_4xx"
    HTTP_5XX = "http_5xx"
    UNEXPECTED = "unexpected"
    COLLECT = "collect"
    LOCAL_RESOURCE = "local_resource"
    INTERNAL = "internal"
    SINK = "sink"
    OVERLAP = "overlap"
    BACKLOG = "backlog"
    STARVED = "starved"
    BACKING_OFF = "backing_off"
    RETRY_AFTER = "retry_after"
    FRESH = "fresh"
    PAUSED = "paused"
    STUCK = "stuck"
    SHUTDOWN = "shutdown"


class FetchdError(Exception):
    """Root of everything that fetchd raises on purpose."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing wrong in a configuration file: where, which key, what, and what to do about it."""

    file: str
    line: int | None
    key: str
    message: str

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}" if self.line else self.file
        return f"{where}: {self.key}: {self.message}" if self.key else f"{where}: {self.message}"


class ConfigError(FetchdError):
    """The configuration has findings; nothing starts with it."""

    def __init__(self, findings: list[Finding]) -> None:
        super().__init__("\n".join(str(finding) for finding in findings))
        self.findings = tuple(findings)


class InstanceError(FetchdError):
    """Another process holds this state directory."""


class UnavailableError(FetchdError):
    """There is no daemon that answers; the message names its state directory."""


class StateError(FetchdError):
    """The state directory cannot be used; the message names it, the cause and the remedy."""


class FetchError(FetchdError):
    """A fetch ended without a result.

    ``transient`` says whether another attempt may end differently; ``phase`` is where the exchange was and
    ``elapsed`` how many seconds the attempt had taken.
    """

    retry_after: float | None = None
    """For how many seconds the server wants no further request, if it has said that."""

    def __init__(
        self,
        reason: Reason,
        message: str,
        *,
        transient: bool,
        phase: str = "",
        elapsed: float = 0.0,
        status: int | None = None,
    ) -> None:
        super().__init__(message)
        self.reason = reason
        self.transient = transient
        self.phase = phase
        self.elapsed = elapsed
        self.status = status


class SinkError(FetchdError):
    """A sink did not take a delivery. ``permanent``: trying again cannot help."""

    def __init__(self, message: str, *, permanent: bool = False) -> None:
        super().__init__(message)
        self.permanent = permanent


class StoreError(FetchdError):
    """The store could not keep, or find, what it was asked for; the message names the file and the remedy."""


class UserCodeError(FetchdError):
    """A function that the configuration names failed; the message holds its own traceback, without local values."""
