"""The guarded client: httpx as its users know it, with every redirect walked by hand and every body bounded."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import httpx

from fetchd.clock import SystemClock
from fetchd.fetch import failures
from fetchd.fetch.auth.query import KeyInQuery
from fetchd.fetch.connections import share_context
from fetchd.fetch.exchange import EXTENSION, Exchange, Limits
from fetchd.fetch.hosts import Hosts
from fetchd.fetch.network import SOCKET_HOST, carried
from fetchd.fetch.proxies import NO_PROXIES, Proxies
from fetchd.fetch.request import DEFAULT_HEADERS
from fetchd.fetch.resolver import Names, Resolver
from fetchd.fetch.tls import Contexts, tls_context
from fetchd.fetch.transport import Transport
from fetchd.job import Timeouts, url_problem
from fetchd.job.values import SOCKET_SCHEME
from fetchd.run import Progress

_NO_STREAM: Final = httpx.ByteStream(b"")
_KEPT_ACROSS_ORIGINS: Final = frozenset({b"accept", b"accept-encoding", b"accept-language", b"range", b"user-agent"})
_CHARSETS: Final = frozenset(
    {"ascii", "us-ascii", "utf-8", "utf8", "utf-16", "utf-16le", "utf-16be", "latin-1"}
    | {"shift_jis", "euc-jp", "euc-kr", "gb2312", "gbk", "gb18030", "big5", "koi8-r", "koi8-u"}
    | {f"iso-8859-{part}" for part in range(1, 17)}
    | {f"windows-{page}" for page in range(1250, 1259)}
)


class GuardedClient(httpx.AsyncClient):
    """An `httpx.AsyncClient` whose every request is held to limits, whatever method its user calls.

    Redirects are followed here, not by httpx, which reads the body of each of them whole and carries custom headers
    to foreign origins.
    """

    def __init__(self, transport: httpx.AsyncBaseTransport, limits: Limits, progress: Progress) -> None:
        super().__init__(
            transport=transport, trust_env=False, timeout=None, headers=DEFAULT_HEADERS, follow_redirects=True
        )
        del self.headers["connection"]
        self._limits = limits
        self._progress = progress
        self._afterwards = progress.phase

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
        follow = self.follow_redirects if follow_redirects is httpx.USE_CLIENT_DEFAULT else bool(follow_redirects)
        exchange = self._exchange(request)
        if request.url.scheme == SOCKET_SCHEME:
            request.url = httpx.URL(carried(str(request.url)))
        try:
            response = await self.walk(request, exchange, auth=auth, follow=follow)
            _distrust_charset(response)
            if not stream:
                try:
                    await response.aread()
                finally:
                    await let_go(response)
        except failures.ExchangeError:
            exchange.end()
            raise
        return response

    async def walk(
        self, request: httpx.Request, exchange: Exchange, *, auth: Any = None, follow: bool = True
    ) -> httpx.Response:
        """Send ``request`` within ``exchange``, follow its redirects, and return the last response, yet to be read.

        Raises:
            ExchangeError: there is no response.
        """
        limit = exchange.limits.redirects
        for _ in range(limit + 1):
            request.extensions[EXTENSION] = exchange
            response = await self._step(request, exchange, auth)
            following = response.next_request
            if following is None or not follow:
                return response
            await let_go(response)
            if not _same_origin(request.url, following.url):
                if isinstance(auth, KeyInQuery):
                    following.url = auth.without(following.url)  # many redirects repeat the query
                auth = None
            elif "cookie" in request.headers and not self.cookies:
                following.headers["Cookie"] = request.headers["Cookie"]  # httpx keeps those of its jar alone
            request = _followed(request, following, exchange)
        raise failures.TooManyRedirectsError(f"more than {limit} redirects", exchange)

    async def _step(self, request: httpx.Request, exchange: Exchange, auth: Any) -> httpx.Response:
        try:
            return await super().send(request, stream=True, auth=auth, follow_redirects=False)
        except failures.ExchangeError:
            raise
        except (httpx.RemoteProtocolError, httpx.InvalidURL):
            raise failures.RedirectRefusedError("the redirect leads to what is not a URL", exchange) from None

    def _exchange(self, request: httpx.Request) -> Exchange:
        """Return a new exchange for ``request``: its own timeouts count where they are shorter."""
        theirs = request.extensions.get("timeout") or {}
        timeouts = {phase: min(seconds, theirs.get(phase) or seconds) for phase, seconds in self._limits.timeouts}
        limits = replace(self._limits, timeouts=Timeouts.model_construct(**timeouts))
        return Exchange(limits, self._progress, self._afterwards)


async def let_go(response: httpx.Response) -> None:
    """Close ``response``.

    httpx keeps it in a cycle with its stream, and so its body, until the garbage collector comes.
    """
    await response.aclose()
    response.stream = _NO_STREAM


class _NoCookies(httpx.Cookies):
    """Keeps nothing: cookies would travel from job to job, and grow for ever."""

    def extract_cookies(self, response: httpx.Response) -> None:
        """Leave the response's cookies where they are."""


