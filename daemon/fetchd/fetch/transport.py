"""httpx's transport over aiohttp's connections: each phase under its own wall, each body decoded and counted."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator, Mapping
from contextlib import ExitStack
from types import SimpleNamespace
from typing import Any, Final

import aiohttp
import anyio
import httpx
from aiohttp import hdrs
from multidict import CIMultiDict
from yarl import URL

from fetchd.fetch import failures
from fetchd.fetch.decode import Decoder, NotDecodableError
from fetchd.fetch.exchange import EXTENSION, Exchange, Phase
from fetchd.fetch.resolver import Resolver

WRITE_PIECE: Final = 64 * 1024
TURN: Final = 256 * 1024
"""Bytes decoded before the loop gets a turn: a bomb must not keep the others waiting."""

_FIELD_AT_MOST: Final = 32 * 1024
_NO_TIMEOUT: Final = aiohttp.ClientTimeout(total=None, connect=None, sock_connect=None, sock_read=None)
_OURS_ALONE: Final = (hdrs.ACCEPT, hdrs.ACCEPT_ENCODING, hdrs.USER_AGENT, hdrs.CONTENT_TYPE)


class Transport(httpx.AsyncBaseTransport):
    """Sends requests that carry an `Exchange` in their extensions.

    What a response's stream yields is decoded already and held to the exchange's limits, so that nothing above it can
    be made to buffer more than ``max_body``, redirect bodies and error pages included.
    """

    def __init__(self, *, tls: ssl.SSLContext, resolver: Resolver, max_concurrent: Mapping[str, int]) -> None:
        self._max_concurrent = max_concurrent
        self._places: dict[str, anyio.Semaphore] = {}
        connector = aiohttp.TCPConnector(
            ssl=tls,
            limit=0,
            resolver=resolver,
            use_dns_cache=False,
            keepalive_timeout=15,
            enable_cleanup_closed=False,
        )
        self._session = aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=_NO_TIMEOUT,
            auto_decompress=False,
            skip_auto_headers=_OURS_ALONE,
            trust_env=False,
            raise_for_status=False,
            requote_redirect_url=False,
            max_field_size=_FIELD_AT_MOST,
            max_headers=256,
            trace_configs=[_phases()],
        )

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send ``request`` and return the response as soon as its headers have come.

        Raises:
            ExchangeError: there is no response; the subclass says why.
        """
        exchange: Exchange = request.extensions[EXTENSION]
        with ExitStack() as held:
            with exchange.walled(Phase.POOL) as wall:
                await self._place(request.url.host, held)
                exchange.enter(Phase.CONNECT)
                response = await self._send(request, exchange)
                held.callback(response.close)
            if wall.cancelled_caught:
                raise failures.timed_out(exchange)
            body = _Body(response, exchange)
            body.held = held.pop_all()
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
                URL(str(request.url), encoded=True),
                headers=_headers(request),
                data=_outgoing(request, exchange),
                allow_redirects=False,
                trace_request_ctx=exchange,
                server_hostname=request.extensions.get("sni_hostname"),
            )
        except (TimeoutError, aiohttp.ClientError, OSError, ValueError) as error:
            raise failures.translated(error, exchange) from error


