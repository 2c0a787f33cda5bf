"""aiohttp's protocol, held to what one turn of the loop can bear and one response may announce."""

from __future__ import annotations

import asyncio
from typing import Any, Final

import aiohttp
from aiohttp.client_proto import ResponseHandler

INFORMATIONAL_AT_MOST: Final = 16
"""Responses of status 1xx ahead of the final one. A flood of them is never over, and parsing it takes a whole core."""

READ_AT_MOST: Final = 32 * 1024
"""Bytes taken from the socket in one turn of the loop: what is parsed in one go keeps the others waiting."""


class Protocol(ResponseHandler):
    """A connection that does not let its server occupy the loop."""

    used = False
    """Whether it has served an exchange."""
    _informational = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take over the connection, with small reads: asyncio's selector transports read 256 KiB at a time."""
        if hasattr(transport, "max_size"):
            transport.max_size = READ_AT_MOST
        super().connection_made(transport)

    def feed_data(self, data: Any, size: int = 0) -> None:
        """Take a parsed response's head; close the connection when there are too many that are not the final one."""
        message, _ = data
        if not 100 <= message.code <= 199 or message.code == 101:
            self._informational = 0
        else:
            self._informational += 1
            if self._informational > INFORMATIONAL_AT_MOST:
                self._refuse()
                return
        super().feed_data(data, size)

    def _refuse(self) -> None:
        if self._informational == INFORMATIONAL_AT_MOST + 1:
            self.set_exception(aiohttp.ClientPayloadError("the server sends informational responses without end"))
            if self.transport is not None:
                self.transport.abort()
