"""What a Run and its attempts are held to: times, statuses, attempts, the rhythm of a target that fails."""

from __future__ import annotations

from typing import Annotated, Any, Final

from pydantic import (
    AfterValidator,
    Field,
    GetJsonSchemaHandler,
    TypeAdapter,
    WithJsonSchema,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import core_schema

from fetchd.errors import Reason
from fetchd.job.values import Frozen, Listed
from fetchd.units import Duration

REPEATABLE: Final = (
    Reason.DNS,
    Reason.CONNECT,
    Reason.TLS,
    Reason.TIMEOUT_CONNECT,
    Reason.TIMEOUT_READ,
    Reason.TIMEOUT_WRITE,
    Reason.TIMEOUT_POOL,
    Reason.PROTOCOL,
    Reason.DECODE,
    Reason.AUTH,
    Reason.HTTP_429,
    Reason.HTTP_4XX,
    Reason.HTTP_5XX,
    Reason.UNEXPECTED,
)
"""The reasons for which another attempt may be asked."""


def _cause(value: Any) -> int | str:
    if type(value) is int and 100 <= value <= 599:
        return value
    if isinstance(value, str) and value in REPEATABLE:
        return value
    raise ValueError(f"must be a status, such as 429, or one of the reasons {', '.join(REPEATABLE)}")


Cause = Annotated[
    Any,
    AfterValidator(_cause),
    WithJsonSchema({"anyOf": [{"type": "integer", "minimum": 100, "maximum": 599}, {"enum": list(REPEATABLE)}]}),
]
"""Why an attempt failed: a status or a reason."""


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


class Retry(Frozen):
    """Which failed attempts are followed by another one within the Run, and when. How many: ``retries``."""

    on: Annotated[tuple[Cause, ...], Listed] = ()
    """The statuses and reasons that are worth another attempt; without any, those that are known to pass by."""
    first: Duration = 0.5
    """The longest wait before the first further attempt; it doubles for each one after it. Lots are drawn below it."""
    longest: Duration = 10.0
    """The longest wait of all."""
    unsafe: bool = False
    """Whether a POST is repeated although the server may have got it."""
    longest_retry_after: Duration = 3600.0
    """The longest time that a server's Retry-After is obeyed for."""


class Backoff(Frozen):
    """How the rhythm of a job slows down while its target fails; the first success brings it back."""

    after: Annotated[int, Field(ge=0, le=1000)] = 0
    """The failures in a row after which the interval grows; 0: it never does."""
    factor: Annotated[float, Field(gt=1, le=10)] = 2.0
    """By how much it grows with each further failure."""
    longest: Duration = 3600.0
    """The longest interval that it grows to."""
