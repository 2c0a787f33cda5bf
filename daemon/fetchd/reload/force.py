"""Puts another set of jobs in force, whole or not at all, while Runs are under way."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import ExitStack
from typing import Final, Protocol

import structlog

from fetchd.config import Config
from fetchd.job import Job
from fetchd.reload.changes import Changes
from fetchd.roster import Entry, Roster

log = structlog.get_logger()

STEPS_A_TURN: Final = 20
"""Jobs that are opened, armed or taken away within one turn of the loop."""

Cancel = Callable[[Iterable[str]], Awaitable[Sequence[str]]]
"""Ends the Runs of jobs, within a moment, and returns those whose Run does not end."""
Follow = Callable[[Config], None]
"""Goes by another configuration from here on."""


class Timetable(Protocol):
    """Fires the slots of jobs."""

    def add(self, job: Job) -> None:
        """Arm a job."""

    def replace(self, job: Job) -> None:
        """Let ``job`` take the place of the one of its name."""

    def remove(self, name: str) -> None:
        """Fire no further slot of a job."""


class Force:
    """The jobs that are in force. ``follow`` are told of each other configuration, in order."""

    def __init__(self, roster: Roster, timetable: Timetable, cancel: Cancel, follow: Sequence[Follow] = ()) -> None:
        self._roster = roster
        self._timetable = timetable
        self._cancel = cancel
        self._follow = follow

    async def apply(self, before: Config, after: Config, changes: Changes) -> None:
        """Put ``after`` in force in place of ``before``; ``changes`` is what they differ in.

        What can fail comes first. If something fails all the same, everything is put back as it was; Runs that were
        cancelled by then are lost.
        """
        opened: list[Entry] = []
        with ExitStack() as undo:
            for count, name in enumerate((*changes.changed, *changes.added), start=1):
                opened.append(self._roster.open(after.jobs[name]))
                undo.callback(self._roster.retire, opened[-1])
                await _breathe(count)
            retired = await self._remove(changes.removed, undo)
            for count, entry in enumerate(opened, start=1):
                if old := self._put(entry, undo):
                    retired.append(old)
                await _breathe(count)
            for follow in self._follow:
                undo.callback(follow, before)
                follow(after)
            undo.pop_all()
        for entry in retired:
            self._roster.retire(entry)

    async def _remove(self, names: Sequence[str], undo: ExitStack) -> list[Entry]:
        """Take jobs away, and end their Runs: under another name one of them may be about to come again."""
        entries: list[Entry] = []
        for count, name in enumerate(names, start=1):
            self._timetable.remove(name)
            undo.callback(self._timetable.add, self._roster.jobs[name])
            # Before the Runs are ended: a task that was started but has not begun is to find no such job any more.
            entries.append(self._roster.remove(name))
            undo.callback(self._roster.put, entries[-1])
            await _breathe(count)
        if names and (left := await self._cancel(names)):
            log.error("runs_left_behind", jobs=list(left), count=len(left))
        return entries

    def _put(self, entry: Entry, undo: ExitStack) -> Entry | None:
        """Put one definition in force, and return the one whose place it takes."""
        before = self._roster.put(entry)
        if before is None:
            undo.callback(self._roster.remove, entry.job.name)
            self._timetable.add(entry.job)
            undo.callback(self._timetable.remove, entry.job.name)
        else:
            undo.callback(self._roster.put, before)
            self._timetable.replace(entry.job)
            undo.callback(self._timetable.replace, before.job)
        return before


async def _breathe(count: int) -> None:
    """Let the loop turn now and then: a thousand jobs at once would make every Run late."""
    if count % STEPS_A_TURN == 0:
        await asyncio.sleep(0)
