"""Results sent on over HTTP: each in one request, or its records in several."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from typing import Annotated, Final, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field

from fetchd.body import Body
from fetchd.errors import FetchError, SinkError
from fetchd.job import SinkOptions, Timeouts
from fetchd.run import Delivery
from fetchd.secret import Secret
from fetchd.sinks import Outgoing, Resources
from fetchd.sinks.content import clean, is_records

_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_OURS: Final = frozenset({"connection", "content-length", "host", "idempotency-key", "transfer-encoding"})
BATCH_BYTES: Final = 2**20
"""Bytes at which a batch is sent, however few its records are: it is made in memory."""

_AT_ONCE: Final = 16 * 1024
_TRANSIENT: Final = frozenset({408, 425, 429})


def _check_url(url: Secret) -> Secret:
    if not url.reveal():
        return url  # where secrets are not read, there is nothing to check
    try:
        parts = urlsplit(url.reveal())
        sound = parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0
    except ValueError:
        sound = False
    if not sound or not url.reveal().isprintable() or " " in url.reveal():
        raise ValueError("write an http or https URL")
    return url


def _check_headers(headers: dict[str, Secret]) -> dict[str, Secret]:
    for name, value in headers.items():
        if not _NAME.fullmatch(name):
            raise ValueError(f"{name!r} is not a header's name")
        if name.lower() in _OURS or name.lower().startswith("x-fetchd-"):
            raise ValueError(f"the header {name} is set by fetchd")
        if not value.reveal().isprintable() or not value.reveal().isascii():
            raise ValueError(
                f"the value of the header {name} holds a line end or another character that cannot be sent"
            )
    return headers


class WebhookOptions(SinkOptions):
    """A request for each result, with the body as it is, or requests with its records."""

    kind: Literal["webhook"]
    url: Annotated[Secret, AfterValidator(_check_url)]
    """Where to send it."""
    method: Literal["POST", "PUT"] = "POST"
    """The request's method."""
    headers: Annotated[dict[str, Secret], AfterValidator(_check_headers)] = Field(default_factory=dict)
    """Headers sent with the request."""
    timeout: Timeouts = Timeouts()
    """The longest wait within each phase of the request; one duration for all, or a table."""
    batch: Annotated[int, Field(ge=1, le=100_000)] | None = None
    """The most records that one request brings, as a JSON array; without, all of them come as lines, as they are."""


class WebhookSink:
    """Sends the request through the shared client. Redirects are not followed: they could lead the body elsewhere."""

    def __init__(self, options: WebhookOptions, resources: Resources) -> None:
        self._send = resources.send
        self._method = options.method
        self._url = options.url.reveal()
        self._headers = {name: value.reveal() for name, value in options.headers.items()}
        self._timeouts = options.timeout
        self._batch = options.batch
        self._taken = ("", 0)

    async def deliver(self, delivery: Delivery) -> None:
        """Send the result; a status from 200 to 299 says that it, or a batch of it, was taken.

        A further try goes on behind the last batch that was taken; after a restart it begins with the first one, whose
        Idempotency-Key is the same as before.

        Raises:
            SinkError: it was not; permanent unless the failure or the status is one that passes.
        """
        fetched = delivery.fetched
        if self._batch is None or not is_records(fetched.content_type):
            await self._post(self._headers_for(delivery, fetched.content_type), fetched.body)
            return
        taken = self._taken[1] if self._taken[0] == delivery.id else 0
        number = 0
        async for batch in _batches(fetched.body, self._batch):
            number += 1
            if number <= taken:
                continue
            headers = self._headers_for(delivery, "application/json")
            await self._post(headers | {"Idempotency-Key": f"{delivery.id}-{number}"}, Body.of(batch))
            self._taken = (delivery.id, number)
        self._taken = ("", 0)

    async def aclose(self) -> None:
        """Nothing is held: the client is shared."""

    async def _post(self, headers: dict[str, str], body: Body) -> None:
        outgoing = Outgoing(self._method, self._url, headers, body, self._timeouts)
        try:
            status = await self._send(outgoing)
        except FetchError as error:
            raise SinkError(f"{self._origin()}: {error}", permanent=not error.transient) from None
        if not 200 <= status < 300:
            raise self._refusal(status)

    def _headers_for(self, delivery: Delivery, declared: str) -> dict[str, str]:
        content_type = clean(declared).encode("ascii", "replace").decode()
        headers = dict(self._headers)
        if not any(name.lower() == "content-type" for name in headers):
            headers["Content-Type"] = content_type or "application/octet-stream"
        return headers | {
            "Idempotency-Key": delivery.id,
            "X-Fetchd-Job": delivery.job,
            "X-Fetchd-Run": delivery.run,
            "X-Fetchd-Slot": delivery.slot.isoformat(),
            "X-Fetchd-Delivery": delivery.id,
        }

    def _refusal(self, status: int) -> SinkError:
        if 300 <= status < 400:
            return SinkError(f"{self._origin()} answered {status}: redirects are not followed", permanent=True)
        passes = status in _TRANSIENT or 500 <= status < 600
        return SinkError(f"{self._origin()} answered {status}", permanent=not passes)

    def _origin(self) -> str:
        """Return where it goes, fit to be shown: the paths of webhooks are often the secret."""
        parts = urlsplit(self._url)
        return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"


async def _batches(body: Body, most: int) -> AsyncIterator[bytes]:
    """Yield the records of ``body`` as JSON arrays of at most so many, the same each time."""
    records: list[bytes] = []
    size = 0
    async for record in _records(body):
        records.append(record)
        size += len(record)
        if len(records) >= most or size >= BATCH_BYTES:
            yield b"[%b]" % b",".join(records)
            records, size = [], 0
    if records:
        yield b"[%b]" % b",".join(records)


async def _records(body: Body) -> AsyncIterator[bytes]:
    """Yield the lines of ``body`` that hold a record, without their ends."""
    pieces: list[bytes] = []
    async for chunk in body.chunks():
        for start in range(0, len(chunk), _AT_ONCE):
            *ended, rest = chunk[start : start + _AT_ONCE].split(b"\n")
            for line in ended:
                if record := b"".join([*pieces, line]).strip():
                    yield record
                pieces = []
            pieces.append(rest)
            await asyncio.sleep(0)  # a body in memory waits for nothing, and thousands of lines take their time
    if record := b"".join(pieces).strip():
        yield record