class SharedClient(GuardedClient):
    """The one client of all jobs: it remembers nothing from one request to the next, each of which has its exchange."""

    def __init__(self, transport: httpx.AsyncBaseTransport) -> None:
        super().__init__(transport, Limits(Timeouts(), 0, 0, False), Progress())

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
    """What the client is opened with: how names are resolved, CAs trusted besides the system's, what hosts are spared.

    ``proxies`` are those of the environment, for jobs that ask for them.
    """

    names: Names = field(default_factory=Names)
    ca_file: Path | None = None
    hosts: Hosts = field(default_factory=lambda: Hosts({}, SystemClock()))
    proxies: Proxies = NO_PROXIES


@contextlib.asynccontextmanager
async def open_transport(options: ClientOptions) -> AsyncIterator[Transport]:
    """Open the connections that everything shares."""
    resolver = Resolver(options.names)
    contexts = Contexts(tls_context(options.ca_file), options.ca_file)
    share_context(contexts.default)
    transport = Transport(contexts=contexts, resolver=resolver, hosts=options.hosts, proxies=options.proxies)
    try:
        yield transport
    finally:
        await transport.aclose()
        await resolver.close()


def _same_origin(one: httpx.URL, other: httpx.URL) -> bool:
    return (one.scheme, one.host, _port(one)) == (other.scheme, other.host, _port(other))


def _is_socket(url: httpx.URL) -> bool:
    return url.scheme == SOCKET_SCHEME or url.raw_host.startswith(SOCKET_HOST.encode())


def _port(url: httpx.URL) -> int | None:
    return url.port or {"http": 80, "https": 443}.get(url.scheme)


def _followed(request: httpx.Request, following: httpx.Request, exchange: Exchange) -> httpx.Request:
    """Return ``following`` as it may be sent.

    A foreign origin gets none of the job's own headers: httpx drops Authorization alone, but an X-Api-Key is a
    secret as well.
    """
    if _is_socket(request.url) or _is_socket(following.url):
        if _same_origin(request.url, following.url):
            return following
        message = "the redirect leads from a socket to a host, or from a host to a socket of this machine"
        raise failures.RedirectRefusedError(message, exchange)
    if problem := url_problem(str(following.url)):
        raise failures.RedirectRefusedError(f"the redirect cannot be followed: {problem}", exchange)
    downgraded = (request.url.scheme, following.url.scheme) == ("https", "http")
    if downgraded and not exchange.limits.allow_insecure_redirects:
        message = "the redirect leads from https to http; allow_insecure_redirects would follow it"
        raise failures.RedirectRefusedError(message, exchange)
    if _same_origin(request.url, following.url):
        return following
    if following.headers.get("content-length", "0") != "0" or "transfer-encoding" in following.headers:
        host = following.url.host
        message = f"the redirect leads to another origin, {host}, which shall not get the request's body"
        raise failures.RedirectRefusedError(message, exchange)
    kept = [(name, value) for name, value in following.headers.raw if name.lower() in _KEPT_ACROSS_ORIGINS]
    following.headers = httpx.Headers([(b"Host", following.url.netloc), *kept])
    following.extensions.pop("sni_hostname", None)
    return following


def _distrust_charset(response: httpx.Response) -> None:
    """Let the user's ``response.text`` obey a declared charset only where Python decodes it in linear time."""
    declared = response.charset_encoding
    if declared is not None and declared.lower() not in _CHARSETS:
        response.encoding = "utf-8"
