"""Proxies: what a configuration or the environment says of them, and which one a URL is asked through."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import unquote

from yarl import URL

from fetchd.fetch.auth import basic
from fetchd.job import ENVIRONMENT

_IpNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network
_NOT_USABLE: Final = "is not the address of an http or https proxy"


@dataclass(frozen=True, slots=True)
class Proxy:
    """A proxy. Its ``authorization`` is for it alone."""

    url: URL
    authorization: str = field(default="", repr=False)

    @property
    def shown(self) -> str:
        """Return where it is, without user and password."""
        return f"{self.url.host_subcomponent}:{self.url.port}"

    @classmethod
    def of(cls, text: str) -> Proxy:
        """Return the proxy at the address ``text``; without a scheme, it speaks http.

        Raises:
            ValueError: it is no such address; the message does not repeat it.
        """
        try:
            url = URL(text if "://" in text else f"http://{text}")
            sound = url.scheme in {"http", "https"} and url.host and url.port
        except ValueError:
            sound = False
        if not sound:
            raise ValueError(_NOT_USABLE)
        user, password = unquote(url.raw_user or ""), unquote(url.raw_password or "")
        return cls(url.origin(), basic(user, password) if user or password else "")


@dataclass(frozen=True, slots=True)
class _Exempt:
    """One entry of NO_PROXY: all hosts, a network, or a name with all below it; perhaps at one port alone."""

    name: str = ""
    network: _IpNetwork | None = None
    port: int | None = None

    def covers(self, host: str, port: int | None) -> bool:
        """Return whether ``host`` is asked without a proxy."""
        if self.port not in {None, port}:
            return False
        if self.name == "*":
            return True
        try:
            address = ipaddress.ip_address(host)
        except ValueError:
            return bool(self.name) and f".{host}".endswith(f".{self.name}")
        return self.network is not None and address in self.network


@dataclass(frozen=True, slots=True)
class Proxies:
    """What the environment says. A variable in small letters wins; an empty one counts as none, as with curl(1).

    HTTP_PROXY in capitals does not count beside REQUEST_METHOD: there it is a header that some client has sent (CGI).
    """

    http: Proxy | None = None
    https: Proxy | None = None
    exempt: tuple[_Exempt, ...] = ()
    problems: tuple[tuple[str, str], ...] = ()
    """Schemes whose proxy cannot be used, each with what is wrong."""

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> Proxies:
        """Return what ``environment`` says."""
        found: dict[str, Proxy | None] = {}
        problems = []
        for scheme in ("http", "https"):
            name = next((name for name in _names(scheme, environment) if environment.get(name)), "")
            try:
                found[scheme] = Proxy.of(environment[name]) if name else None
            except ValueError as error:
                problems.append((scheme, f"${name} {error}"))
        text = environment.get("no_proxy") or environment.get("NO_PROXY") or ""
        exempt = tuple(_exempt(entry) for entry in text.replace(",", " ").lower().split())
        return cls(found.get("http"), found.get("https"), exempt, tuple(problems))

    def through(self, named: str, url: URL) -> Proxy | None:
        """Return the proxy that ``url`` is asked through where ``named`` is what the job says; None for none.

        Raises:
            ValueError: what is said of it cannot be used.
        """
        if not named:
            return None
        if named != ENVIRONMENT:
            return Proxy.of(named)
        host = (url.raw_host or "").rstrip(".").lower()
        if any(entry.covers(host, url.port) for entry in self.exempt):
            return None
        if problem := dict(self.problems).get(url.scheme):
            raise ValueError(problem)
        return self.https if url.scheme == "https" else self.http

    @property
    def none(self) -> bool:
        """Whether nothing is ever asked through a proxy."""
        everything = any(entry.name == "*" and entry.port is None for entry in self.exempt)
        return everything or not (self.http or self.https or self.problems)


NO_PROXIES: Final = Proxies()
"""Of an environment that names none."""


def _names(scheme: str, environment: Mapping[str, str]) -> Iterator[str]:
    yield f"{scheme}_proxy"
    if scheme != "http" or "REQUEST_METHOD" not in environment:
        yield f"{scheme}_proxy".upper()
    yield from ("all_proxy", "ALL_PROXY")


def _exempt(entry: str) -> _Exempt:
    """Return what an entry of NO_PROXY exempts: ``host``, ``.host``, ``host:port``, an address or a network."""
    name, port = _parts(entry)
    try:
        return _Exempt(network=ipaddress.ip_network(name, strict=False), port=port)
    except ValueError:
        return _Exempt(name=name.removeprefix("*.").strip("."), port=port)


def _parts(entry: str) -> tuple[str, int | None]:
    bare = entry
    if entry.startswith("["):
        inside, _, after = entry[1:].partition("]")
        bare, port = inside + after.partition(":")[0], after.partition(":")[2]
    elif entry.count(":") == 1:
        bare, _, port = entry.partition(":")
    else:
        port = ""
    return bare, int(port) if port.isascii() and port.isdigit() else None
