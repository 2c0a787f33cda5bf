"""The texts that jobs are made of: URLs, headers, functions; and what every value of a configuration is."""

from __future__ import annotations

import re
from typing import Annotated, Any, Final
from urllib.parse import urlsplit, urlunsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict

from fetchd.secret import INLINE, Secret

JOB_NAME: Final = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"
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


def public_url(url: str) -> str:
    """Return ``url`` without what may be secret: the user, the query and the fragment."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit((parts.scheme, host, parts.path, "", ""))
