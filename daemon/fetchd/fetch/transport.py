"""httpx's transport over aiohttp's connections: each phase under its own wall."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Final

import aiohttp
import httpx
from aiohttp import hdrs
from aiohttp.abc import AbstractStreamWriter
from multidict import CIMultiDict
from yarl import URL

from fetchd import __version__
from fetchd.fetch import failures
from fetchd.fetch.connections import open_session
from fetchd.fetch.exchange import EXTENSION, Exchange, Phase
from fetchd.fetch.hosts import Hosts
from fetchd.fetch.incoming import Incoming
from fetchd.fetch.network import DIRECT, SOCKET_HOST, socket_of
from fetchd.fetch.pools import Pools
from fetchd.fetch.proxies import NO_PROXIES, Proxies, Proxy
from fetchd.fetch.resolver import Resolver
from fetchd.fetch.retry import IDEMPOTENT
from fetchd.fetch.tls import Contexts, UnusableTlsError

WRITE_PIECE: Final = 64 * 1024

_UNANSWERED: Final = frozenset({Phase.WRITE, Phase.HEADERS})
_NO_URL: Final = "what is asked for is not an http or https URL"


class Transport(httpx.AsyncBaseTransport):
    """Sends requests that carry an `Exchange` in their extensions.

    What a response's stream yields is decoded already and held to the exchange's limits, so that nothing above it can
    be made to buffer more than ``max_body``, redirect bodies and error pages included.
    """

    def __init__(self, *, contexts: Contexts, resolver: Resolver, hosts: Hosts, proxies: Proxies = NO_PROXIES) -> None:
        self._hosts = hosts
        self._proxies = proxies
        self._session = open_session(contexts.default, resolver)
        self._pools = Pools(contexts, resolver)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send ``request`` and return the response as soon as its headers have come.

        Raises:
            ExchangeError: there is no response; the subclass says why.
        """
        exchange: Exchange = request.extensions[EXTENSION]
        with ExitStack() as held:
            held.callback(exchange.leave)
            with exchange.walled(Phase.POOL) as wall:
                await self._hosts.start(self._hosts.name(request.url), exchange, held)
                exchange.enter(Phase.CONNECT)
                response = await self._send(request, exchange, await self._way(request, exchange, held))
                held.callback(response.close)
            if wall.cancelled_caught:
                raise failures.timed_out(exchange)
            body = Incoming(response, exchange, held.pop_all())
        headers = response.raw_headers if body.identity else _without_encoding(response.raw_headers)
        return httpx.Response(response.status, headers=headers, stream=body, request=request)

    async def aclose(self) -> None:
        """Close every connection."""
        await self._pools.aclose()
        await self._session.close()

    async def renew(self) -> None:
        """Read the files of jobs' own TLS anew with their next exchanges: certificates are replaced now and then."""
        await self._pools.renew()

    async def _way(self, request: httpx.Request, exchange: Exchange, held: ExitStack) -> _Way:
        """Return how ``request`` travels, by the exchange's network and its own URL."""
        network, path = exchange.limits.network, socket_of(request.url.raw_host)
        exchange.proxy, exchange.at_proxy = "", False
        url = _socket_url(request) if path else _url(request, exchange)
        if network is DIRECT and not path:
            return _Way(self._session, url)
        try:
            proxy = None if path else self._proxies.through(network.proxy.reveal(), url)
        except ValueError as error:
            raise failures.NotSendableError(f"the proxy cannot be used: {error}", exchange) from None
        if network.deny_private and (path or proxy):
            what = "a socket is of this machine" if path else "through a proxy nobody can tell which address is asked"
            raise failures.AddressRefusedError(f"{what}, and deny_private is set", exchange)
        exchange.proxy = proxy.shown if proxy else ""
        try:
            return _Way(await self._pools.take(network, path, held), url, proxy)
        except UnusableTlsError as error:
            raise failures.TlsError(f"tls.{error.key}: {error}", exchange) from None

    async def _send(self, request: httpx.Request, exchange: Exchange, way: _Way) -> aiohttp.ClientResponse:
        """Send ``request``, once more where the server has closed an idle connection just before it came."""
        try:
            return await self._send_once(request, exchange, way)
        except failures.ProtocolError:
            if not (exchange.reused and request.method in IDEMPOTENT and exchange.phase in _UNANSWERED):
                raise
        exchange.fresh = True
        exchange.enter(Phase.CONNECT)
        return await self._send_once(request, exchange, way)

    async def _send_once(self, request: httpx.Request, exchange: Exchange, way: _Way) -> aiohttp.ClientResponse:
        exchange.reused = False
        try:
            response = await way.session.request(
                request.method,
                way.url,
                headers=way.headers(request),
                data=_outgoing(request, exchange),
                allow_redirects=False,
                trace_request_ctx=exchange,
                server_hostname=request.extensions.get("sni_hostname"),
                proxy=way.proxy.url if way.proxy else None,
                proxy_headers=way.proxy_headers(),
            )
        except aiohttp.InvalidURL:
            raise failures.NotSendableError(_NO_URL, exchange) from None
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            # Without its cause: the connection layer's errors hold the URL and the headers, and pin its frames.
            raise failures.translated(error, exchange) from None
        except ValueError as error:
            raise failures.NotSendableError(f"the request cannot be sent: {error}", exchange) from None
        if response.status == 407 and way.proxy:
            response.close()
            raise failures.proxy_refused(response.status, exchange)
        return response


