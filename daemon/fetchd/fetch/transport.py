"""httpx's transport over aiohttp's connections: each phase under its own wall."""

from __future__ import annotations

import ssl
import sys
from collections.abc import AsyncIterable, Iterable, Mapping
from contextlib import ExitStack
from typing import Final

import aiohttp
import anyio
import httpx
from aiohttp.abc import AbstractStreamWriter
from multidict import CIMultiDict
from yarl import URL

from fetchd.fetch import failures
from fetchd.fetch.connections import open_session
from fetchd.fetch.exchange import EXTENSION, Exchange, Phase
from fetchd.fetch.incoming import Incoming
from fetchd.fetch.resolver import Resolver

WRITE_PIECE: Final = 64 * 1024

_NO_URL: Final = "what is asked for is not an http or https URL"


class Transport(httpx.AsyncBaseTransport):
    """Sends requests that carry an `Exchange` in their extensions.

    What a response's stream yields is decoded already and held to the exchange's limits, so that nothing above it can
    be made to buffer more than ``max_body``, redirect bodies and error pages included.
    """

    def __init__(self, *, tls: ssl.SSLContext, resolver: Resolver, max_concurrent: Mapping[str, int]) -> None:
        self._max_concurrent = {_ascii(host): limit for host, limit in max_concurrent.items()}
        self._places: dict[str, anyio.Semaphore] = {}
        self._session = open_session(tls, resolver)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send ``request`` and return the response as soon as its headers have come.

        Raises:
            ExchangeError: there is no response; the subclass says why.
        """
        exchange: Exchange = request.extensions[EXTENSION]
        with ExitStack() as held:
            held.callback(exchange.leave)
            with exchange.walled(Phase.POOL) as wall:
                await self._place(request.url.raw_host.decode("ascii"), held)
                exchange.enter(Phase.CONNECT)
                response = await self._send(request, exchange)
                held.callback(response.close)
            if wall.cancelled_caught:
                raise failures.timed_out(exchange)
            body = Incoming(response, exchange, held.pop_all())
        headers = response.raw_headers if body.identity else _without_encoding(response.raw_headers)
        return httpx.Response(response.status, headers=headers, stream=body, request=request)

    async def aclose(self) -> None:
        """Close every connection."""
        await self._session.close()

    async def _place(self, host: str, held: ExitStack) -> None:
        """Wait for a place among the host's exchanges; it is given back when ``held`` closes."""
        limit = self._max_concurrent.get(host)
        if limit:
            places = self._places.setdefault(host, anyio.Semaphore(limit))
            await places.acquire()
            held.callback(places.release)

    async def _send(self, request: httpx.Request, exchange: Exchange) -> aiohttp.ClientResponse:
        try:
            return await self._session.request(
                request.method,
                _url(request, exchange),
                headers=_headers(request),
                data=_outgoing(request, exchange),
                allow_redirects=False,
                trace_request_ctx=exchange,
                server_hostname=request.extensions.get("sni_hostname"),
            )
        except aiohttp.InvalidURL:
            raise failures.NotSendableError(_NO_URL, exchange) from None
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            # Without its cause: the connection layer's errors hold the URL and the headers, and pin its frames.
            raise failures.translated(error, exchange) from None
        except ValueError as error:
            raise failures.NotSendableError(f"the request cannot be sent: {error}", exchange) from None


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
    return url.with_user(None) if request.url.userinfo else url


def _ascii(host: str) -> str:
    """Return ``host`` as requests carry it; international names may be written either way."""
    try:
        return httpx.URL(scheme="http", host=host).raw_host.decode("ascii")
    except httpx.InvalidURL:
        return host  # no request can name it


def _headers(request: httpx.Request) -> CIMultiDict[str]:
    headers: CIMultiDict[str] = CIMultiDict()
    for name, value in request.headers.raw:
        if name.lower() != b"transfer-encoding":  # the connection layer frames the body itself
            headers.add(name.decode("ascii"), _text(value))
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
