"""The jobs in force, each with its open sinks: how one definition gives way to another while it is in use."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Protocol

import structlog

from fetchd.errors import SinkError
from fetchd.job import Job
from fetchd.run import Delivery, Report
from fetchd.sinks import Sink
from fetchd.targets import Target

log = structlog.get_logger()

Open = Callable[[Job], Mapping[str, Target]]
"""Opens the sinks of a job."""


class Act(Protocol):
    """Executes a job for a slot and returns how it ended; None if there was no Run."""

    async def __call__(self, job: Job, slot: datetime, *, by_hand: bool = False) -> Report | None:
        """Execute ``job``."""


@dataclass(slots=True, eq=False)
class Entry:
    """A definition with its open sinks. ``users`` are the Runs and tries under way that need them."""

    job: Job
    targets: Mapping[str, Target] = field(default_factory=dict)
    users: int = 0
    left: asyncio.Event | None = None
    closed: bool = False

    def take(self) -> None:
        """Note a user more."""
        self.users += 1

    def leave(self) -> None:
        """Note a user less."""
        self.users -= 1
        if self.left is not None:
            self.left.set()

    async def unused(self) -> None:
        """Return once there are no users."""
        self.left = asyncio.Event()
        while self.users:
            self.left.clear()
            await self.left.wait()


@dataclass(slots=True, eq=False)
class _Held:
    """A definition that a Run began with, until the Run ends."""

    entry: Entry
    count: int = 0
    ended: asyncio.Event = field(default_factory=asyncio.Event)


class _Watched:
    """A sink that is not closed under a try."""

    def __init__(self, sink: Sink, entry: Entry) -> None:
        self._sink = sink
        self._entry = entry

    async def deliver(self, delivery: Delivery) -> None:
        if self._entry.closed:
            raise SinkError("its configuration was replaced just now")
        self._entry.take()
        try:
            await self._sink.deliver(delivery)
        finally:
            self._entry.leave()

    async def aclose(self) -> None:
        await self._sink.aclose()


class Roster(Mapping[str, Mapping[str, Target]]):
    """The open sinks of each job, by name: those that its Run began with, as long as one is alive.

    ``jobs`` are the definitions in force; whoever holds that mapping sees each change.
    """

    def __init__(self, open_sinks: Open) -> None:
        self.jobs: dict[str, Job] = {}
        self._open = open_sinks
        self._entries: dict[str, Entry] = {}
        self._held: dict[str, _Held] = {}
        self._closing: dict[asyncio.Task[None], Entry] = {}

    def __getitem__(self, job: str) -> Mapping[str, Target]:
        held = self._held.get(job)
        return held.entry.targets if held else self._entries[job].targets

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def open(self, job: Job) -> Entry:
        """Open the sinks of ``job``; nothing is in force by that."""
        entry = Entry(job)
        opened = self._open(job)
        entry.targets = {name: replace(target, sink=_Watched(target.sink, entry)) for name, target in opened.items()}
        return entry

    def put(self, entry: Entry) -> Entry | None:
        """Put a definition in force and return the one whose place it takes."""
        name = entry.job.name
        before = self._entries.get(name)
        self._entries[name] = entry
        self.jobs[name] = entry.job
        return before

    def remove(self, name: str) -> Entry:
        """Take a definition out of force and return it."""
        del self.jobs[name]
        return self._entries.pop(name)

    def retire(self, entry: Entry) -> None:
        """Close the sinks of a definition that is not in force, as soon as no Run and no try needs them."""
        task = asyncio.create_task(self._close_unused(entry), name=f"close {entry.job.name}")
        self._closing[task] = entry
        task.add_done_callback(lambda done: self._closing.pop(done, None))

    @contextmanager
    def held(self, name: str) -> Iterator[Job | None]:
        """Keep a definition and its sinks as they are for a Run; None if there is no such job.

        A second one that comes meanwhile is given the definition in force, but no sinks of its own: all that it finds
        is that a Run is alive.
        """
        entry = self._entries.get(name)
        if entry is None:
            yield None
            return
        held = self._held.setdefault(name, _Held(entry))
        held.count += 1
        entry.take()
        try:
            yield entry.job
        finally:
            entry.leave()
            held.count -= 1
            if not held.count:
                del self._held[name]
                held.ended.set()

    async def idle(self, name: str) -> None:
        """Return once no Run holds a definition of ``name``."""
        while (held := self._held.get(name)) is not None:
            await held.ended.wait()

    async def aclose(self) -> None:
        """Close all that is open, whether it is in use or not: nothing runs any more."""
        left = [*self._closing.values(), *self._entries.values()]
        for task in list(self._closing):
            task.cancel()
        for entry in left:
            await _close(entry)

    async def _close_unused(self, entry: Entry) -> None:
        await entry.unused()
        await _close(entry)


class Runs:
    """Runs jobs by the definition that is in force when each Run begins."""

    def __init__(self, roster: Roster, act: Act) -> None:
        self._roster = roster
        self._act = act

    async def run(self, job: Job, slot: datetime, *, by_hand: bool = False) -> Report | None:
        """Run the job that is called as ``job`` for ``slot``; None if there was no Run."""
        with self._roster.held(job.name) as current:
            return await self._act(current, slot, by_hand=by_hand) if current else None


async def _close(entry: Entry) -> None:
    if entry.closed:
        return
    entry.closed = True
    for name, target in entry.targets.items():
        try:
            await target.sink.aclose()
        except Exception:
            log.exception("sink_not_closed", job=entry.job.name, sink=name)
