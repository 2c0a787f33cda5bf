"""A response's body as it comes: read under the read timeout, decoded, counted, cut off at the limit."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from typing import Final

import aiohttp
import httpx
from aiohttp import hdrs

from fetchd.fetch import failures
from fetchd.fetch.decode import Decoder, NotDecodableError
from fetchd.fetch.exchange import Exchange, Phase

TURN: Final = 256 * 1024
"""Bytes decoded before the loop gets a turn: a bomb must not keep the others waiting."""


class Incoming(httpx.AsyncByteStream):
    """The body of ``response``. Closing it lets go of what is ``held``: the connection, the place at its host."""

    def __init__(self, response: aiohttp.ClientResponse, exchange: Exchange, held: ExitStack) -> None:
        self._response = response
        self._exchange = exchange
        self.held = held
        self._bodiless = response.method == hdrs.METH_HEAD
        encodings = () if self._bodiless else response.headers.getall(hdrs.CONTENT_ENCODING, ())
        self._decoder = Decoder(", ".join(encodings))

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
                exchange.progress.bytes = exchange.progress.earlier + decoded
                yield piece
                if since_turn >= TURN:
                    since_turn = 0
                    await asyncio.sleep(0)
            if raw > raw_limit:
                raise failures.TooLargeError(f"the encoded body is larger than max_body, {limit} bytes", exchange)
        self._finish_decoding()
        exchange.end()

    async def aclose(self) -> None:
        """Close the connection, unless the body was read to its end: then it is in the pool again already."""
        self.held.close()

    def _refuse_declared(self, limit: int) -> None:
        """Refuse at once what says itself that it is too large."""
        declared = self._response.content_length
        if declared is not None and declared > limit and self.identity and not self._bodiless:
            message = f"the response declares {declared} bytes, max_body is {limit}"
            raise failures.TooLargeError(message, self._exchange)

    async def _read(self) -> bytes:
        content = self._response.content
        try:
            if content.is_eof():  # all of it is here: reading cannot wait
                return await content.readany()
            with self._exchange.walled(Phase.BODY) as wall:
                chunk = await content.readany()
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            raise failures.translated(error, self._exchange) from None
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