class _Body(httpx.AsyncByteStream):
    """A response's body as it comes: read under the read timeout, decoded, counted, cut off at the limit."""

    def __init__(self, response: aiohttp.ClientResponse, exchange: Exchange) -> None:
        self._response = response
        self._exchange = exchange
        self.held = ExitStack()
        encoding = ", ".join(response.headers.getall(hdrs.CONTENT_ENCODING, ()))
        try:
            self._decoder = Decoder("" if response.method == hdrs.METH_HEAD else encoding)
        except NotDecodableError as error:
            raise failures.DecodeError(str(error), exchange) from None

    @property
    def identity(self) -> bool:
        """Whether what is yielded is what the server sent."""
        return self._decoder.identity

    async def __aiter__(self) -> AsyncIterator[bytes]:
        exchange, limit = self._exchange, self._exchange.limits.max_body
        exchange.enter(Phase.BODY)
        self._refuse_declared(limit)
        raw = decoded = since_turn = 0
        # Compressed data that does not shrink is a little longer than what it decodes to (RFC 1951, 3.2.4).
        raw_limit = limit + limit // 100 + 1024
        while chunk := await self._read():
            raw += len(chunk)
            for piece in self._decoded(chunk):
                decoded += len(piece)
                since_turn += len(piece)
                if decoded > limit:
                    raise failures.TooLargeError(f"the body is larger than max_body, {limit} bytes", exchange)
                exchange.progress.bytes = decoded
                yield piece
                if since_turn >= TURN:
                    since_turn = 0
                    await asyncio.sleep(0)
            if raw > raw_limit:
                raise failures.TooLargeError(f"the encoded body is larger than max_body, {limit} bytes", exchange)
        self._finish_decoding()

    async def aclose(self) -> None:
        """Close the connection, unless the body was read to its end: then it is in the pool again already."""
        self._exchange.leave()
        self.held.close()

    def _refuse_declared(self, limit: int) -> None:
        """Refuse at once what says itself that it is too large."""
        declared = self._response.content_length
        if declared is not None and declared > limit and self.identity and self._response.method != hdrs.METH_HEAD:
            message = f"the response declares {declared} bytes, max_body is {limit}"
            raise failures.TooLargeError(message, self._exchange)

    async def _read(self) -> bytes:
        content = self._response.content
        try:
            if content.is_eof():  # all of it is here: reading cannot wait
                return await content.readany()
            with self._exchange.walled(Phase.BODY) as wall:
                chunk = await content.readany()
        except (TimeoutError, aiohttp.ClientError, OSError, ValueError) as error:
            raise failures.translated(error, self._exchange) from error
        if wall.cancelled_caught:
            raise failures.timed_out(self._exchange)
        return chunk

    def _decoded(self, chunk: bytes) -> Iterator[bytes]:
        try:
            yield from self._decoder.feed(chunk)
        except NotDecodableError as error:
            raise failures.DecodeError(str(error), self._exchange) from None

    def _finish_decoding(self) -> None:
        try:
            self._decoder.finish()
        except NotDecodableError as error:
            raise failures.DecodeError(str(error), self._exchange) from None


class _Outgoing(AsyncIterable[bytes]):
    """A request's body in small pieces, each under the write timeout. It can be sent again on a fresh connection."""

    def __init__(self, stream: AsyncIterable[bytes], exchange: Exchange) -> None:
        self._stream = stream
        self._exchange = exchange

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for data in self._stream:
            for start in range(0, len(data), WRITE_PIECE):
                self._enter(Phase.WRITE)
                yield data[start : start + WRITE_PIECE]
        self._enter(Phase.HEADERS)

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


def _headers(request: httpx.Request) -> CIMultiDict[str]:
    headers: CIMultiDict[str] = CIMultiDict()
    for name, value in request.headers.raw:
        if name.lower() != b"transfer-encoding":  # the connection layer frames the body itself
            headers.add(name.decode("ascii"), value.decode("ascii", "surrogateescape"))
    return headers


def _without_encoding(headers: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """Return ``headers`` as they fit a body that has been decoded."""
    return [pair for pair in headers if pair[0].lower() not in {b"content-encoding", b"content-length"}]


def _phases() -> aiohttp.TraceConfig:
    """Return the hooks by which the connection layer tells an exchange where it is."""

    def entering(phase: Phase) -> Any:
        async def hook(_session: aiohttp.ClientSession, context: SimpleNamespace, _parameters: Any) -> None:
            context.trace_request_ctx.enter(phase)

        return hook

    hooks = aiohttp.TraceConfig()
    hooks.on_dns_resolvehost_start.append(entering(Phase.DNS))
    hooks.on_dns_resolvehost_end.append(entering(Phase.CONNECT))
    hooks.on_request_headers_sent.append(entering(Phase.HEADERS))
    return hooks
