"""The Runs that are alive, and the watch over them: what outlives its deadline is noticed, and in the end given up."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, Protocol

from fetchd.clock import Clock
from fetchd.errors import FetchdError
from fetchd.job import Job
from fetchd.run import Progress, Run

BACKSTOP_EVERY: Final = 0.1
GIVE_UP_AFTER: Final = 0.5
"""Seconds after its deadline at which a Run that ignores its cancellation is given up."""
STUCK_AT_MOST: Final = 10
"""Runs that were given up and live on: with more, the process ends, for its supervisor to start a clean one."""
STACK_AT_MOST: Final = 30


class Turn(Protocol):
    """A Run's turn at its host."""

    async def taken(self) -> None:
        """Return once the host's politeness lets the Run begin."""

    def release(self) -> None:
        """Let the next one have it; once is enough."""


class TooManyStuckError(FetchdError):
    """So many Runs ignore their cancellation that only a new process can help."""


@dataclass(slots=True, eq=False)
class Live:
    """A Run in progress: what the backstop, the drain and the next slot need to know of it.

    ``began`` and ``deadline`` are by the monotonic clock, ``waited`` in seconds. ``removed`` says that its job is no
    longer wanted, ``idle`` that it waits, and nothing of it is under way.
    """

    run: Run
    job: Job
    task: asyncio.Task[object]
    progress: Progress = field(default_factory=Progress)
    started: datetime | None = None
    began: float = 0.0
    waited: float = 0.0
    deadline: float | None = None
    expired: bool = False
    given_up: bool = False
    by_hand: bool = False
    turn: Turn | None = None
    queued: float = 0.0
    removed: bool = False
    has_place: bool = False
    idle: bool = False


class LiveRuns:
    """The table of Runs in progress, at most one of each job."""

    def __init__(self, clock: Clock, give_up: Callable[[Live], None]) -> None:
        """Begin without any. ``give_up`` is told of a Run that does not end, once."""
        self._clock = clock
        self._give_up = give_up
        self._live: dict[str, Live] = {}
        self._stuck = asyncio.Event()
        self._draining = False

    def __len__(self) -> int:
        return len(self._live)

    def __contains__(self, job: str) -> bool:
        return job in self._live

    def of(self, job: str) -> Live | None:
        """Return the Run of ``job`` that is alive."""
        return self._live.get(job)

    def add(self, live: Live) -> None:
        """Watch over a Run."""
        self._live[live.job.name] = live

    def remove(self, live: Live) -> None:
        """Forget a Run, which has ended."""
        del self._live[live.job.name]

    @property
    def stuck(self) -> list[str]:
        """The jobs whose Run was given up and lives on."""
        return [name for name, live in self._live.items() if live.given_up]

    async def backstop(self) -> None:
        """Watch for Runs that outlive their deadline, for as long as the daemon runs.

        Raises:
            TooManyStuckError: more of them ignore their cancellation than can be borne.
        """
        while True:
            await asyncio.sleep(BACKSTOP_EVERY)
            now = self._clock.monotonic()
            for live in list(self._live.values()):
                if live.deadline is None or now < live.deadline + BACKSTOP_EVERY:
                    continue
                live.expired = True
                live.task.cancel()  # again: user code may have swallowed the first one
                if now >= live.deadline + GIVE_UP_AFTER and not live.given_up:
                    live.given_up = True
                    self._stuck.set()
                    self._give_up(live)
            if len(self.stuck) > STUCK_AT_MOST:
                raise TooManyStuckError(f"more than {STUCK_AT_MOST} runs ignore their cancellation")

    async def until_stuck(self) -> None:
        """Return once a Run had to be given up."""
        await self._stuck.wait()

    async def cancel(self, jobs: Iterable[str]) -> list[str]:
        """End the Runs of ``jobs``, which are no longer wanted; return those whose Run does not end."""
        wanted = [live for name in jobs if (live := self._live.get(name)) is not None]
        for live in wanted:
            live.removed = True
            live.task.cancel()
        if wanted:
            await asyncio.wait({live.task for live in wanted}, timeout=GIVE_UP_AFTER)
        return [live.job.name for live in wanted if not live.task.done()]

    @contextmanager
    def idle(self, live: Live) -> Iterator[None]:
        """Mark that a Run waits for its next attempt, or for its turn, and does nothing else meanwhile."""
        live.idle = True
        if self._draining:
            live.task.cancel()
        try:
            yield
        finally:
            live.idle = False

    async def drain(self, grace: float) -> None:
        """Let Runs end by themselves for ``grace`` seconds, then cancel the others and wait a moment for them.

        Runs that wait for a place have not begun, and idle ones have nothing under way, now or later: they are
        cancelled at once.
        """
        self._draining = True
        for live in self._live.values():
            if live.started is None or live.idle:
                live.task.cancel()
        tasks = {live.task for live in self._live.values() if not live.given_up}
        if tasks:
            await asyncio.wait(tasks, timeout=grace)
        late = [live for live in self._live.values() if not live.given_up]
        for live in late:
            live.task.cancel()
        if late:
            await asyncio.wait({live.task for live in late}, timeout=GIVE_UP_AFTER)


def stack_of(task: asyncio.Task[object]) -> str:
    """Return where ``task`` waits: the chain of awaits from its Run down, without local values."""
    lines: list[str] = []
    waiting: object = task.get_coro()
    while waiting is not None and len(lines) < STACK_AT_MOST:
        frame = getattr(waiting, "cr_frame", None) or getattr(waiting, "gi_frame", None)
        if frame is not None:
            lines.append(f"{frame.f_code.co_filename}:{frame.f_lineno} in {frame.f_code.co_name}")
        waiting = getattr(waiting, "cr_await", None) or getattr(waiting, "gi_yieldfrom", None)
    return "\n".join(lines)
