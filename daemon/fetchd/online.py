"""Whether a configuration could do its work from here: every server is connected to, every sink is looked at."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final, Literal

from fetchd.config import Config
from fetchd.errors import FetchError
from fetchd.fetch.auth import OAuth2Auth
from fetchd.fetch.auth.flows import token_network
from fetchd.fetch.client import ClientOptions, open_transport
from fetchd.fetch.exchange import Limits
from fetchd.fetch.network import DIRECT, Network
from fetchd.fetch.proxies import Proxies
from fetchd.fetch.reach import Origin, Reached, reach
from fetchd.fetch.resolver import Names
from fetchd.fetch.transport import Transport
from fetchd.job import Job, Timeouts
from fetchd.notifiers.command import CommandNotifierOptions
from fetchd.notifiers.webhook import WebhookNotifierOptions
from fetchd.sinks.obstacles import missing_program, obstacles
from fetchd.sinks.webhook import WebhookOptions

AT_ONCE: Final = 16
EXPIRES_SOON: Final = timedelta(days=14)
NAMED: Final = 5
"""Who needs a server is told by name up to so many."""

_TIMEOUTS: Final = Timeouts()

Tell = Callable[[int, int], None]
"""Is told how many of how many servers have been connected to."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was found out about one server or one sink."""

    level: Literal["ok", "warning", "failed"]
    text: str

    def __str__(self) -> str:
        """Return it as one line."""
        return f"{self.level} {self.text}"


@dataclass(frozen=True, slots=True)
class _Need:
    """Somebody, by the key of the configuration, needs ``url`` to be reached over ``network`` within some seconds."""

    who: str
    url: str
    network: Network
    within: float


@dataclass(slots=True)
class _Server:
    """An origin, as it is reached over one network: for all who need it, with the patience of the most patient."""

    origin: Origin
    network: Network
    within: float = 0.0
    users: list[str] = field(default_factory=list)

    def named(self) -> str:
        """Return who needs it."""
        more = len(self.users) - NAMED
        return ", ".join(self.users[:NAMED]) + (f" and {more} more" if more > 0 else "")


async def look(config: Config, now: datetime, tell: Tell) -> AsyncGenerator[Verdict, None]:
    """Yield what can be told of each server and each sink that ``config`` names; of sinks only what is in their way.

    Nothing is sent to servers but what a connection takes, each within its connect timeout. Nothing is made or changed.

    Raises:
        OSError: the configured CAs cannot be read any more.
    """
    for problem in _idle(config):
        yield Verdict("failed", problem)
    servers: dict[tuple[Origin, Network], _Server] = {}
    for need in _needs(config):
        try:
            origin = Origin.of(need.url)
        except FetchError as error:
            yield Verdict("failed", f"{need.who}: {error}")
            continue
        server = servers.setdefault((origin, need.network), _Server(origin, need.network))
        server.within = max(server.within, need.within)
        server.users += [need.who] if need.who not in server.users else []
    names = Names(tuple(config.dns.nameservers), config.dns.timeout, config.dns.attempts)
    proxies = Proxies.of({name: value.reveal() for name, value in config.proxies.items()})
    async with open_transport(ClientOptions(names, config.daemon.ca_file, proxies=proxies)) as transport:
        async for verdict in _reached(transport, list(servers.values()), now, tell):
            yield verdict


async def _reached(
    transport: Transport, servers: list[_Server], now: datetime, tell: Tell
) -> AsyncGenerator[Verdict, None]:
    """Connect to some servers at a time; what comes of it is told in their order."""
    places = asyncio.Semaphore(AT_ONCE)
    done = 0

    async def one(server: _Server) -> Verdict:
        nonlocal done
        async with places:
            verdict = await _connected(transport, server, now)
        done += 1
        tell(done, len(servers))
        return verdict

    tell(0, len(servers))
    tasks = [asyncio.create_task(one(server)) for server in servers]
    try:
        for task in tasks:
            yield await task
    finally:
        for task in tasks:
            task.cancel()


async def _connected(transport: Transport, server: _Server, now: datetime) -> Verdict:
    timeouts = _TIMEOUTS.model_copy(update={"connect": server.within})
    limits = Limits(timeouts, max_body=0, redirects=0, allow_insecure_redirects=False, network=server.network)
    try:
        found = await reach(transport, server.origin, limits)
    except FetchError as error:
        return Verdict("failed", f"{server.origin}: {error} ({server.named()})")
    if found.expires is not None and found.expires - now < EXPIRES_SOON:
        days = max(0, (found.expires - now).days)
        text = f"{server.origin}: its certificate expires on {found.expires:%Y-%m-%d}, in {days} days"
        return Verdict("warning", f"{text} ({server.named()})")
    return Verdict("ok", f"{server.origin} ({', '.join(_facts(found, server))})")


def _facts(found: Reached, server: _Server) -> Iterator[str]:
    if found.proxy:
        yield f"through the proxy {found.proxy}"
    else:
        yield found.address or "a socket of this machine"
    if found.tls:
        yield found.tls
        if found.expires is not None:
            yield f"certificate until {found.expires:%Y-%m-%d}"
        elif server.network.tls.fingerprint is not None:
            yield "certificate as its fingerprint says"
        else:
            yield "certificate not checked"


def _needs(config: Config) -> Iterator[_Need]:
    """Yield everybody who asks a server for something. What a function, or apprise, asks for only they know."""
    for name, job in config.jobs.items():
        yield from _needs_of(f"jobs.{name}", job)
    for name, options in config.notifiers.items():
        if isinstance(options, WebhookNotifierOptions):
            within = _TIMEOUTS.shrunk_to(options.deadline).connect
            yield _Need(f"notifiers.{name}", options.url.reveal(), DIRECT, within)
    if config.daemon.ping is not None:
        yield _Need("daemon.ping", config.daemon.ping.reveal(), DIRECT, _TIMEOUTS.connect)


def _needs_of(key: str, job: Job) -> Iterator[_Need]:
    if job.url is not None:
        yield _Need(key, job.url.reveal(), Network.of(job), job.timeout.connect)
    if isinstance(job.auth, OAuth2Auth):
        yield _Need(f"{key}.auth", job.auth.token_url.reveal(), token_network(job, job.auth), job.timeout.connect)
    if job.ping is not None:
        yield _Need(f"{key}.ping", job.ping.reveal(), DIRECT, _TIMEOUTS.connect)
    for name, options in zip(job.sink_names(), job.sinks, strict=True):
        if isinstance(options, WebhookOptions):
            yield _Need(f"{key}.sinks.{name}", options.url.reveal(), DIRECT, options.timeout.connect)


def _idle(config: Config) -> Iterator[str]:
    """Yield what is in the way of sinks and of notifiers on this machine."""
    out: Path = config.daemon.state_dir / "out"
    for job in config.jobs.values():
        for name, options in zip(job.sink_names(), job.sinks, strict=True):
            yield from (f"jobs.{job.name}.sinks.{name}: {problem}" for problem in obstacles(options, out))
    for name, notifier in config.notifiers.items():
        if isinstance(notifier, CommandNotifierOptions):
            problems = missing_program(notifier.argv, out, notifier.env)
            yield from (f"notifiers.{name}: {problem}" for problem in problems)
