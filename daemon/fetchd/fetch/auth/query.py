"""A key in the URL's query, set at the last moment: nothing that is kept or shown ever holds an address with it."""

from __future__ import annotations

from collections.abc import Generator
from urllib.parse import unquote_plus, urlencode

import httpx


class KeyInQuery(httpx.Auth):
    """Sets a parameter of the URL, in the place of any others of its name."""

    def __init__(self, name: str, value: str) -> None:
        self._name = name
        self._pair = urlencode({name: value}).encode()

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """Send ``request`` with the key."""
        bare = self.without(request.url)
        request.url = bare.copy_with(query=b"&".join(part for part in (bare.query, self._pair) if part))
        yield request

    def without(self, url: httpx.URL) -> httpx.URL:
        """Return ``url`` without the parameter, the others as they are written; a server may send it back."""
        parts = url.query.split(b"&")
        kept = [part for part in parts if unquote_plus(part.partition(b"=")[0].decode("latin-1")) != self._name]
        return url if len(kept) == len(parts) else url.copy_with(query=b"&".join(kept) or None)
