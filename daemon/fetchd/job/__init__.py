"""What shall happen: a Job and all that defines it. Frozen values without I/O or state."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Iterator
from typing import Annotated, Any, ClassVar, Final, Literal

from pydantic import Field

from fetchd.job.limits import Backoff, Cause, Expect, Retry, Timeouts
from fetchd.job.network import ENVIRONMENT, IpVersion, Proxy, Tls
from fetchd.job.paging import (
    AnyPages,
    Cursor,
    CursorPages,
    LinkPages,
    NumberedPages,
    OffsetPages,
    Pages,
    Query,
)
from fetchd.job.policy import SHORTEST_INTERVAL, Policy
from fetchd.job.values import (
    JOB_NAME,
    LONGEST_DEADLINE,
    Frozen,
    Function,
    HeaderName,
    Headers,
    Listed,
    Url,
    public_url,
    url_problem,
)
from fetchd.job.watching import Alerting
from fetchd.secret import INLINE, Secret
from fetchd.units import Duration

__all__ = [
    "ENVIRONMENT",
    "JOB_NAME",
    "LONGEST_DEADLINE",
    "SHORTEST_INTERVAL",
    "Alerting",
    "Auth",
    "Backoff",
    "Cause",
    "Cursor",
    "CursorPages",
    "Expect",
    "Frozen",
    "Function",
    "HeaderName",
    "Headers",
    "IpVersion",
    "Job",
    "LinkPages",
    "Listed",
    "NumberedPages",
    "OffsetPages",
    "Pages",
    "Policy",
    "Proxy",
    "Query",
    "Retry",
    "SinkOptions",
    "Timeouts",
    "Tls",
    "Url",
    "public_url",
    "url_problem",
]


class Auth(Frozen):
    """How requests are authorised; each kind is defined beside the code that applies it."""

    kind: str

    def headers(self) -> dict[str, str]:
        """Return the headers that authorise a request."""
        return {}

    def fills(self) -> tuple[Literal["header", "query"], str]:
        """Return what of a request is set by this, and nobody else may set: its place and its name."""
        return "header", "Authorization"


class SinkOptions(Frozen):
    """Where results go; each kind is defined beside the code that delivers to it."""

    kind: str
    name: Annotated[str, Field(pattern=JOB_NAME)] | None = None
    """What logs and metrics call this sink; the kind, numbered from the second on, where none is given."""
    deadline: Annotated[Duration, Field(le=LONGEST_DEADLINE)] | None = None
    """The longest that one further try of a delivery may take; without, the job's deadline."""
    max_attempts: Annotated[int, Field(ge=1, le=1_000_000)] = 1000
    """The tries after which a delivery is given up: a dead letter, kept to be replayed."""
    max_age: Duration = 86400.0
    """The age at which a delivery that still fails is given up."""

    def problems(self) -> Iterator[tuple[str, str]]:
        """Yield each (key, message) that only the running machine can tell, such as a function that is not there."""
        yield from ()


_MARKED: Final = set(
    {"collect", "method", "sinks", "json_body", "pages", "parse", "delimiter", "extract", "split", "unique"}
)


class Job(Policy):
    """A named definition of what to fetch, when, within which limits, and where the result goes."""

    PUBLIC_HEADERS: ClassVar[frozenset[str]] = frozenset({"accept", "accept-language", "content-type", "user-agent"})

    name: Annotated[str, Field(pattern=JOB_NAME)]
    url: Url | None = None
    """What to fetch: an http or https URL."""
    collect: Function | None = None
    """A function that makes the requests itself and returns the result."""
    cron: str | None = None
    """When, as a cron expression, instead of an interval."""
    timezone: str = "UTC"
    """The time zone that the cron expression is read in."""
    method: Literal["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"] = "GET"
    """The request's method."""
    params: dict[str, Secret] = {}  # noqa: RUF012 - pydantic copies it
    """Parameters added to the URL's query."""
    json_body: Annotated[Any, Field(alias="json")] = None
    """A request body, sent as JSON."""
    form: dict[str, Secret] | None = None
    """A request body, sent as a form."""
    body: Secret | None = None
    """A request body, sent as it is."""
    pages: AnyPages | None = None
    """How all pages of the result are fetched, where one response does not hold it."""
    cursor: Cursor | None = None
    """What each Run leaves to the next one, which has it as {cursor} in its URL, parameters and body."""
    parse: Literal["json", "csv", "feed"] = "json"
    """How a body is read for ``extract`` and ``split``; rows of CSV and a feed's entries are split by themselves."""
    delimiter: Annotated[str, Field(min_length=1, max_length=1)] = ","
    """What stands between the fields of CSV."""
    extract: Query | None = None
    """What is delivered of the body, as a JMESPath expression; without, all of it."""
    split: Query | None = None
    """Where the records are of which the result is made, one on each line; a JMESPath expression after ``extract``."""
    unique: Query | None = None
    """What tells a record from the others: one that has been delivered is left out of later results."""
    ping: Url | None = None
    """An address that is told of each Run's start and end, in the way of healthchecks.io."""
    auth: Auth | None = None
    """How the request is authorised."""
    expect: Expect = Expect()
    """What a response must be to count as a result."""
    sinks: Annotated[tuple[SinkOptions, ...], Listed] = ()
    """Where each result goes, in this order."""

    @property
    def source(self) -> str:
        """Return what is fetched, fit to be shown: the URL without user, query and fragment, or the function."""
        return public_url(self.url.reveal()) if self.url else str(self.collect)

    def mark(self) -> str:
        """Return what changes with what is fetched and with where it goes, but for caps on how much at once.

        Of secrets, only those in the file count.
        """
        shown = self.model_dump(mode="json", include=_MARKED, exclude={"pages": {"max", "max_bytes"}})
        address = self.url.reveal() if self.url and self.url.origin == INLINE else self.source
        given = {**self.params, **self.headers, **(self.form or {}), **({"body": self.body} if self.body else {})}
        values = {name: value.reveal() for name, value in given.items() if value.origin == INLINE}
        text = json.dumps([shown, address, sorted(given), values], sort_keys=True)
        return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()

    def sink_names(self) -> tuple[str, ...]:
        """Return the sinks' names, unique within the job and stable as long as their order is."""
        names: list[str] = []
        taken = {options.name for options in self.sinks}
        for options in self.sinks:
            numbered = (f"{options.kind}-{number}" if number > 1 else options.kind for number in itertools.count(1))
            name = options.name or next(name for name in numbered if name not in taken)
            taken.add(name)
            names.append(name)
        return tuple(names)
