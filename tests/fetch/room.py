"""What the tests of fetching share: an open Fetcher, jobs in one line, and how a fetch has ended."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

import httpx
from aiohttp.abc import AbstractResolver

from fetchd.body import MemoryBudget
from fetchd.clock import SystemClock
from fetchd.errors import FetchError
from fetchd.fetch.client import GuardedClient
from fetchd.fetch.exchange import Limits
from fetchd.fetch.fetcher import Fetcher
from fetchd.fetch.hosts import Hosts
from fetchd.fetch.proxies import NO_PROXIES, Proxies
from fetchd.fetch.resolver import Names, Resolver
from fetchd.fetch.retry import Pace
from fetchd.fetch.spool import Spool
from fetchd.fetch.tls import Contexts, tls_context
from fetchd.fetch.transport import Transport
from fetchd.fetch.turns import HostLimits
from fetchd.job import Job
from fetchd.run import Fetched, Progress, Run
from fetchd.worker import Workers

if TYPE_CHECKING:
    from tests.upstream import UpstreamProcess  # slow to import, and not for the processes of `tests.fetch.child`

HOST: Final = "127.0.0.1"
MIB: Final = 2**20
RUN: Final = Run("run-1", "test", datetime(2026, 1, 1, tzinfo=UTC))
SHORT: Final = 0.25
"""Seconds of each timeout."""
DEADLINE: Final = 0.8
PATIENCE: Final = 10.0
TICK: Final = 0.005


def job(url: str | None = None, **keys: Any) -> Job:
    """Return a job with short timeouts and without retries, unless ``keys`` say otherwise."""
    given = {"name": "test", "url": url, "timeout": f"{int(SHORT * 1000)}ms", "retries": 0, **keys}
    return Job.model_validate({key: value for key, value in given.items() if value is not None})


def patient(url: str) -> Job:
    """Return a job that is to succeed, however busy the machine is; to be fetched with `PATIENCE`."""
    return job(url, timeout="5s")


def fetcher_over(
    transport: httpx.AsyncBaseTransport,
    folder: Path | None = None,
    jitter: Callable[[], float] = lambda: 0.0,
    hosts: Hosts | None = None,
) -> Fetcher:
    """Return a Fetcher that waits for no time between attempts, and spools bodies above 1 MiB to ``folder``."""
    folder = folder or Path(tempfile.gettempdir())
    return Fetcher(transport, Spool(folder, MIB, MemoryBudget(64 * MIB)), Workers(), hosts, pace=Pace(jitter=jitter))


def hosts_of(max_concurrent: Mapping[str, int]) -> Hosts:
    """Return hosts that take so many exchanges at one time."""
    return Hosts({name: HostLimits(most) for name, most in max_concurrent.items()}, SystemClock())


_tls = cache(tls_context)  # to read the system's certificates takes longer than most tests


@asynccontextmanager
async def connections(
    names: Names | None = None,
    ca_file: Path | None = None,
    max_concurrent: Mapping[str, int] = MappingProxyType({}),
    hosts: Hosts | None = None,
    proxies: Proxies = NO_PROXIES,
    ask: AbstractResolver | None = None,
) -> AsyncIterator[Transport]:
    """Give real connections, as `open_transport` does."""
    resolver = Resolver(names or Names(), ask)
    contexts = Contexts(_tls(ca_file), ca_file)
    limits = hosts or hosts_of(max_concurrent)
    transport = Transport(contexts=contexts, resolver=resolver, hosts=limits, proxies=proxies)
    try:
        yield transport
    finally:
        await transport.aclose()
        await resolver.close()


@asynccontextmanager
async def fetching(folder: Path | None = None, **options: Any) -> AsyncIterator[Fetcher]:
    """Give a Fetcher over real connections; ``options`` are theirs."""
    hosts = options.pop("hosts", None) or hosts_of(options.pop("max_concurrent", {}))
    async with connections(**options, hosts=hosts) as transport:
        yield fetcher_over(transport, folder, hosts=hosts)


@asynccontextmanager
async def guarded() -> AsyncIterator[GuardedClient]:
    """Give the client of a function, held to the limits of `job`."""
    async with connections() as transport:
        yield GuardedClient(transport, Limits.of(job("http://unused.test")), Progress())


@dataclass(slots=True)
class Ending:
    """How a fetch has ended: ``why`` is "ok", "nothing", "deadline" or a reason."""

    why: str
    took: float
    progress: Progress
    error: FetchError | None = None
    fetched: Fetched | None = None
    content: bytes = b""

    @property
    def phase(self) -> str:
        """Where the exchange was, as the runner would report it."""
        return (self.error.phase if self.error else "") or self.progress.phase


async def ending(fetcher: Fetcher, of: Job, deadline: float = DEADLINE) -> Ending:
    """Fetch once, under a deadline as the runner sets it, and return how that has ended."""
    progress = Progress()
    start = time.monotonic()
    fetched = None
    try:
        async with asyncio.timeout(deadline):
            fetched = await fetcher.fetch(of, RUN, progress)
    except TimeoutError:
        return Ending("deadline", time.monotonic() - start, progress)
    except FetchError as error:
        return Ending(str(error.reason), time.monotonic() - start, progress, error.with_traceback(None))
    took = time.monotonic() - start
    if fetched is None:
        return Ending("nothing", took, progress)
    content = await fetched.body.read()
    fetched.body.close()
    return Ending("ok", took, progress, None, fetched, content)


@dataclass(slots=True)
class Lag:
    """The longest time, in seconds of this thread's own work, for which the loop did not turn."""

    worst: float = 0.0


