"""Since when each job is to be run, kept over restarts: one that has never succeeded can be overdue as well."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Final

from fetchd.store import Store

PREFIX: Final = "known."

Note = Callable[[str, str | None], None]
"""Keeps a text under a name, or forgets it."""


class Known:
    """Since when jobs are known; ``noted`` is what was kept by earlier processes, by name."""

    def __init__(self, note: Note, noted: Mapping[str, str]) -> None:
        self._note = note
        self._since = {name.removeprefix(PREFIX): _time(text) for name, text in noted.items()}

    @classmethod
    async def load(cls, store: Store) -> Known:
        """Read what is kept.

        Raises:
            StoreError: it cannot be read.
        """
        return cls(store.note, await store.notes(PREFIX))

    def meet(self, jobs: Iterable[str], now: datetime) -> None:
        """Know ``jobs`` from ``now`` on, as far as they are not known, and no other ones.

        Those that are known from a later time on were met while the clock was ahead: else no silence of theirs counted.
        """
        names = set(jobs)
        for name in self._since.keys() - names:
            del self._since[name]
            self._note(PREFIX + name, None)
        for name in names:
            if name not in self._since or self._since[name] > now:
                self.restart(name, now)

    def restart(self, job: str, now: datetime) -> None:
        """Know ``job`` anew from ``now`` on: its silence before does not count."""
        self._since[job] = now
        self._note(PREFIX + job, now.isoformat())

    def spare(self, job: str, now: datetime) -> None:
        """Take it that ``job`` was not to be run before ``now``. It is not kept: a new process would run it at once."""
        self._since[job] = max(now, self._since[job])

    def since(self, job: str) -> datetime:
        """Return since when ``job`` is known."""
        return self._since[job]


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)
