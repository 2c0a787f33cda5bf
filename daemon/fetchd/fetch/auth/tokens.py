"""Tokens of token servers: one for each set of credentials, asked for once however many jobs wait for it."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Final
from urllib.parse import urlsplit
from weakref import WeakValueDictionary

import httpx

from fetchd.clock import Clock
from fetchd.errors import FetchError, Reason
from fetchd.fetch.auth.grant import Question, Refusal, Token, answer, question
from fetchd.fetch.auth.kinds import OAuth2Auth
from fetchd.fetch.auth.vault import RefreshToken, Vault
from fetchd.fetch.client import SharedClient, let_go
from fetchd.fetch.exchange import Exchange, Limits
from fetchd.fetch.failures import TooLargeError
from fetchd.fetch.network import Network
from fetchd.fetch.request import DEFAULT_HEADERS, parsed
from fetchd.fetch.retry import wait_named
from fetchd.run import Progress

LONGEST_ANSWER: Final = 64 * 1024
FIRST_PAUSE: Final = 0.1
LONGEST_PAUSE: Final = 60.0
"""Seconds for which a token server that has failed, or refused for good, is left alone."""

Ask = Callable[[Question, Limits], Awaitable[Token | Refusal]]


@dataclass(slots=True)
class _Held:
    """A token that is in use; by the monotonic clock."""

    token: Token
    renew: float
    """From when on another one is asked for."""
    expires: float


class Grant:
    """One set of credentials, and the token that it has brought. All jobs with these credentials share it."""

    def __init__(
        self, auth: OAuth2Auth, ask: Ask, monotonic: Callable[[], float], vault: Vault, refresh: RefreshToken
    ) -> None:
        self._auth = auth
        self._ask = ask
        self._monotonic = monotonic
        self._vault = vault
        self._refresh = refresh
        self._held: _Held | None = None
        self._refusal: Refusal | None = None
        self._refusals = 0
        self._not_before = -math.inf
        self._asking: asyncio.Task[Refusal | None] | None = None
        self._waiting = 0

    def ready(self) -> str | None:
        """Return the token that needs no renewal yet; None if there is none."""
        held = self._held
        return held.token.value if held is not None and self._monotonic() < held.renew else None

    def refuse(self, token: str) -> None:
        """Forget ``token``, which a server has refused; not one that has taken its place meanwhile."""
        if self._held is not None and self._held.token.value == token:
            self._held = None

    async def token(self, limits: Limits, within: float) -> str:
        """Return a token, after at most ``within`` seconds; one that shall be renewed but cannot is good to its end.

        Raises:
            FetchError: there is none. A token server that has failed is left alone for a while; until then it is the
                same failure.
        """
        if (token := self.ready()) is not None:
            return token
        pause = self._not_before - self._monotonic()
        refusal = self._refusal if pause > 0 else await self._asked(limits, within)
        held = self._held
        if held is not None and self._monotonic() < held.expires:
            return held.token.value
        if refusal is None:
            refusal = Refusal("its token has expired already", transient=True)
        host = urlsplit(self._auth.token_url.reveal()).hostname
        message = f"no token from {host}: {refusal.message}"
        if pause > 0:
            message += f"; it is asked again in {math.ceil(pause)} s"
        raise FetchError(Reason.AUTH, message, transient=refusal.transient, phase="auth")

    async def _asked(self, limits: Limits, within: float) -> Refusal | None:
        """Wait for the one request that is under way, or begin it.

        The last one who leaves ends it, unless it may bring another refresh token: the old one may be void by now.
        """
        task = self._asking
        if task is None or task.done() or task.cancelling():
            task = self._asking = asyncio.create_task(self._renew(limits))
        self._waiting += 1
        try:
            await asyncio.wait({task}, timeout=within)
        finally:
            self._waiting -= 1
            last = not self._waiting and not task.done()
            if last and not self._refresh.value:
                task.cancel()
        if task.done() and not task.cancelled():
            return task.result()
        late = _late(within)
        if last:
            self._settle(late)
        return late

    async def _renew(self, limits: Limits) -> Refusal | None:
        deadline = self._auth.deadline
        found: Token | Refusal
        try:
            async with asyncio.timeout(deadline), self._refresh.turn:
                found = await self._ask(question(self._auth, self._refresh.value), limits)
                self._taken(found)
        except TimeoutError:
            found = _late(deadline)
        except FetchError as error:
            found = Refusal(str(error), error.transient)
        return self._settle(found)

    def _settle(self, found: Token | Refusal) -> Refusal | None:
        """Keep what has been ``found``; return it if it is no token."""
        now = self._monotonic()
        if isinstance(found, Refusal):
            pause = FIRST_PAUSE * 2.0 ** min(self._refusals, 16) if found.transient else LONGEST_PAUSE
            self._refusal, self._refusals = found, self._refusals + 1
            self._not_before = now + max(min(pause, LONGEST_PAUSE), found.wait)
            return found
        lifetime = math.inf if found.lifetime is None else found.lifetime
        self._refusal, self._refusals, self._not_before = None, 0, -math.inf
        self._held = _Held(found, now + lifetime - min(self._auth.early, lifetime / 2), now + lifetime)
        return None

    def _taken(self, found: Token | Refusal) -> None:
        """Go on with the refresh token that was given, or with that of the configuration where this one is void."""
        if isinstance(found, Token):
            for secret in (found.value, found.refresh):
                self._vault.tell(secret)
            if found.refresh:
                self._refresh.replace(found.refresh)
        elif found.code == "invalid_grant":
            self._refresh.replace("")


class Tokens:
    """The grants of all jobs. One that no job has any more is forgotten, with its token."""

    def __init__(self, client: SharedClient, clock: Clock, vault: Vault) -> None:
        self._client = client
        self._clock = clock
        self._vault = vault
        self._grants: WeakValueDictionary[object, Grant] = WeakValueDictionary()
        self._refreshes: WeakValueDictionary[str, RefreshToken] = WeakValueDictionary()

    def grant(self, auth: OAuth2Auth, network: Network) -> Grant:
        """Return the grant of these credentials; a token that came over one network may be good for that one alone."""
        first = auth.refresh_token.reveal() if auth.refresh_token is not None else ""
        key = (question(auth, first), auth.deadline, auth.early, network)
        grant = self._grants.get(key)
        if grant is None:
            grant = self._grants[key] = Grant(
                auth, self._ask, self._clock.monotonic, self._vault, self._refresh(auth, first)
            )
        return grant

    def _refresh(self, auth: OAuth2Auth, configured: str) -> RefreshToken:
        """Return the refresh token of these credentials: of one that is good once, all grants need the same."""
        if not configured:
            return RefreshToken(self._vault)
        made = RefreshToken(self._vault, auth.token_url.reveal(), auth.client_id.reveal(), configured)
        return self._refreshes.setdefault(made.name, made)

    async def _ask(self, asked: Question, limits: Limits) -> Token | Refusal:
        exchange = Exchange(replace(limits, max_body=LONGEST_ANSWER, redirects=0), Progress())
        headers = {**DEFAULT_HEADERS, **dict(asked.headers)}
        request = httpx.Request("POST", parsed(asked.url), headers=headers, content=asked.body.encode())
        response = await self._client.walk(request, exchange, follow=False)
        try:
            body = await response.aread()
        except TooLargeError:  # whose words are of a max_body that nobody has set
            return Refusal(f"its answer is longer than {LONGEST_ANSWER // 1024} KiB", transient=False)
        finally:
            await let_go(response)
        return answer(response.status_code, wait_named(response, self._clock.now()) or 0.0, body)


def _late(seconds: float) -> Refusal:
    """Return the refusal of one that hangs: it gets as much time to recover as it has taken away."""
    return Refusal(f"no answer within {seconds:g} s", transient=True, wait=seconds)
