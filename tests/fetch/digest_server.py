"""A server that wants digests, on a real socket; it works them out by itself, as RFC 7616 says."""

from __future__ import annotations

import hashlib
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

from aiohttp import web

from tests.fetch.room import HOST

USER: Final = "Mufasa"
PASSWORD: Final = "Circle of Life"
REALM: Final = "http-auth@example.org"

_PARAMETER: Final = re.compile(r'(\w+)=(?:"([^"]*)"|([^\s,]+))')
_HASHES: Final = {"MD5": hashlib.md5, "SHA-256": hashlib.sha256}


def parameters(header: str) -> dict[str, str]:
    """Return what a header of digest authorisation holds."""
    scheme, _, rest = header.partition(" ")
    return {name: quoted or bare for name, quoted, bare in _PARAMETER.findall(rest)} if scheme == "Digest" else {}


def response_to(method: str, given: dict[str, str]) -> str:
    """Return the one right response to a request whose parameters are ``given`` (RFC 7616, 3.4.1, with qop=auth)."""

    def digest(*parts: str) -> str:
        return _HASHES[given.get("algorithm", "MD5")](":".join(parts).encode()).hexdigest()

    first = digest(USER, REALM, PASSWORD)
    return digest(first, given["nonce"], given["nc"], given["cnonce"], given["qop"], digest(method, given["uri"]))


@dataclass(slots=True)
class DigestServer:
    """What has happened, and what the server asks for; ``{nonce}`` in a challenge stands for the nonce."""

    url: str = ""
    challenges: tuple[str, ...] = ()
    uses: int = 1000
    """How often a nonce is good."""
    given: list[dict[str, str]] = field(default_factory=list)
    """The parameters of each request."""
    bodies: list[str] = field(default_factory=list)
    padding: int = 100
    """The length of a refusal's body."""
    _nonces: dict[str, int] = field(default_factory=dict)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Let pass who has the right response, counted up by one each time."""
        given = parameters(request.headers.get("Authorization", ""))
        self.given.append(given)
        self.bodies.append(await request.text())
        count = self._nonces.get(given.get("nonce", ""), self.uses)
        sound = (
            bool(given)
            and count < self.uses
            and int(given["nc"], 16) == count + 1
            and given["uri"] == request.raw_path
            and given["response"] == response_to(request.method, given)
        )
        if sound:
            self._nonces[given["nonce"]] = count + 1
            return web.Response(text="ok")
        nonce = f"nonce{len(self._nonces)}"
        self._nonces[nonce] = 0
        refusal = web.Response(status=401, text="x" * self.padding)
        for challenge in self.challenges:
            refusal.headers.add("WWW-Authenticate", challenge.replace("{nonce}", nonce))
        return refusal


@asynccontextmanager
async def digest_server(*challenges: str, uses: int = 1000, padding: int = 100) -> AsyncIterator[DigestServer]:
    """Serve on loopback."""
    made = DigestServer(challenges=challenges, uses=uses, padding=padding)
    app = web.Application()
    app.router.add_route("*", "/{rest:.*}", made.answer)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.01)
    await runner.setup()
    try:
        await web.TCPSite(runner, HOST, 0).start()
        made.url = f"http://{HOST}:{runner.addresses[0][1]}"
        yield made
    finally:
        await runner.cleanup()
