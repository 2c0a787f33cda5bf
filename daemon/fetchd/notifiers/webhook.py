"""Messages sent on over HTTP: as JSON, in the form of chat tools, or as plain text."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Final, Literal
from urllib.parse import urlsplit

from pydantic import Field

from fetchd.body import Body
from fetchd.errors import FetchError
from fetchd.job import Headers, Timeouts, Url
from fetchd.notifiers.message import Message, NotifierOptions, NotifyError
from fetchd.secret import Secret
from fetchd.sinks import Outgoing, Resources

_REFUSES_CONTENT: Final = frozenset({400, 413, 415, 422})
"""Statuses that speak of this message; all others may be about the moment, or be mended by the operator."""


class WebhookNotifierOptions(NotifierOptions):
    """A request for each message."""

    kind: Literal["webhook"]
    url: Url
    """Where to send it; hidden wherever it might be shown, for chat tools have no other password."""
    method: Literal["POST", "PUT"] = "POST"
    """The request's method."""
    headers: Headers = Field(default_factory=dict)
    """Headers sent with the request."""
    format: Literal["json", "slack", "text"] = "json"
    """The body: fields in JSON, the form that Slack, Mattermost and their like take, or a plain text."""

    def secrets(self) -> Iterable[Secret]:
        """Return the address."""
        return (self.url,)


class WebhookNotifier:
    """Sends the request through the shared client. Redirects are not followed."""

    def __init__(self, options: WebhookNotifierOptions, resources: Resources) -> None:
        self._send = resources.send
        self._method = options.method
        self._url = options.url.reveal()
        self._headers = {name: value.reveal() for name, value in options.headers.items()}
        self._content_type, self._write = _FORMATS[options.format]
        self._timeouts = Timeouts().shrunk_to(options.deadline)

    async def notify(self, message: Message) -> None:
        """Send the message; a status from 200 to 299 says that it was taken.

        Raises:
            NotifyError: it was not; permanent if the receiver refuses its content.
        """
        try:
            status = await self._send(
                Outgoing(
                    self._method, self._url, self._headers_for(message), Body.of(self._write(message)), self._timeouts
                )
            )
        except FetchError as error:
            raise NotifyError(f"{self._origin()}: {error}") from None
        if not 200 <= status < 300:
            hint = ": redirects are not followed" if 300 <= status < 400 else ""
            raise NotifyError(f"{self._origin()} answered {status}{hint}", permanent=status in _REFUSES_CONTENT)

    def _headers_for(self, message: Message) -> dict[str, str]:
        own = {name.lower() for name in self._headers}
        ours = {"Content-Type": self._content_type, "Idempotency-Key": message.id}
        return {**self._headers, **{name: value for name, value in ours.items() if name.lower() not in own}}

    def _origin(self) -> str:
        parts = urlsplit(self._url)
        return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"


def _slack(message: Message) -> bytes:
    title, text = (part.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;") for part in _parts(message))
    return json.dumps({"text": f"*{title}*\n{text}".rstrip()}).encode()


def _parts(message: Message) -> tuple[str, str]:
    return message.title, message.text


def _text(message: Message) -> bytes:
    return message.plain().encode("utf-8", "replace")


_FORMATS: Final[dict[str, tuple[str, Callable[[Message], bytes]]]] = {
    "json": ("application/json", Message.to_json),
    "slack": ("application/json", _slack),
    "text": ("text/plain; charset=utf-8", _text),
}
