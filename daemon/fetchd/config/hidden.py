"""Which texts of a configuration must not be shown anywhere."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final
from urllib.parse import quote, unquote_plus, urlsplit

from pydantic import BaseModel

from fetchd.secret import INLINE, Secret, is_sensitive

_WEB: Final = ("http://", "https://")


def hidden_texts(value: Any) -> Iterator[str]:
    """Yield the texts of all secrets within ``value``.

    Of those written in the file itself, headers and parameters count only if their name is that of a secret: were each
    "json" and "true" of a query taken out of every line, the log would be hard to read. An address counts by its
    password and such parameters.
    """
    if isinstance(value, Secret):
        yield from _secret(value)
    elif isinstance(value, BaseModel):
        for key, item in value.__dict__.items():
            yield from _field(key, item)
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from hidden_texts(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from hidden_texts(item)


def _field(key: str, value: Any) -> Iterator[str]:
    if key in {"headers", "params"}:
        yield from _named(value)
    elif key == "json_body":
        yield from _json(value)
    elif key == "username" and value.origin == INLINE:
        return  # a name written in the clear is none
    else:
        yield from hidden_texts(value)


def _secret(secret: Secret) -> Iterator[str]:
    text = secret.reveal()
    words = _words_of_address(text, every=secret.origin != INLINE)
    if words is None or secret.origin != INLINE:
        yield text
    if words is None:
        # It may come back as part of an address.
        yield quote(text, safe="")
    for word in words or ():
        yield word
        yield unquote_plus(word)


def _words_of_address(text: str, *, every: bool) -> list[str] | None:
    """Return what may be secret in an address, ``every`` parameter or some; None if ``text`` is no address."""
    if not text[:8].lower().startswith(_WEB):
        return None
    try:
        parts = urlsplit(text)
    except ValueError:
        return None
    pairs = (pair.partition("=") for pair in parts.query.split("&"))
    words = [value if sign else name for name, sign, value in pairs if every or not sign or is_sensitive(name)]
    words.append(parts.password or parts.username or "")
    return [word for word in words if word]


def _named(values: Mapping[str, Any]) -> Iterator[str]:
    for name, value in values.items():
        if not isinstance(value, Secret) or (value.origin == INLINE and not is_sensitive(name)):
            continue
        yield from _secret(value)
        if name.lower() in {"authorization", "proxy-authorization"}:
            yield value.reveal().partition(" ")[2]


def _json(value: Any, *, sensitive: bool = False) -> Iterator[str]:
    """Yield the texts in a JSON body that stand under a name like that of a secret."""
    if isinstance(value, str) and sensitive:
        yield value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _json(item, sensitive=sensitive or is_sensitive(key))
    elif isinstance(value, list):
        for item in value:
            yield from _json(item, sensitive=sensitive)
