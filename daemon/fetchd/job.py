"""What shall happen: a Job and all that defines it. Frozen values without I/O or state."""

from __future__ import annotations

import hashlib
import itertools
import json
import re
from collections.abc import Iterator
from typing import Annotated, Any, ClassVar, Final, Literal
from urllib.parse import urlsplit, urlunsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    TypeAdapter,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import core_schema

from fetchd.secret import INLINE, Secret
from fetchd.units import Duration, Size

JOB_NAME: Final = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"
SHORTEST_INTERVAL: Final = 0.01
LONGEST_DEADLINE: Final = 86400.0

_FUNCTION: Final = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*:[A-Za-z_]\w*", re.ASCII)
_HEADER_NAME: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_NOT_IN_HEADERS: Final = re.compile(r"[^\t\x20-\x7e\x80-\xff]")
_NOT_IN_URLS: Final = re.compile(r"[\x00-\x20\x7f]")
_SET_BY_CLIENT: Final = frozenset({"connection", "content-length", "transfer-encoding"})


def _function(value: str) -> str:
    if not _FUNCTION.fullmatch(value):
        raise ValueError('name a function as "package.module:function"')
    return value


def _header_name(name: str) -> str:
    if not _HEADER_NAME.fullmatch(name):
        raise ValueError("not a header's name: letters, digits and hyphens, without spaces and colons")
    if name.lower() in _SET_BY_CLIENT:
        raise ValueError("the client sets this header itself")
    return name


def _header_value(value: Secret) -> Secret:
    if _NOT_IN_HEADERS.search(value.reveal()):
        raise ValueError("a header's value holds no line break, no control character and nothing beyond Latin-1")
    return value


def _each_once(headers: dict[str, Secret]) -> dict[str, Secret]:
    seen: dict[str, str] = {}
    for name in headers:
        if (first := seen.setdefault(name.lower(), name)) != name:
            raise ValueError(f"{first} and {name} are the same header")
    return headers


def _http_url(url: Secret) -> Secret:
    # Where secrets are not read there is nothing to judge.
    if (url.reveal() or url.origin == INLINE) and (problem := url_problem(url.reveal())):
        raise ValueError(problem)
    return url


def url_problem(url: str) -> str | None:
    """Return what keeps ``url`` from being fetched, without repeating it; None if nothing does."""
    if _NOT_IN_URLS.search(url):
        return "a URL holds no spaces and no control characters; percent-encode them"
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
        (host or "").encode("idna")
    except ValueError:
        return "not a URL: its host or its port is not valid"
    if parts.scheme not in {"http", "https"}:
        return 'a URL begins with "http://" or "https://"'
    if not host or port == 0:
        return "not a URL: its host is missing" if not host else "not a URL: there is no port 0"
    return None


def _to_tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


Function = Annotated[str, AfterValidator(_function)]
"""A function in an importable module, as ``package.module:function``."""

Url = Annotated[Secret, AfterValidator(_http_url)]
"""An http or https URL, which may hold secrets."""

Headers = Annotated[
    dict[Annotated[str, AfterValidator(_header_name)], Annotated[Secret, AfterValidator(_header_value)]],
    AfterValidator(_each_once),
]
"""Headers by name, fit to be sent."""

Listed = BeforeValidator(_to_tuple)
"""Lets a TOML array become a tuple where everything else is checked strictly."""


class Frozen(BaseModel):
    """A value: immutable, without unknown keys, without conversions between types."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, allow_inf_nan=False, use_attribute_docstrings=True
    )


class Timeouts(Frozen):
    """The longest wait, in seconds, within each phase of one attempt."""

    connect: Duration = 10.0
    """From the name's look-up to the end of the TLS handshake."""
    read: Duration = 10.0
    """For the response's headers, then for each further piece of its body."""
    write: Duration = 10.0
    """For the request's headers and each piece of its body to be taken."""
    pool: Duration = 10.0
    """For a place among the host's concurrent exchanges."""

    @model_validator(mode="before")
    @classmethod
    def _one_for_all(cls, value: Any) -> Any:
        if isinstance(value, str | int | float) and not isinstance(value, bool):
            return dict.fromkeys(("connect", "read", "write", "pool"), value)
        return value

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        return {"anyOf": [TypeAdapter(Duration).json_schema(), handler.resolve_ref_schema(handler(schema))]}

    def shrunk_to(self, limit: float) -> Timeouts:
        """Return these timeouts, none of them longer than ``limit`` seconds."""
        return Timeouts.model_construct(**{phase: min(seconds, limit) for phase, seconds in self})


class Expect(Frozen):
    """What a response must be to count as a result."""

    status: Annotated[tuple[Annotated[int, Field(ge=100, le=599)], ...], Listed] = ()
    """The statuses that are results; without any, each from 200 to 299."""
    content_type: str | None = None
    """The media type that the response must declare, such as "application/json"; parameters do not count."""


class Auth(Frozen):
    """How requests are authorised; each kind is defined beside the code that applies it."""

    kind: str

    def headers(self) -> dict[str, str]:
        """Return the headers that authorise a request."""
        return {}


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
    headers: Headers = {}
    """Headers sent with each request to the URL's own origin."""
    on_unchanged: Literal["skip", "deliver"] = "skip"
    """What becomes of a result that is the same as the last one: nothing, or deliveries as of any other."""
    backlog: Annotated[int, Field(ge=1, le=1_000_000)] = 1000
    """The deliveries that may be owed, or dead letters; with as many, slots are skipped until there are fewer."""
    backlog_size: Size = 100 * 2**20
    """The bytes that may be owed; with as many, slots are skipped until there are fewer."""
    catch_up: bool = False
    """Whether a slot that passed while the daemon was down is run, once, when it starts."""


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
    method: Literal["GET", "HEAD", "POST", "PUT"] = "GET"
    """The request's method."""
    params: dict[str, Secret] = {}
    """Parameters added to the URL's query."""
    json_body: Annotated[Any, Field(alias="json")] = None
    """A request body, sent as JSON."""
    form: dict[str, Secret] | None = None
    """A request body, sent as a form."""
    body: Secret | None = None
    """A request body, sent as it is."""
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
        """Return what changes with what is fetched and with where it goes; of secrets, only those in the file count."""
        shown = self.model_dump(mode="json", include={"collect", "method", "sinks"})
        address = self.url.reveal() if self.url and self.url.origin == INLINE else self.source
        given = {**self.params, **self.headers}
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


def public_url(url: str) -> str:
    """Return ``url`` without what may be secret: the user, the query and the fragment."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit((parts.scheme, host, parts.path, "", ""))