@asynccontextmanager
async def lag() -> AsyncIterator[Lag]:
    """Watch the loop. Work is counted, not the wall's time: other processes on the machine do not count."""
    seen = Lag()

    async def tick() -> None:
        while True:
            before = time.thread_time()
            await asyncio.sleep(TICK)
            seen.worst = max(seen.worst, time.thread_time() - before)

    ticker = asyncio.create_task(tick())
    await asyncio.sleep(0)
    try:
        yield seen
    finally:
        await asyncio.sleep(TICK)
        ticker.cancel()
        await asyncio.wait([ticker])


async def settled(tasks: set[asyncio.Task[Any]], descriptors: int, within: float = 5.0) -> None:
    """Wait until this process has no other tasks and no more descriptors than these; fail if that does not come."""
    end = time.monotonic() + within
    while extra := (asyncio.all_tasks() - tasks, len(os.listdir("/proc/self/fd")) - descriptors):
        if not extra[0] and extra[1] <= 0:
            return
        assert time.monotonic() < end, f"left: {extra}"
        await asyncio.sleep(0.01)


@contextmanager
def without_collector() -> Iterator[None]:
    """Keep the garbage collector off: what lives on does so for a reason."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


async def open_connections(upstream: UpstreamProcess) -> int:
    """Return how many connections the upstream has open."""
    return int((await asyncio.to_thread(upstream.stats))["open"])


@dataclass(slots=True)
class Scripted:
    """A server that answers what a test has written down. ``heads`` are the requests that came, without bodies."""

    url: str
    heads: list[bytes]


@asynccontextmanager
async def answering(*responses: bytes, close: bool = False) -> AsyncIterator[Scripted]:
    """Serve ``responses`` one after the other, then the last again and again; with ``close`` one a connection."""
    heads: list[bytes] = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.closing(writer), contextlib.suppress(OSError, EOFError):
            while True:
                heads.append(await reader.readuntil(b"\r\n\r\n"))
                writer.write(responses[min(len(heads), len(responses)) - 1])
                await writer.drain()
                if close:
                    return

    server = await asyncio.start_server(talk, HOST, 0)
    with contextlib.closing(server):  # not waiting, as newer Pythons do, for connections that clients keep
        yield Scripted(f"http://{HOST}:{server.sockets[0].getsockname()[1]}", heads)


def response(body: bytes = b"", *headers: str, status: int = 200) -> bytes:
    """Return a whole response as it goes over the wire."""
    lines = [f"HTTP/1.1 {status} Said", f"Content-Length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode("latin-1") + body