@dataclass(frozen=True, slots=True)
class _Way:
    """How one request travels. What authorises it at the proxy goes to the proxy alone."""

    session: aiohttp.ClientSession
    url: URL
    proxy: Proxy | None = None

    def headers(self, request: httpx.Request) -> CIMultiDict[str]:
        """Return the request's headers; a proxy that forwards it reads its own among them, and takes it out."""
        headers = _headers(request)
        if self.proxy and self.proxy.authorization and self.url.scheme == "http":
            headers[hdrs.PROXY_AUTHORIZATION] = self.proxy.authorization
        return headers

    def proxy_headers(self) -> dict[str, str] | None:
        """Return the headers of CONNECT, for a target that the proxy shall not hear."""
        if self.proxy is None:
            return None
        secret = self.proxy.authorization
        return {hdrs.USER_AGENT: f"fetchd/{__version__}", **({hdrs.PROXY_AUTHORIZATION: secret} if secret else {})}


class _Outgoing(aiohttp.Payload):
    """A request's body, in small pieces, each under the write timeout. It can be sent again on a fresh connection."""

    def __init__(self, stream: AsyncIterable[bytes], exchange: Exchange) -> None:
        super().__init__(stream)
        self._stream = stream
        self._exchange = exchange

    async def write_with_length(self, writer: AbstractStreamWriter, content_length: int | None) -> None:
        """Send the body, no more of it than has been declared: the rest would be taken for another request."""
        left = sys.maxsize if content_length is None else content_length
        async for data in self._stream:
            for start in range(0, len(data), WRITE_PIECE):
                self._enter(Phase.WRITE)
                piece = data[start : start + min(WRITE_PIECE, left)]
                left -= len(piece)
                await writer.write(piece)
        self._enter(Phase.HEADERS)

    async def write(self, writer: AbstractStreamWriter) -> None:
        """Send the whole body."""
        await self.write_with_length(writer, None)

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        """Refuse: nobody shall hold the whole body.

        Raises:
            TypeError: always.
        """
        raise TypeError("the body is a stream")

    def _enter(self, phase: Phase) -> None:
        """Tell the exchange, unless the server answers already, before it has taken everything."""
        if self._exchange.phase is not Phase.BODY:
            self._exchange.enter(phase)


def _outgoing(request: httpx.Request, exchange: Exchange) -> _Outgoing | None:
    if request.headers.get("content-length") == "0" or not (
        "content-length" in request.headers or "transfer-encoding" in request.headers
    ):
        return None
    assert isinstance(request.stream, AsyncIterable)
    return _Outgoing(request.stream, exchange)


def _url(request: httpx.Request, exchange: Exchange) -> URL:
    """Return the request's URL without the user: that has gone into a header."""
    try:
        url = URL(str(request.url), encoded=True)
        sound = url.scheme in {"http", "https"} and url.raw_host and url.port
    except ValueError:
        sound = False
    if not sound:
        raise failures.NotSendableError(_NO_URL, exchange)
    if url.raw_path == "/" and not url.raw_query_string:
        url = url.with_path("/")  # or a proxy would be asked for a URL without a path
    return url.with_user(None) if request.url.userinfo else url


def _socket_url(request: httpx.Request) -> URL:
    """Return what is asked of the server at a socket, which knows itself by no other name."""
    return URL(f"http://localhost{request.url.raw_path.decode('ascii')}", encoded=True)


def _headers(request: httpx.Request) -> CIMultiDict[str]:
    headers: CIMultiDict[str] = CIMultiDict()
    for name, value in request.headers.raw:
        if name.lower() != b"transfer-encoding":  # the connection layer frames the body itself
            headers.add(name.decode("ascii"), _text(value))
    if headers.get(hdrs.HOST, "").startswith(SOCKET_HOST):
        headers[hdrs.HOST] = "localhost"
    return headers


def _text(value: bytes) -> str:
    """Return a header's value as the connection layer takes it, which sends it in UTF-8."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")


def _without_encoding(headers: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """Return ``headers`` as they fit a body that has been decoded."""
    return [pair for pair in headers if pair[0].lower() not in {b"content-encoding", b"content-length"}]
