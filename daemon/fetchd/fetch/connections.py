"""aiohttp's sessions as the transport uses them: connections, names, and hooks that tell an exchange where it is."""

from __future__ import annotations

import asyncio
import ssl
from functools import partial
from types import SimpleNamespace
from typing import Any, Final, cast

import aiohttp
from aiohttp import hdrs
from aiohttp.abc import ResolveResult
from aiohttp.client_proto import ResponseHandler

from fetchd.fetch.exchange import Exchange, Phase
from fetchd.fetch.network import DIRECT, Network, RefusedAddressError, chosen
from fetchd.fetch.protocol import Protocol
from fetchd.fetch.resolver import Resolver

IDLE: Final = 15.0
"""Seconds that a connection is kept for the next exchange."""

_SPOILT_AT_MOST: Final = 8
_FIELD_AT_MOST: Final = 32 * 1024
_HEADERS_AT_MOST: Final = 256
_NO_TIMEOUT: Final = aiohttp.ClientTimeout(total=None, connect=None, sock_connect=None, sock_read=None)
_OURS_ALONE: Final = (hdrs.ACCEPT, hdrs.ACCEPT_ENCODING, hdrs.USER_AGENT, hdrs.CONTENT_TYPE)


class _Wary(aiohttp.BaseConnector):
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
        exchange = _exchange(traces)
        spoilt = 0
        while spoilt < _SPOILT_AT_MOST:
            connection = await super().connect(req, traces, timeout)
            protocol = cast("Protocol | None", connection.protocol)
            if protocol is None or protocol.should_close:
                spoilt += 1
            elif not (protocol.used and exchange.fresh):
                exchange.reused, protocol.used = protocol.used, True
                exchange.connected(connection)
                return connection
            connection.close()
        raise aiohttp.ClientConnectionError("the server speaks before it is asked")


class _Connector(_Wary, aiohttp.TCPConnector):
    """Connects as its network says. To a proxy it speaks as everybody does: the job's own TLS is for the target."""

    def __init__(self, network: Network, proxy_tls: ssl.SSLContext, **options: Any) -> None:
        super().__init__(**options)
        self._network = network
        self._proxy_tls = proxy_tls
        pinned = network.tls.fingerprint
        self._pinned = aiohttp.Fingerprint(bytes.fromhex(pinned.replace(":", ""))) if pinned else None

    async def _resolve_host(self, host: str, port: int, traces: Any = None) -> list[ResolveResult]:
        """Return the addresses that may be connected to, and no others are; those in the URL itself are judged too."""
        try:
            found = await super()._resolve_host(host, port, traces=traces)
        except aiohttp.InvalidURL:
            if not self._network.deny_private:
                raise
            raise RefusedAddressError(f"{host} is no name, and not how an address is written") from None
        return found if self._network is DIRECT else chosen(self._network, host, found)

    async def _create_connection(
        self,
        req: aiohttp.ClientRequest,
        traces: list[Any],
        timeout: aiohttp.ClientTimeout,  # noqa: ASYNC109 - theirs
    ) -> ResponseHandler:
        made = await super()._create_connection(req, traces, timeout)
        if self._pinned is not None and made.transport is not None:
            try:
                self._pinned.check(made.transport)
            except aiohttp.ServerFingerprintMismatch:
                made.transport.abort()
                raise
        return made

    def _update_proxy_auth_header_and_build_proxy_req(self, req: aiohttp.ClientRequest) -> aiohttp.ClientRequest:
        asked = super()._update_proxy_auth_header_and_build_proxy_req(req)
        asked._ssl = self._proxy_tls
        return asked

    async def _create_proxy_connection(
        self,
        req: aiohttp.ClientRequest,
        traces: list[Any],
        timeout: aiohttp.ClientTimeout,  # noqa: ASYNC109 - theirs
    ) -> tuple[asyncio.BaseTransport, ResponseHandler]:
        exchange = _exchange(traces)
        exchange.at_proxy = True
        made = await super()._create_proxy_connection(req, traces, timeout)
        exchange.at_proxy = False
        return made

    async def _start_tls_connection(
        self, underlying_transport: asyncio.Transport, req: aiohttp.ClientRequest, *args: Any, **options: Any
    ) -> tuple[asyncio.BaseTransport, ResponseHandler]:
        _exchange(req._traces).at_proxy = False  # it has let us through
        return await super()._start_tls_connection(underlying_transport, req, *args, **options)


class _SocketConnector(_Wary, aiohttp.UnixConnector):
    """Connects to a socket of this machine."""


class _Response(aiohttp.ClientResponse):
    """Hangs up at once where it is closed before its end.

    A polite close waits until the peer has taken what is still to be sent, or has said good-bye in TLS: a peer that
    hangs would keep the descriptor for as long as it likes.
    """

    def close(self) -> None:
        """Close the connection, unless the response has ended and given it back."""
        transport = self.connection.transport if self.connection is not None else None
        if transport is not None:
            # First: that of Debian 12's Python, closed once more after an error of the protocol, cannot be aborted.
            transport.abort()
        super().close()


def share_context(context: ssl.SSLContext) -> None:
    """Let ``context`` take the place of aiohttp's own, which its import has made.

    That holds all of the system's CAs, nearly a megabyte, and nothing of ours ever asks with it.
    """
    aiohttp.connector._SSL_CONTEXT_VERIFIED = context


def open_session(
    tls: ssl.SSLContext, resolver: Resolver, network: Network = DIRECT, proxy_tls: ssl.SSLContext | None = None
) -> aiohttp.ClientSession:
    """Return a session for the hosts that ``network`` reaches; to a proxy it speaks with ``proxy_tls``."""
    connector = _Connector(
        network,
        proxy_tls or tls,
        ssl=tls,
        limit=0,
        resolver=resolver,
        use_dns_cache=False,
        keepalive_timeout=IDLE,
        enable_cleanup_closed=False,
    )
    return _session(connector)


def open_socket_session(path: str) -> aiohttp.ClientSession:
    """Return a session for the server at the socket ``path``."""
    return _session(_SocketConnector(path=path, limit=0, keepalive_timeout=IDLE))


def _exchange(traces: list[Any]) -> Exchange:
    exchange: Exchange = traces[0]._trace_config_ctx.trace_request_ctx
    return exchange


def _session(connector: aiohttp.BaseConnector) -> aiohttp.ClientSession:
    """Return a session without limits, timeouts, cookies and headers of its own: all that is decided above it."""
    session = aiohttp.ClientSession(
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
    # It would send what is idempotent once more of its own accord, after any lost connection, and nobody would know.
    session._retry_connection = False
    return session


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
