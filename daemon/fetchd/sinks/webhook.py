"""Results sent on over HTTP."""

from __future__ import annotations

import re
from typing import Annotated, Final, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field

from fetchd.errors import FetchError, SinkError
from fetchd.job import SinkOptions, Timeouts
from fetchd.run import Delivery
from fetchd.secret import Secret
from fetchd.sinks import Outgoing, Resources
from fetchd.sinks.content import clean

_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_OURS: Final = frozenset({"connection", "content-length", "host", "idempotency-key", "transfer-encoding"})
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
    """A request for each result, with the body as it came."""

    kind: Literal["webhook"]
    url: Annotated[Secret, AfterValidator(_check_url)]
    """Where to send it."""
    method: Literal["POST", "PUT"] = "POST"
    """The request's method."""
    headers: Annotated[dict[str, Secret], AfterValidator(_check_headers)] = Field(default_factory=dict)
    """Headers sent with the request."""
    timeout: Timeouts = Timeouts()
    """The longest wait within each phase of the request; one duration for all, or a table."""


class WebhookSink:
    """Sends the request through the shared client. Redirects are not followed: they could lead the body elsewhere."""

    def __init__(self, options: WebhookOptions, resources: Resources) -> None:
        self._send = resources.send
        self._method = options.method
        self._url = options.url.reveal()
        self._headers = {name: value.reveal() for name, value in options.headers.items()}
        self._timeouts = options.timeout

    async def deliver(self, delivery: Delivery) -> None:
        """Send the result; a status from 200 to 299 says that it was taken.

        Raises:
            SinkError: it was not; permanent unless the failure or the status is one that passes.
        """
        outgoing = Outgoing(
            method=self._method,
            url=self._url,
            headers=self._headers_for(delivery),
            body=delivery.fetched.body,
            timeouts=self._timeouts,
        )
        try:
            status = await self._send(outgoing)
        except FetchError as error:
            raise SinkError(f"{self._origin()}: {error}", permanent=not error.transient) from None
        if not 200 <= status < 300:
            raise self._refusal(status)

    async def aclose(self) -> None:
        """Nothing is held: the client is shared."""

    def _headers_for(self, delivery: Delivery) -> dict[str, str]:
        content_type = clean(delivery.fetched.content_type).encode("ascii", "replace").decode()
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
