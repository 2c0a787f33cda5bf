"""The hosts that want no request for some time, and until when: over restarts, and however many there are."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from fetchd.clock import Clock
from fetchd.fetch.dates import LONGEST

PREFIX: Final = "held/"
"""What the names begin with under which times are kept."""
REMEMBERED_AT_MOST: Final = 4096
"""Hosts that have named a time: redirects may lead to any number of them."""

Keep = Callable[[str, str | None], None]
"""Keeps a text under a name over restarts; None forgets it."""


@dataclass(frozen=True, slots=True)
class _Hold:
    """``end`` is by the monotonic clock, which counts; ``until`` by the wall's, as it is shown and kept."""

    end: float
    until: datetime


class Holds:
    """For how long each host, by its name, wants no request."""

    def __init__(self, clock: Clock, kept: Mapping[str, str] | None = None, keep: Keep | None = None) -> None:
        """Begin with what an earlier process has given to `keep`."""
        self._clock = clock
        self._keep = keep
        self._holds: dict[str, _Hold] = {}
        for name, text in (kept or {}).items():
            self._recall(name.removeprefix(PREFIX), text)

    def __len__(self) -> int:
        return len(self._holds)

    def names(self) -> list[str]:
        """Return the hosts."""
        return list(self._holds)

    def left(self, name: str) -> float:
        """Return for how many seconds the host wants no request; 0 if it takes them."""
        if not self._holds or (hold := self._holds.get(name)) is None:
            return 0.0
        left = hold.end - self._clock.monotonic()
        if left <= 0:
            self.lift(name)
        return max(0.0, left)

    def until(self, name: str) -> datetime | None:
        """Return when the host takes requests again, by the clock as it was when it said so; None if it takes them."""
        return self._holds[name].until if self.left(name) else None

    def hold(self, name: str, seconds: float) -> bool:
        """Hold requests back for ``seconds``; return whether that is longer than they were."""
        if seconds <= self.left(name):
            return False
        if name not in self._holds and len(self._holds) >= REMEMBERED_AT_MOST:
            self.lift(min(self._holds, key=lambda known: self._holds[known].end))
        before = self._holds.get(name)
        until = _whole(self._clock.now() + timedelta(seconds=seconds))
        self._holds[name] = _Hold(self._clock.monotonic() + seconds, until)
        if self._keep is not None and (before is None or before.until != until):
            self._keep(PREFIX + name, json.dumps([until.isoformat(), seconds]))
        return True

    def move(self, name: str, other: str) -> None:
        """Let what holds for the host called ``name`` hold for ``other``, too."""
        self.hold(other, self.left(name))

    def lift(self, name: str) -> bool:
        """Hold nothing back any more; return whether anything was."""
        if self._holds.pop(name, None) is None:
            return False
        if self._keep is not None:
            self._keep(PREFIX + name, None)
        return True

    def _recall(self, name: str, text: str) -> None:
        """Go on with what was kept, for no longer than the host has asked: the clock may have been set back since."""
        try:
            written, seconds = json.loads(text)
            until, asked = datetime.fromisoformat(written), min(LONGEST, float(seconds))
            left = min(asked, (until - self._clock.now()).total_seconds())
        except (ValueError, TypeError):
            left = 0.0
        self._holds[name] = _Hold(self._clock.monotonic() + left, _whole(self._clock.now() + timedelta(seconds=left)))
        self.left(name)  # what is over is forgotten


def _whole(moment: datetime) -> datetime:
    """Return ``moment`` in whole seconds: fifty jobs that are told the same within one are one thing to write down."""
    return moment if not moment.microsecond else moment.replace(microsecond=0) + timedelta(seconds=1)
