"""The guarded client: httpx as its users know it, with every redirect walked by hand and every body bounded."""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import httpx

from fetchd.fetch import failures
from fetchd.fetch.exchange import EXTENSION, Exchange, Limits
from fetchd.fetch.request import DEFAULT_HEADERS
from fetchd.fetch.resolver import Names, Resolver
from fetchd.fetch.transport import Transport
from fetchd.job import Timeouts
from fetchd.run import Progress

_KEPT_ACROSS_ORIGINS: Final = frozenset({"accept", "accept-language", "user-agent", "accept-encoding", "range"})


class GuardedClient(httpx.AsyncClient):
    """An `httpx.AsyncClient` whose every request is held to limits, whatever method its user calls.

    Redirects are followed here, not by httpx, which reads the body of each of them whole and carries custom headers
    to foreign origins.
    """

    def __init__(self, transport: httpx.AsyncBaseTransport, limits: Limits, progress: Progress, **options: Any) -> None:
        super().__init__(transport=transport, trust_env=False, timeout=None, headers=DEFAULT_HEADERS, **options)
        del self.headers["connection"]
        self._limits = limits
        self._progress = progress

    async def send(
        self,
        request: httpx.Request,
        *,
        stream: bool = False,
        auth: Any = httpx.USE_CLIENT_DEFAULT,
        follow_redirects: Any = httpx.USE_CLIENT_DEFAULT,
    ) -> httpx.Response:
        """Send ``request``, follow its redirects, and return the last response.

        Raises:
            ExchangeError: there is no response; it is also what httpx documents for the case.
        """
        exchange = request.extensions.get(EXTENSION)
        if exchange is None:
            exchange = Exchange(self._limits_of(request), self._progress)
        response = await self._walk(request, exchange, auth, follow_redirects is not False)
        if not stream:
            try:
                await response.aread()
            finally:
                await response.aclose()
            # httpx keeps the response in a cycle with its stream, and so its body until the garbage collector comes.
            response.stream = httpx.ByteStream(b"")
        return response

    async def _walk(self, request: httpx.Request, exchange: Exchange, auth: Any, follow: bool) -> httpx.Response:
        limit = exchange.limits.redirects
        for _ in range(limit + 1):
            request.extensions[EXTENSION] = exchange
            response = await super().send(request, stream=True, auth=auth, follow_redirects=False)
            following = response.next_request
            if following is None or not follow:
                return response
            await response.aclose()
            request = _followed(request, following, exchange)
            if auth is not httpx.USE_CLIENT_DEFAULT and not _same_origin(response.url, request.url):
                auth = None
            exchange = Exchange(exchange.limits, exchange.progress)
        raise failures.TooManyRedirectsError(f"more than {limit} redirects", exchange)

    def _limits_of(self, request: httpx.Request) -> Limits:
        """Return the limits for a request that brings no exchange: its own timeouts count where they are shorter."""
        ours = self._limits.timeouts
        theirs = request.extensions.get("timeout") or {}
        timeouts = {phase: min(seconds, theirs.get(phase) or seconds) for phase, seconds in ours}
        limits = self._limits
        return Limits(
            Timeouts.model_construct(**timeouts),
            limits.max_body,
            limits.redirects,
            limits.allow_insecure_redirects,
        )


class _NoCookies(httpx.Cookies):
    """Keeps nothing: cookies would travel from job to job, and grow for ever."""

    def extract_cookies(self, response: httpx.Response) -> None:
        """Leave the response's cookies where they are."""


class SharedClient(GuardedClient):
    """The one client of all jobs: it remembers nothing from one request to the next."""

    @property
    def cookies(self) -> httpx.Cookies:
        """No cookies."""
        return self._none

    @cookies.setter
    def cookies(self, cookies: Any) -> None:
        raise AttributeError("the shared client keeps no cookies")

    _none: Final = _NoCookies()


@dataclass(frozen=True, slots=True)
class ClientOptions:
    """What the client is opened with: how names are resolved, CAs trusted besides the system's, places per host."""

    names: Names = field(default_factory=Names)
    ca_file: Path | None = None
    max_concurrent: Mapping[str, int] = field(default_factory=dict)


def tls_context(ca_file: Path | None = None) -> ssl.SSLContext:
    """Return the one TLS context that all connections share: building one takes milliseconds and hundreds of KiB.

    Raises:
        OSError: ``ca_file`` cannot be read, or holds no certificate.
    """
    context = ssl.create_default_context()
    context.set_alpn_protocols(["http/1.1"])
    if ca_file is not None:
        context.load_verify_locations(ca_file)
    return context


@contextlib.asynccontextmanager
async def open_transport(options: ClientOptions) -> AsyncIterator[Transport]:
    """Open the connections that everything shares."""
    resolver = Resolver(options.names)
    transport = Transport(tls=tls_context(options.ca_file), resolver=resolver, max_concurrent=options.max_concurrent)
    try:
        yield transport
    finally:
        await transport.aclose()
        await resolver.close()


def _same_origin(one: httpx.URL, other: httpx.URL) -> bool:
    return (one.scheme, one.host, _port(one)) == (other.scheme, other.host, _port(other))


def _port(url: httpx.URL) -> int | None:
    return url.port or {"http": 80, "https": 443}.get(url.scheme)


def _followed(request: httpx.Request, following: httpx.Request, exchange: Exchange) -> httpx.Request:
    """Return ``following`` as it may be sent.

    A foreign origin gets none of the job's own headers: httpx drops Authorization alone, but an X-Api-Key is a
    secret as well.
    """
    if following.url.scheme not in {"http", "https"} or not following.url.host:
        raise failures.RedirectRefusedError(f"the redirect leads to {following.url.scheme or 'no address'}", exchange)
    if (request.url.scheme, following.url.scheme) == (
        "https",
        "http",
    ) and not exchange.limits.allow_insecure_redirects:
        message = "the redirect leads from https to http; allow_insecure_redirects would follow it"
        raise failures.RedirectRefusedError(message, exchange)
    if not _same_origin(request.url, following.url):
        if following.headers.get("content-length", "0") != "0" or "transfer-encoding" in following.headers:
            message = (
                f"the redirect leads to another origin, {following.url.host}, which shall not get the request's body"
            )
            raise failures.RedirectRefusedError(message, exchange)
        kept = [(name, value) for name, value in following.headers.items() if name in _KEPT_ACROSS_ORIGINS]
        following.headers = httpx.Headers([("Host", following.url.netloc.decode("ascii")), *kept])
    return following
