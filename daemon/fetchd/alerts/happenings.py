"""What has happened, and neither lasts nor ends: counted until people are told, and both kept over restarts."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import structlog

from fetchd.alerts.troubles import Change, Key, News, Policy
from fetchd.alerts.words import LONGEST, Redact
from fetchd.clock import Clock
from fetchd.errors import StoreError
from fetchd.store import Store

log = structlog.get_logger()

PREFIX: Final = "alerts/once/"


@dataclass(slots=True)
class _Happened:
    """What happened ``count`` times since people were told, the last time at ``at``; ``told`` is when that was."""

    told: datetime | None = None
    count: int = 0
    at: datetime | None = None
    reason: str = ""
    message: str = ""


class Happenings:
    """What has happened, by job and kind. A process that dies again and again must not tell of it each time."""

    def __init__(self, store: Store, clock: Clock, redact: Redact) -> None:
        self._store = store
        self._clock = clock
        self._redact = redact
        self._by_key: dict[Key, _Happened] = {}

    async def load(self) -> None:
        """Learn what happened in earlier processes; once."""
        try:
            notes = await self._store.notes(PREFIX)
        except StoreError:
            return  # the store says so itself
        for name, value in notes.items():
            job, _, kind = name.removeprefix(PREFIX).partition("/")
            if (happened := _read(name, value)) is not None:
                self._by_key[job, kind] = happened

    def happened(self, key: Key, reason: str, message: str) -> None:
        """Take note that something has happened, once more."""
        happened = self._by_key.setdefault(key, _Happened())
        happened.count += 1
        happened.at, happened.reason, happened.message = self._clock.now(), reason, message
        self._keep(key, happened)

    def news(self, policy_of: Callable[[str], Policy], now: datetime) -> list[News]:
        """Return what is to be told now: no more often than people are reminded of what lasts."""
        return [
            News(*key, Change.ONCE, one.at, one.reason, one.message, one.count)
            for key, one in self._by_key.items()
            if one.at is not None and _is_due(one, policy_of(key[0]), now)
        ]

    def told(self, key: Key, now: datetime) -> None:
        """Note that people have been told."""
        self._by_key[key] = happened = _Happened(told=now)
        self._keep(key, happened)

    def forget(self, keep: Callable[[Key], bool]) -> None:
        """Forget what is not to be kept, without a word."""
        for key in [key for key in self._by_key if not keep(key)]:
            del self._by_key[key]
            self._store.note(_name(key), None)

    def _keep(self, key: Key, happened: _Happened) -> None:
        value = {
            "told": _text(happened.told),
            "count": happened.count,
            "at": _text(happened.at),
            "reason": happened.reason,
            "message": str(self._redact(happened.message))[:LONGEST],
        }
        self._store.note(_name(key), json.dumps(value))


def _is_due(happened: _Happened, policy: Policy, now: datetime) -> bool:
    if policy.quiet:
        return False
    # Of a clock that was set far back people hear at once, not once it has caught up.
    return happened.told is None or abs((now - happened.told).total_seconds()) >= policy.reminder


def _name(key: Key) -> str:
    return f"{PREFIX}{key[0]}/{key[1]}"


def _text(moment: datetime | None) -> str | None:
    return moment.isoformat() if moment else None


def _moment(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None


def _read(name: str, value: str) -> _Happened | None:
    try:
        read: Mapping[str, Any] = json.loads(value)
        told, at = _moment(read["told"]), _moment(read["at"])
        return _Happened(told, int(read["count"]), at, str(read["reason"]), str(read["message"]))
    except (KeyError, TypeError, ValueError) as error:
        log.warning("notes_unreadable", note=name, message=f"what happened before is not known: {error}")
        return None
