"""Digest authorisation: httpx's own, for servers that offer more than one challenge or none that can be answered."""

from __future__ import annotations

import contextlib
import re
from collections.abc import AsyncGenerator, Callable, Iterator
from typing import Final
from urllib.request import parse_http_list

import httpx

from fetchd.errors import FetchError, Reason

LONGEST_DRAINED: Final = 16 * 1024
"""The longest body of a refusal that is read, so that its connection can be used again."""

_ALGORITHMS: Final = frozenset({"MD5", "MD5-SESS", "SHA-256", "SHA-256-SESS", "SHA-512", "SHA-512-SESS"})
_SCHEME: Final = re.compile(r"([A-Za-z0-9!#$%&'*+.^_`|~-]+)(?: +([^=].*))?", re.DOTALL)
_ONLY: Final = "the server's challenge cannot be answered: digest is known with qop=auth and MD5, SHA-256 or SHA-512"


class Digest(httpx.DigestAuth):
    """Answers a server's challenge (RFC 7616), and goes on using it until the server sends another one."""

    async def async_auth_flow(self, request: httpx.Request) -> AsyncGenerator[httpx.Request, httpx.Response]:
        """Send ``request``, and once more where the server challenges.

        Raises:
            FetchError: the server wants a kind of digest that there is not.
        """
        flow = self.auth_flow(request)
        response = yield _next(lambda: next(flow))
        offered = list(_digests(response)) if response.status_code == 401 else []
        if not offered:
            return
        response.headers["WWW-Authenticate"] = _chosen(offered)
        request = _next(lambda: flow.send(response))
        await discard(response)
        yield request


async def discard(response: httpx.Response) -> None:
    """Let go of ``response`` so that httpx, which reads what comes before another request, finds nothing to read."""
    stream = response.stream
    assert isinstance(stream, httpx.AsyncByteStream)
    try:
        if 0 <= _declared(response) <= LONGEST_DRAINED:
            with contextlib.suppress(FetchError):  # what a refusal says does not matter, so neither does its end
                async for _ in stream:
                    pass
    finally:
        await stream.aclose()
        response.stream = httpx.ByteStream(b"")


def _next(step: Callable[[], httpx.Request]) -> httpx.Request:
    try:
        return step()
    except (httpx.ProtocolError, LookupError, NotImplementedError, ValueError):
        raise _unanswerable() from None


def _unanswerable() -> FetchError:
    return FetchError(Reason.AUTH, _ONLY, transient=False, phase="auth", status=401)


def _declared(response: httpx.Response) -> int:
    length = response.headers.get("content-length", "")
    return int(length) if length.isdecimal() and len(length) < 10 else -1


def _digests(response: httpx.Response) -> Iterator[list[str]]:
    """Yield the parameters of each digest challenge, as they are written; one header may hold many challenges."""
    parameters: list[str] | None = None
    for header in response.headers.get_list("www-authenticate"):
        for item in parse_http_list(header):
            word = _SCHEME.fullmatch(item.strip())
            if word is None:  # a parameter: "=" is in none but the first one's scheme
                if parameters is not None:
                    parameters.append(item)
                continue
            if parameters is not None:
                yield parameters
            parameters = [word[2]] if word[1].lower() == "digest" and word[2] else None
        if parameters is not None:
            yield parameters
            parameters = None


def _chosen(offered: list[list[str]]) -> str:
    """Return the first challenge that can be answered: they come in the order that the server prefers.

    Raises:
        FetchError: there is none.
    """
    for parameters in offered:
        named = {name.strip().lower(): value.strip().strip('"') for name, _, value in map(_pair, parameters)}
        qops = [qop.strip() for qop in named["qop"].split(",")] if "qop" in named else ["auth"]
        if named.get("algorithm", "MD5").upper() in _ALGORITHMS and "auth" in qops:
            kept = [item for item in parameters if _pair(item)[0].strip().lower() != "qop"]
            return f"Digest {', '.join([*kept, 'qop=auth'] if 'qop' in named else kept)}"
    raise _unanswerable()


def _pair(item: str) -> tuple[str, str, str]:
    return item.partition("=")
