"""aiohttp's session as the transport uses it: connections, names, and hooks that tell an exchange where it is."""

from __future__ import annotations

import ssl
from functools import partial
from types import SimpleNamespace
from typing import Any, Final, cast

import aiohttp
from aiohttp import hdrs
from aiohttp.client_proto import ResponseHandler

from fetchd.fetch.exchange import Phase
from fetchd.fetch.protocol import Protocol
from fetchd.fetch.resolver import Resolver

IDLE: Final = 15.0
"""Seconds that a connection is kept for the next exchange."""

_SPOILT_AT_MOST: Final = 8
_FIELD_AT_MOST: Final = 32 * 1024
_HEADERS_AT_MOST: Final = 256
_NO_TIMEOUT: Final = aiohttp.ClientTimeout(total=None, connect=None, sock_connect=None, sock_read=None)
_OURS_ALONE: Final = (hdrs.ACCEPT, hdrs.ACCEPT_ENCODING, hdrs.USER_AGENT, hdrs.CONTENT_TYPE)


class _Connector(aiohttp.TCPConnector):
    """Hands out no connection on which something came while it was idle: that would be taken for the next response."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._factory = cast("partial[ResponseHandler]", partial(Protocol, loop=self._loop))

    async def connect(
        self,
        req: aiohttp.ClientRequest,
        traces: list[Any],
        timeout: aiohttp.ClientTimeout,  # noqa: ASYNC109 - theirs
    ) -> aiohttp.connector.Connection:
        """Return a connection, idle or new.

        Raises:
            aiohttp.ClientConnectionError: there is none that keeps silent until it is asked.
        """
        for _ in range(_SPOILT_AT_MOST):
            connection = await super().connect(req, traces, timeout)
            if connection.protocol is not None and not connection.protocol.should_close:
                return connection
            connection.close()
        raise aiohttp.ClientConnectionError("the server speaks before it is asked")


class _Response(aiohttp.ClientResponse):
    """Hangs up at once where it is closed before its end.

    A polite close waits until the peer has taken what is still to be sent, or has said good-bye in TLS: a peer that
    hangs would keep the descriptor for as long as it likes.
    """

    def close(self) -> None:
        """Close the connection, unless the response has ended and given it back."""
        transport = self.connection.transport if self.connection is not None else None
        super().close()
        if transport is not None:
            transport.abort()


def open_session(tls: ssl.SSLContext, resolver: Resolver) -> aiohttp.ClientSession:
    """Return a session without limits, timeouts, cookies and headers of its own: all that is decided above it."""
    connector = _Connector(
        ssl=tls,
        limit=0,
        resolver=resolver,
        use_dns_cache=False,
        keepalive_timeout=IDLE,
        enable_cleanup_closed=False,
    )
    return aiohttp.ClientSession(
        connector=connector,
        response_class=_Response,
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=_NO_TIMEOUT,
        auto_decompress=False,
        skip_auto_headers=_OURS_ALONE,
        trust_env=False,
        raise_for_status=False,
        requote_redirect_url=False,
        max_field_size=_FIELD_AT_MOST,
        max_headers=_HEADERS_AT_MOST,
        trace_configs=[_phases()],
    )


def _phases() -> aiohttp.TraceConfig:
    def entering(phase: Phase) -> Any:
        async def hook(_session: aiohttp.ClientSession, context: SimpleNamespace, _parameters: Any) -> None:
            context.trace_request_ctx.enter(phase)

        return hook

    hooks = aiohttp.TraceConfig()
    hooks.on_dns_resolvehost_start.append(entering(Phase.DNS))
    hooks.on_dns_resolvehost_end.append(entering(Phase.CONNECT))
    hooks.on_request_headers_sent.append(entering(Phase.HEADERS))
    return hooks
