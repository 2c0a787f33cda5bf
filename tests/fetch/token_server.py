"""A token server and the API that it guards, on a real socket: the rules are oauthlib's, not ours."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import unquote_plus

from aiohttp import web
from oauthlib.common import Request
from oauthlib.oauth2 import RequestValidator, Server

from tests.fetch.room import HOST

CLIENT: Final = "client-1"
SECRET: Final = "canary client/secret:1+2"
USER: Final = ("mia", "canary pass&word")
FIRST_REFRESH: Final = "canary-refresh-0"

Conduct = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Rules(RequestValidator):  # type: ignore[misc, unused-ignore]
    """One client, one user; tokens are good until they are revoked, refresh tokens once."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens: list[str] = []
        self.refresh_tokens = [FIRST_REFRESH]
        self.scopes = ["read", "write"]

    def client_authentication_required(self, request: Request, *args: Any, **kwargs: Any) -> bool:
        """Everybody has to say who asks."""
        return True

    def authenticate_client(self, request: Request, *args: Any, **kwargs: Any) -> bool:
        """Take the secret from the header as RFC 6749, 2.3.1 has it, or from the body."""
        scheme, _, encoded = request.headers.get("Authorization", "").partition(" ")
        if scheme == "Basic":
            name, _, secret = base64.b64decode(encoded).decode().partition(":")
            given = unquote_plus(name), unquote_plus(secret)
        else:
            given = request.client_id, request.client_secret
        request.client = type("Client", (), {"client_id": given[0]})()
        return bool(given == (CLIENT, SECRET))

    def validate_grant_type(self, client_id: str, grant_type: str, *args: Any, **kwargs: Any) -> bool:
        """Every grant."""
        return True

    def get_default_scopes(self, client_id: str, request: Request, *args: Any, **kwargs: Any) -> list[str]:
        """Return what a token is good for if nobody says."""
        return self.scopes[:1]

    def validate_scopes(self, client_id: str, scopes: list[str], *args: Any, **kwargs: Any) -> bool:
        """Those that there are."""
        return set(scopes) <= set(self.scopes)

    def validate_user(self, username: str, password: str, *args: Any, **kwargs: Any) -> bool:
        """The one user."""
        return (username, password) == USER

    def validate_refresh_token(self, refresh_token: str, *args: Any, **kwargs: Any) -> bool:
        """The last one alone."""
        return refresh_token == self.refresh_tokens[-1]

    def get_original_scopes(self, refresh_token: str, request: Request, *args: Any, **kwargs: Any) -> list[str]:
        """Return what the refresh token is good for."""
        return self.scopes

    def save_bearer_token(self, token: dict[str, str], request: Request, *args: Any, **kwargs: Any) -> None:
        """Keep it."""
        self.tokens.append(token["access_token"])
        if "refresh_token" in token:
            self.refresh_tokens.append(token["refresh_token"])

    def validate_bearer_token(self, token: str, scopes: list[str], request: Request) -> bool:
        """Those that were given and not taken back."""
        return token in self.tokens


@dataclass(slots=True)
class TokenServer:
    """What has happened, and how the server behaves from here on."""

    url: str = ""
    rules: Rules = field(default_factory=Rules)
    lifetime: int = 3600
    asked: list[dict[str, str]] = field(default_factory=list)
    """The parameters of each question for a token."""
    shown: list[str] = field(default_factory=list)
    """The Authorization of each request to the API."""
    bodies: list[str] = field(default_factory=list)
    """What each of them brought."""
    conduct: Conduct | None = None
    """What answers in the place of the token server."""
    came: asyncio.Event = field(default_factory=asyncio.Event)
    """Is set when a question comes."""

    @property
    def token_url(self) -> str:
        """Return where tokens are asked for."""
        return f"{self.url}/token"

    async def _token(self, request: web.Request) -> web.StreamResponse:
        body = await request.text()
        self.asked.append({name: str(value) for name, value in (await request.post()).items()})
        self.came.set()
        if self.conduct is not None:
            return await self.conduct(request)
        server = Server(self.rules, token_expires_in=self.lifetime)
        headers, text, status = server.create_token_response(
            "https://t.test/token", "POST", body, dict(request.headers)
        )
        return web.Response(status=status, text=text, headers=headers)

    async def _api(self, request: web.Request) -> web.StreamResponse:
        self.shown.append(request.headers.get("Authorization", ""))
        self.bodies.append(await request.text())
        sound, _ = Server(self.rules).verify_request("https://t.test/api", "GET", None, dict(request.headers), [])
        if not sound:
            return web.Response(
                status=401, text="x" * 500, headers={"WWW-Authenticate": 'Bearer error="invalid_token"'}
            )
        return web.Response(text=json.dumps({"number": len(self.shown)}))


@asynccontextmanager
async def token_server(**keys: Any) -> AsyncIterator[TokenServer]:
    """Serve on loopback."""
    made = TokenServer(**keys)
    app = web.Application()
    app.router.add_post("/token", made._token)
    app.router.add_route("*", "/api", made._api)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.01, handler_cancellation=True)
    await runner.setup()
    try:
        site = web.TCPSite(runner, HOST, 0)
        await site.start()
        made.url = f"http://{HOST}:{runner.addresses[0][1]}"
        yield made
    finally:
        await runner.cleanup()
