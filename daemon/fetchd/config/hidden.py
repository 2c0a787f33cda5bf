"""Which texts of a configuration must not be shown anywhere."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final
from urllib.parse import SplitResult, quote, unquote, unquote_plus, urlsplit

from pydantic import BaseModel

from fetchd.fetch.auth import OAuth2Auth, basic
from fetchd.fetch.placeholders import around
from fetchd.job import Auth
from fetchd.secret import INLINE, Secret, is_sensitive

_ADDRESS: Final = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)
_NAMED: Final = frozenset({"headers", "params", "form", "env"})
_IN_PATHS: Final = "/%:@!$&'()*+,;=~"
_LIKE_A_KEY: Final = 16
"""Characters of a part of a path that is taken for a key by itself: servers repeat such parts without the others."""


def hidden_texts(value: Any) -> Iterator[str]:
    """Yield the texts of all secrets within ``value``.

    What comes from elsewhere counts always. Of what is written in the file itself, headers, parameters, fields of a
    form and variables of a command count only if their name is that of a secret, and a body does not: were each "json"
    and "read" taken out of every line, the log would be hard to read. An address counts by its password and such
    parameters.
    """
    if isinstance(value, Secret):
        yield from _secret(value)
    elif isinstance(value, BaseModel):
        for key, item in value.__dict__.items():
            yield from _field(key, item)
        if isinstance(value, Auth):
            yield from (header.partition(" ")[2] for header in value.headers().values())
        if isinstance(value, OAuth2Auth) and (client := value.client()):
            yield client.partition(" ")[2]
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from hidden_texts(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from hidden_texts(item)


def _field(key: str, value: Any) -> Iterator[str]:
    if key in _NAMED:
        yield from _named(value or {})
    elif key == "json_body":
        yield from _json(value)
    elif key in {"url", "token_url", "proxy"} and _is_inline(value):
        yield from _in_address(value.reveal())
    elif key in {"body", "username", "client_id"} and _is_inline(value):
        return  # what is written there in the clear is none
    else:
        yield from hidden_texts(value)


def _is_inline(value: Any) -> bool:
    return isinstance(value, Secret) and value.origin == INLINE


def _secret(secret: Secret) -> Iterator[str]:
    text = secret.reveal()
    yield text
    if secret.origin != INLINE and (parts := _split(text)):
        yield from _words(parts, every=True)
        for piece in around(parts.path):  # what is between placeholders is what a filled path still shows
            if path := piece.rstrip("/"):
                yield from (path, unquote(path), quote(path, safe=_IN_PATHS))
            for part in filter(lambda part: len(part) >= _LIKE_A_KEY, piece.split("/")):
                yield from (part, unquote(part))


def _in_address(text: str) -> Iterator[str]:
    """Yield what is secret in a text that is no secret as a whole, but may be an address."""
    if parts := _split(text):
        yield from _words(parts, every=False)


def _split(text: str) -> SplitResult | None:
    """Return the parts of an address; None if ``text`` is none."""
    if not _ADDRESS.match(text):
        return None
    try:
        return urlsplit(text)
    except ValueError:
        return None


def _words(parts: SplitResult, *, every: bool) -> Iterator[str]:
    """Yield what may be secret in the user and the query of an address, ``every`` parameter or some."""
    pairs = (pair.partition("=") for pair in parts.query.split("&"))
    words = [value if sign else name for name, sign, value in pairs if every or not sign or is_sensitive(name)]
    user, password = parts.username or "", parts.password or ""
    words += [password or user, user if every else ""]
    for word in filter(None, words):
        yield word
        yield unquote_plus(word)
    if user or password:
        yield basic(unquote(user), unquote(password)).partition(" ")[2]


def _named(values: Mapping[str, Any]) -> Iterator[str]:
    for name, value in values.items():
        if not isinstance(value, Secret):
            continue
        if value.origin == INLINE and not is_sensitive(name):
            yield from _in_address(value.reveal())
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
