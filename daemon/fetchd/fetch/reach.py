"""Whether a server can be connected to, and what its certificate says; no request is sent."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import httpx

from fetchd.fetch.exchange import EXTENSION, Exchange, Limits
from fetchd.fetch.network import socket_of
from fetchd.fetch.request import parsed
from fetchd.fetch.transport import Transport
from fetchd.run import Progress

if TYPE_CHECKING:
    from aiohttp.connector import Connection


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a URL leads to, without what is asked for there."""

    url: httpx.URL

    @classmethod
    def of(cls, url: str) -> Origin:
        """Return the origin of ``url``.

        Raises:
            NotSendableError: it is not one that the client can ask for.
        """
        return cls(parsed(url).copy_with(raw_path=b"/", username=None, password=None, fragment=None))

    def __str__(self) -> str:
        """Return it as host and port, or as a socket's path."""
        if path := socket_of(self.url.raw_host):
            return path
        host = self.url.raw_host.decode("ascii")
        port = self.url.port or {"http": 80, "https": 443}.get(self.url.scheme)
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


@dataclass(frozen=True, slots=True)
class Reached:
    """A connection that could be made. Each field is empty where it says nothing, or nobody can tell.

    ``address`` is the server's own or, where there is one, that of the ``proxy``; ``tls`` the version of it.
    ``expires`` is known of certificates that were checked.
    """

    address: str = ""
    proxy: str = ""
    tls: str = ""
    expires: datetime | None = None


async def reach(transport: Transport, origin: Origin, limits: Limits) -> Reached:
    """Connect as requests within ``limits`` do, and hang up.

    Raises:
        ExchangeError: there is no connection; the subclass says why.
    """
    look = _Look(limits, Progress())
    try:
        await transport.handle_async_request(httpx.Request("GET", origin.url, extensions={EXTENSION: look}))
    except _ConnectedError:
        assert look.found is not None
        return look.found
    raise AssertionError("a request was sent")


class _ConnectedError(Exception):
    """There is a connection, and no more was wanted. The connection layer lets it pass."""


class _Look(Exchange):
    """An exchange that ends with its connection."""

    __slots__ = ("found",)

    found: Reached | None

    def connected(self, connection: Connection) -> None:
        """Note what there is to know of the connection, and close it."""
        transport = connection.transport
        tls = transport.get_extra_info("ssl_object") if transport is not None else None
        peer = transport.get_extra_info("peername") if transport is not None else None
        self.found = Reached(
            peer[0] if isinstance(peer, tuple) else "",
            self.proxy,
            (tls.version() or "") if tls is not None else "",
            _expiry(tls) if tls is not None else None,
        )
        if transport is not None:
            transport.abort()
        connection.close()
        raise _ConnectedError


def _expiry(tls: ssl.SSLObject) -> datetime | None:
    """Return when the server's certificate expires; None for one that was not checked: OpenSSL does not read it."""
    until = (tls.getpeercert() or {}).get("notAfter")
    return datetime.fromtimestamp(ssl.cert_time_to_seconds(until), UTC) if isinstance(until, str) else None
