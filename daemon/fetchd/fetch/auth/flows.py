"""From a job to what authorises its requests, where that is more than headers which are always the same."""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import replace
from typing import Final
from urllib.parse import urlsplit

import httpx

from fetchd.clock import Clock
from fetchd.fetch.auth.digest import Digest, discard
from fetchd.fetch.auth.kinds import ApiKeyAuth, DigestAuth, OAuth2Auth
from fetchd.fetch.auth.query import KeyInQuery
from fetchd.fetch.auth.tokens import Grant, Tokens
from fetchd.fetch.auth.vault import Vault
from fetchd.fetch.client import SharedClient
from fetchd.fetch.exchange import EXTENSION, Exchange, Phase
from fetchd.fetch.network import DIRECT, Network
from fetchd.job import Job

SHARE: Final = 0.9
"""Of a job's deadline that may pass without a token: what is left serves to say so."""
FRUITLESS: Final = 60.0
"""Seconds for which a job whose new token was refused as well gets no other one for being refused."""


class Authority:
    """Authorises the requests of all jobs. What it keeps, it keeps for one definition of a job, secrets included."""

    def __init__(self, client: SharedClient, clock: Clock, vault: Vault | None = None) -> None:
        self._tokens = Tokens(client, clock, vault or Vault())
        self._monotonic = clock.monotonic
        self._flows: dict[str, tuple[Job, httpx.Auth | None]] = {}

    def of(self, job: Job) -> httpx.Auth | None:
        """Return what authorises the requests of ``job`` beyond the headers that they have from the beginning."""
        if job.auth is None:
            return None
        known = self._flows.get(job.name)
        if known is None or known[0] is not job:
            known = self._flows[job.name] = job, self._flow(job)
        return known[1]

    def forget(self, jobs: Mapping[str, Job]) -> None:
        """Let go of definitions other than ``jobs``, and of their secrets."""
        self._flows = {name: known for name, known in self._flows.items() if jobs.get(name) is known[0]}

    def _flow(self, job: Job) -> httpx.Auth | None:
        match job.auth:
            case ApiKeyAuth(where="query", name=name, value=value):
                return KeyInQuery(name, value.reveal())
            case DigestAuth(username=username, password=password):
                return Digest(username.reveal(), password.reveal())
            case OAuth2Auth() as auth:
                network, within = token_network(job, auth), min(auth.deadline, SHARE * job.deadline)
                return Bearer(self._tokens.grant(auth, network), network, within, self._monotonic)
        return None


class Bearer(httpx.Auth):
    """Sends a grant's token, and once another one where the server refuses one that has been in use already."""

    def __init__(self, grant: Grant, network: Network, within: float, monotonic: Callable[[], float]) -> None:
        self._grant = grant
        self._network = network
        self._within = within
        self._monotonic = monotonic
        self._not_before = -math.inf

    async def async_auth_flow(self, request: httpx.Request) -> AsyncGenerator[httpx.Request, httpx.Response]:
        """Send ``request`` with a token.

        Raises:
            FetchError: there is none.
        """
        used = self._grant.ready()
        token = used or await self._token(request)
        request.headers["Authorization"] = f"Bearer {token}"
        response = yield request
        if response.status_code != 401 or used is None or self._monotonic() < self._not_before:
            return
        await discard(response)
        self._grant.refuse(used)
        request.headers["Authorization"] = f"Bearer {await self._token(request)}"
        response = yield request
        if response.status_code == 401:
            self._not_before = self._monotonic() + FRUITLESS

    async def _token(self, request: httpx.Request) -> str:
        exchange: Exchange = request.extensions[EXTENSION]
        exchange.enter(Phase.AUTH)
        return await self._grant.token(replace(exchange.limits, network=self._network), self._within)


def token_network(job: Job, auth: OAuth2Auth) -> Network:
    """Return how questions to the token server travel: as the job's requests.

    Whom the job trusts, and who it says it is, holds for its own host alone: an API whose certificate is not checked
    is no reason to send the client's secret to anybody.
    """
    network = Network.of(job)
    same = job.url is not None and urlsplit(job.url.reveal()).hostname == urlsplit(auth.token_url.reveal()).hostname
    return network if same else replace(network, tls=DIRECT.tls)
