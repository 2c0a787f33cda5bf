"""The files that secrets come from: which of them hold something else by now."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from fetchd.config.source import Stamp

Key = tuple[str, str]
"""A secret: its kind, and its name within it."""


class Secrets(Protocol):
    """Looks at the files of secrets."""

    def stamp(self, kind: str = "", name: str = "") -> Stamp | None:
        """Return what tells one state of the file from another; None without a file."""

    def secret(self, kind: str, name: str) -> str | None:
        """Return the secret; None while it is missing or empty."""


@dataclass(frozen=True, slots=True)
class Look:
    """What was found: secrets with another value, those that have just gone, and whether there is something to do."""

    changed: frozenset[Key] = frozenset()
    gone: frozenset[Key] = frozenset()


class SecretFiles:
    """Looks again and again. A file counts once it looks the same twice: until then somebody may be writing it.

    A secret that is missing or empty keeps the value it had; that it is gone is told once.
    """

    def __init__(self, secrets: Secrets) -> None:
        self._secrets = secrets
        self._seen: dict[Key, Stamp | None] = {}
        self._judged: dict[Key, Stamp] = {}
        self._gone: set[Key] = set()
        self._refused: frozenset[Key] = frozenset()

    def look(self, known: Mapping[Key, str]) -> Look:
        """Return what is other than ``known``. It reads files: not for the loop."""
        changed: set[Key] = set()
        gone: set[Key] = set()
        judged = False
        for key, value in known.items():
            stamp = self._secrets.stamp(*key)
            settled = key in self._seen and self._seen[key] == stamp
            self._seen[key] = stamp
            if not settled:
                continue
            if stamp is not None and self._judged.get(key) == stamp:
                self._gone.discard(key)
                continue
            found = self._secrets.secret(*key) if stamp is not None else None
            if stamp is None or found is None:
                gone.add(key)
                continue
            judged = True
            self._judged[key] = stamp
            if found != value:
                changed.add(key)
        told, self._gone = self._gone, (self._gone | gone) - self._back(known)
        return Look(frozenset(changed | self._refused if judged else changed), frozenset(gone - told))

    def refuse(self, changed: frozenset[Key]) -> None:
        """Note that these values could not be taken over: they are offered again once any of the files has changed."""
        self._refused = changed

    def _back(self, known: Mapping[Key, str]) -> set[Key]:
        return {key for key in known if key in self._judged and self._judged[key] == self._seen.get(key)}
