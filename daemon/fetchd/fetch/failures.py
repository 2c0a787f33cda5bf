"""Every way in which an exchange can fail, each with its reason, as httpx's own exceptions too.

The code of a ``collect`` job catches them as what httpx documents (``except httpx.TimeoutException``); ours reads
``reason`` and ``transient``. Foreign exceptions are mapped here and nowhere else.
"""

from __future__ import annotations

import errno
import os
import re
from typing import ClassVar, Final

import aiohttp
import httpx
from aiohttp.client_exceptions import UnixClientConnectorError
from aiohttp.http_exceptions import HttpProcessingError

from fetchd.errors import FetchError, Reason
from fetchd.fetch.exchange import Exchange, Phase
from fetchd.fetch.network import RefusedAddressError
from fetchd.fetch.tls import tls_words
from fetchd.shorten import shortened


class ExchangeError(FetchError):
    """An exchange failed; the subclass says how."""

    kind: ClassVar[Reason] = Reason.PROTOCOL
    retryable: ClassVar[bool] = True

    def __init__(self, message: str, exchange: Exchange | None = None) -> None:
        phase, elapsed = (str(exchange.phase), exchange.elapsed()) if exchange else ("", 0.0)
        super().__init__(self.kind, message, transient=self.retryable, phase=phase, elapsed=elapsed)


class NameLookupError(ExchangeError, httpx.ConnectError):
    """The name could not be resolved."""

    kind = Reason.DNS


class RefusedError(ExchangeError, httpx.ConnectError):
    """No connection could be made."""

    kind = Reason.CONNECT


class TlsError(ExchangeError, httpx.ConnectError):
    """The TLS handshake failed."""

    kind = Reason.TLS


class AddressRefusedError(ExchangeError, httpx.ConnectError):
    """What is asked for is on this machine or in a private network, which the job must not reach."""

    kind = Reason.ADDRESS_REFUSED
    retryable = False


class ProxyError(ExchangeError, httpx.ProxyError):
    """The proxy did not let the exchange through, and may do so later."""

    kind = Reason.CONNECT


class ProxyRefusedError(ProxyError):
    """The proxy refuses what it is asked for, or whoever asks."""

    retryable = False


class LocalResourceError(ExchangeError, httpx.ConnectError):
    """This machine lacks what a connection needs: file descriptors, ports, memory."""

    kind = Reason.LOCAL_RESOURCE


class ConnectTimeoutError(ExchangeError, httpx.ConnectTimeout):
    """No connection within the connect timeout."""

    kind = Reason.TIMEOUT_CONNECT


class ReadTimeoutError(ExchangeError, httpx.ReadTimeout):
    """Nothing came within the read timeout."""

    kind = Reason.TIMEOUT_READ


class WriteTimeoutError(ExchangeError, httpx.WriteTimeout):
    """The request was not taken within the write timeout."""

    kind = Reason.TIMEOUT_WRITE


class PoolTimeoutError(ExchangeError, httpx.PoolTimeout):
    """No place among the host's concurrent exchanges within the pool timeout."""

    kind = Reason.TIMEOUT_POOL


class HostHeldError(ExchangeError, httpx.PoolTimeout):
    """The host has named a time before which it wants no request: none was sent."""

    kind = Reason.HTTP_429

    def __init__(self, message: str, exchange: Exchange | None, left: float) -> None:
        super().__init__(message, exchange)
        self.retry_after = left


class ProtocolError(ExchangeError, httpx.RemoteProtocolError):
    """What came is not HTTP, or the connection broke."""


class TooLargeError(ExchangeError, httpx.DecodingError):
    """The body is larger than max_body allows."""

    kind = Reason.TOO_LARGE
    retryable = False


class DecodeError(ExchangeError, httpx.DecodingError):
    """The body is not what its Content-Encoding says."""

    kind = Reason.DECODE
    retryable = False


class TooManyRedirectsError(ExchangeError, httpx.TooManyRedirects):
    """More redirects than the job allows."""

    kind = Reason.TOO_MANY_REDIRECTS
    retryable = False


class RedirectRefusedError(ExchangeError, httpx.UnsupportedProtocol):
    """A redirect that is not followed: from https to http, with a body to another origin, or to what is no URL."""

    kind = Reason.REDIRECT_REFUSED
    retryable = False


class NotSendableError(ExchangeError, httpx.UnsupportedProtocol):
    """What is asked for is no http or https URL, or has line breaks in its headers."""

    retryable = False


_TIMEOUTS: Final[dict[Phase, type[ExchangeError]]] = {
    Phase.POOL: PoolTimeoutError,
    Phase.DNS: NameLookupError,
    Phase.CONNECT: ConnectTimeoutError,
    Phase.WRITE: WriteTimeoutError,
    Phase.HEADERS: ReadTimeoutError,
    Phase.BODY: ReadTimeoutError,
}

