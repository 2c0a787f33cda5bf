"""The texts that jobs are made of: URLs, headers, functions; and what every value of a configuration is."""

from __future__ import annotations

import re
from typing import Annotated, Any, Final
from urllib.parse import quote, unquote, unquote_to_bytes, urlsplit, urlunsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict

from fetchd.secret import INLINE, Secret

JOB_NAME: Final = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"
LONGEST_DEADLINE: Final = 86400.0
SOCKET_SCHEME: Final = "http+unix"
"""What a URL begins with whose host is the percent-encoded path of a socket."""
LONGEST_SOCKET_PATH: Final = 107
"""Bytes; the kernel takes no more (unix(7))."""

_FUNCTION: Final = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*:[A-Za-z_]\w*", re.ASCII)
_HEADER_NAME: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_NOT_IN_HEADERS: Final = re.compile(r"[^\t\x20-\x7e\x80-\xff]")
_NOT_IN_URLS: Final = re.compile(r"[\x00-\x20\x7f]")
_BYTE: Final = r"(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)"
_IPV4: Final = re.compile(rf"{_BYTE}(?:\.{_BYTE}){{3}}\.?", re.ASCII)
_AN_IPV4: Final = re.compile(r"(?:(?:0x[0-9a-f]+|\d+)(?:\.|$)){1,4}", re.IGNORECASE | re.ASCII)
"""What inet_aton(3) takes for an IPv4 address, whatever its form."""
_SET_BY_CLIENT: Final = frozenset({"connection", "content-length", "expect", "transfer-encoding"})


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
        if parts.scheme == SOCKET_SCHEME:
            return _socket_problem(parts.netloc.rpartition("@")[2])
        host, port = parts.hostname, parts.port
        (host or "").encode("idna")
    except ValueError:
        return "not a URL: its host or its port is not valid"
    if parts.scheme not in {"http", "https"}:
        tls = f"there is no TLS over a socket: write {SOCKET_SCHEME}" if parts.scheme == "https+unix" else ""
        return tls or 'a URL begins with "http://" or "https://"'
    if (host or "").lower().startswith("%2f"):
        return f"not a URL: a socket's path goes with {SOCKET_SCHEME} only"
    if not host or port == 0:
        return "not a URL: its host is missing" if not host else "not a URL: there is no port 0"
    if _AN_IPV4.fullmatch(host) and not _IPV4.fullmatch(host):
        return "not a URL: write an IPv4 address as four decimal numbers"
    return None


def _socket_problem(host: str) -> str | None:
    path = unquote_to_bytes(host)
    if not path.startswith(b"/"):
        return f'write the socket\'s path percent-encoded, such as "{SOCKET_SCHEME}://%2Frun%2Fapp.sock/path"'
    if ":" in host:
        return "not a URL: a socket has no port"
    if b"\0" in path or len(path) > LONGEST_SOCKET_PATH:
        return f"not a socket's path: it has a NUL, or more than {LONGEST_SOCKET_PATH} bytes"
    return None


def _to_tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


Function = Annotated[str, AfterValidator(_function)]
"""A function in an importable module, as ``package.module:function``."""

Url = Annotated[Secret, AfterValidator(_http_url)]
"""An http or https URL, or http+unix for a socket; it may hold secrets."""

HeaderName = Annotated[str, AfterValidator(_header_name)]
"""A header's name, other than of those that frame a message."""

Headers = Annotated[dict[HeaderName, Annotated[Secret, AfterValidator(_header_value)]], AfterValidator(_each_once)]
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
    scheme, host = parts.scheme, parts.netloc.rpartition("@")[2]
    if host[:3].lower() == "%2f":  # a socket's path, as it was written or as the HTTP client carries it
        scheme, host = SOCKET_SCHEME, quote(unquote(host), safe="")
    return urlunsplit((scheme, host, parts.path, "", ""))
