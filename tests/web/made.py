"""A page with everything behind it but the daemon: a real board, a real store, and Runs that a test makes up."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import aiohttp

from fetchd.board import Board, Known, Sources
from fetchd.clock import FakeClock
from fetchd.config import values_of
from fetchd.errors import Reason
from fetchd.health import Health, Stage
from fetchd.job import Job
from fetchd.run import Outcome, Report, Run
from fetchd.secret import Redactor, Secret
from fetchd.store import Lane, Memory
from fetchd.store.letters import Letter
from fetchd.store.memory import MemoryStore
from fetchd.web import Limits, serve_page
from fetchd.web import Sources as PageSources

NOW: Final = datetime(2026, 3, 4, 3, 0, tzinfo=UTC)


def job(name: str, **keys: Any) -> Job:
    """Return a job that fetches each minute."""
    return Job(name=name, **{"url": Secret(f"http://upstream.test/{name}"), "interval": "1m"} | keys)


async def up() -> tuple[str, Sequence[bytes]]:
    """Return metrics of one line."""
    return "text/plain; version=0.0.4", [b"up 1\n"]


@dataclass
class House:
    """What a page is made of; a test changes it before, or while, the page is served."""

    jobs: Mapping[str, Job]
    clock: FakeClock = field(default_factory=lambda: FakeClock(NOW))
    store: MemoryStore = field(default_factory=MemoryStore)
    slots: dict[str, datetime] = field(default_factory=dict)
    remembered: dict[str, Memory] = field(default_factory=dict)
    history: Callable[[str, int], Awaitable[Sequence[Report]]] | None = None
    lanes: Sequence[Lane] = ()
    letters: Sequence[Letter] = ()
    secrets: Sequence[str] = ()
    late: float = 0.0
    unwritable: str = ""
    held: dict[str, datetime] = field(default_factory=dict)
    metrics: Callable[[], Awaitable[tuple[str, Sequence[bytes]]]] = up

    def __post_init__(self) -> None:
        known = Known(self.store.note, {})
        sources = Sources(
            self.recall, lambda: self.slots, lambda: [set(self.jobs)], known, held_until=lambda jobs: self.held
        )
        self.board = Board(self.jobs, Path("/etc/fetchd/config.toml"), sources, self.clock)
        self.health = Health(
            late=lambda: self.late, lag=lambda: 0.0, stuck=lambda: (), unwritable=lambda: self.unwritable
        )
        self.health.stage = Stage.RUNNING

    def recall(self, name: str) -> Memory:
        """Return what the store remembers, unless the test says what that is."""
        return self.remembered.get(name) or self.store.recall(name)

    def sources(self) -> PageSources:
        """Return whom the page asks."""
        return PageSources(
            history=self.history or self.store.history,
            lanes=self._lanes,
            letters=lambda name: [letter for letter in self.letters if letter.job == name],
            values=values_of,
            redact=Redactor(self.secrets),
            metrics=self.metrics,
        )

    async def _lanes(self) -> Sequence[Lane]:
        return self.lanes

    def ran(self, name: str, outcome: Outcome = Outcome.SUCCEEDED, message: str = "", **more: Any) -> Report:
        """Make up a Run that took a second."""
        report = self.past(name, outcome, 1.0, message=message, **more)
        self.clock.advance(1.0)
        return report

    def past(self, name: str, outcome: Outcome, duration: float, **more: Any) -> Report:
        """Make up a Run that took its time, but none of the clock's."""
        run = Run(f"run-{self.clock.monotonic():.0f}", name, self.clock.now())
        self.board.started(run)
        report = Report(run, outcome, started=self.clock.now(), duration=duration, **more)
        self.store.finish(report)
        self.board.finished(report)
        return report

    def failed(self, name: str, message: str = "no answer within 5 s") -> Report:
        """Make up a Run that failed."""
        return self.ran(name, Outcome.FETCH_FAILED, message, reason=Reason.TIMEOUT_READ, phase="headers")

    @asynccontextmanager
    async def served(self, listen: str = "127.0.0.1:0", limits: Limits | None = None) -> AsyncIterator[Client]:
        """Serve the page; yield what asks it."""
        address = serve_page(self.board, self.health, self.sources(), listen=listen, limits=limits or Limits())
        async with address as url, aiohttp.ClientSession() as session:
            yield Client(url, session)


@dataclass(frozen=True)
class Client:
    """Asks a page as any client would."""

    url: str
    session: aiohttp.ClientSession

    @property
    def port(self) -> int:
        """Where the page is served."""
        return int(self.url.rstrip("/").rpartition(":")[2])

    async def get(self, path: str, **more: Any) -> aiohttp.ClientResponse:
        """Return the response, its body read."""
        async with self.session.request(more.pop("method", "GET"), self.url + path.lstrip("/"), **more) as response:
            await response.read()
            return response

    async def text(self, path: str, **more: Any) -> str:
        """Return the body of a good response."""
        response = await self.get(path, **more)
        assert response.status == 200, await response.text()
        return await response.text()

    async def json(self, path: str) -> Any:
        """Return what a good response says."""
        response = await self.get(path)
        assert response.status == 200, await response.text()
        assert response.content_type == "application/json"
        return await response.json()

    async def raw(self, request: bytes) -> bytes:
        """Send bytes as they are and return all that comes until the end."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            writer.write(request)
            return await reader.read()
        finally:
            writer.close()


def lane(name: str, sink: str, count: int) -> Lane:
    """Return a lane that is owed ``count`` deliveries."""
    return Lane(name, sink, count, 100 * count, NOW + timedelta(seconds=30))