_TIMEOUT_WORDS: Final = {
    Phase.POOL: "no place among the host's exchanges",
    Phase.DNS: "no answer about the name",
    Phase.CONNECT: "no connection",
    Phase.WRITE: "the request was not taken",
    Phase.HEADERS: "no response",
    Phase.BODY: "no more of the body",
}

_QUOTATION: Final = re.compile(r"\n\n|b?['\"]")
_LOCAL: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EADDRNOTAVAIL})


def timed_out(exchange: Exchange) -> ExchangeError:
    """Return the error for a phase that took longer than its timeout."""
    phase, words = exchange.phase, _TIMEOUT_WORDS[exchange.phase]
    if exchange.at_proxy:
        words = f"the proxy {exchange.proxy} gave no connection"
    elif exchange.proxy:
        words += f" through the proxy {exchange.proxy}"
    return _TIMEOUTS[phase](f"{words} within {exchange.timeout_of(phase):g} s", exchange)


def proxy_refused(status: int, exchange: Exchange) -> ProxyError:
    """Return the error for a proxy that answered ``status`` where it was asked for a way."""
    kind = ProxyError if status >= 500 else ProxyRefusedError
    phrase = "wants another user or password" if status == 407 else "refuses to connect to the host"
    return kind(f"the proxy {exchange.proxy} {phrase}: it answered {status}", exchange)


def translated(error: Exception, exchange: Exchange) -> ExchangeError:
    """Return ``error``, which the connection layer raised, as one of ours."""
    error.__traceback__ = None  # the connection layer keeps the error, and with it all of these frames, in a cycle
    if _local(error):
        return LocalResourceError(f"this machine cannot open a connection: {_words(error)}", exchange)
    if isinstance(error, RefusedAddressError):
        return AddressRefusedError(f"{error}, and deny_private is set", exchange)
    if isinstance(error, aiohttp.ClientHttpProxyError):
        return proxy_refused(error.status, exchange)
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        if lack := _lack_of_descriptors():
            return LocalResourceError(f"this machine cannot ask for {error.host}: {lack}", exchange)
        whom = f"the proxy {error.host}" if exchange.at_proxy else error.host
        return NameLookupError(f"cannot resolve {whom}: {_words(error)}", exchange)
    if words := tls_words(error):
        return TlsError(f"the proxy {exchange.proxy}: {words}" if exchange.at_proxy else words, exchange)
    if isinstance(error, aiohttp.ClientConnectorError):
        number = error.os_error.errno
        words = os.strerror(number) if number else _words(error)
        return RefusedError(f"cannot connect to {_whom(error, exchange)}: {words}", exchange)
    if exchange.at_proxy:
        return ProxyError(f"the proxy {exchange.proxy}: {_words(error)}", exchange)
    if exchange.phase in {Phase.POOL, Phase.DNS, Phase.CONNECT}:
        return RefusedError(_words(error), exchange)
    return ProtocolError(_words(error), exchange)


def _whom(error: aiohttp.ClientConnectorError, exchange: Exchange) -> str:
    if isinstance(error, UnixClientConnectorError):
        return f"the socket {error.path}"
    return f"the proxy {exchange.proxy}" if exchange.at_proxy else f"{error.host}:{error.port}"


def _words(error: BaseException) -> str:
    """Return what is behind ``error``, in one line.

    The connection layer's own texts are often empty, or repeat the URL or what the server sent, which may hold secrets.
    """
    if isinstance(error, aiohttp.ServerDisconnectedError):
        return "the server closed the connection without a response"
    if isinstance(error, aiohttp.ClientResponseError):
        return f"the response is broken: {_unquoted(error.message)}"
    cause = error.__cause__ or error
    if isinstance(cause, HttpProcessingError):
        return f"the response is broken: {_unquoted(cause.message)}"
    if isinstance(cause, ConnectionResetError):  # within a handshake asyncio raises it without number and text
        return os.strerror(errno.ECONNRESET)
    text = getattr(cause, "verify_message", None) or getattr(cause, "strerror", None) or str(cause)
    return shortened(" ".join(text.split()), 500) or type(cause).__name__


def _unquoted(message: str) -> str:
    """Return ``message`` up to where it quotes the response."""
    return shortened(" ".join(_QUOTATION.split(message)[0].split()).rstrip(" :"), 500)


def _lack_of_descriptors() -> str:
    """Return why this process can open nothing more; "" if it can. c-ares only says that it reached no server."""
    try:
        os.close(os.open(os.devnull, os.O_RDONLY))
    except OSError as error:
        return error.strerror or str(error)
    return ""


def _local(error: BaseException | None) -> bool:
    """Return whether an errno of this machine's own lack is anywhere behind ``error``."""
    seen: list[BaseException] = []
    queue = [error]
    while queue:
        current = queue.pop()
        if current is None or any(current is one for one in seen):
            continue
        seen.append(current)
        number = getattr(current, "errno", None) or getattr(getattr(current, "os_error", None), "errno", None)
        if number in _LOCAL:
            return True
        queue += [current.__cause__, current.__context__, *getattr(current, "exceptions", ())]
    return False
