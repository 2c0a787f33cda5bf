"""What another configuration would change, and what became of it. Decisions without I/O."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Final, TypeVar

from pydantic import BaseModel

from fetchd.config import Config
from fetchd.job import Job

_LIVE: Final[Mapping[str, frozenset[str]]] = {
    "daemon": frozenset({"reload_on_change", "shutdown_grace"}),
    "dns": frozenset(),
    "log": frozenset({"level"}),
}
"""Of the tables that the process is built from, the keys that count without a restart."""
NAMED: Final = 10
"""Jobs that a line for people names; of further ones, only the number is told."""

M = TypeVar("M", bound=BaseModel)


class Why(StrEnum):
    """What asked for a reload."""

    SIGNAL = "signal"
    VERB = "verb"
    FILE = "file"
    SECRETS = "secrets"


@dataclass(frozen=True, slots=True)
class Changes:
    """Which jobs come, change and go; ``restart_needed`` names the keys that count only after a restart."""

    added: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    unchanged: int = 0
    restart_needed: tuple[str, ...] = ()


def compare(before: Config, after: Config) -> tuple[Config, Changes]:
    """Return what of ``after`` can be put in force in place of ``before``, and what that changes.

    A job that is the same is the very same value in both: what was worked out for it still holds.
    """
    jobs = {name: job if before.jobs.get(name) != job else before.jobs[name] for name, job in after.jobs.items()}
    tables: dict[str, Any] = {"jobs": jobs}
    fixed: list[str] = []
    for table, live in _LIVE.items():
        old, new = getattr(before, table), getattr(after, table)
        tables[table] = _kept(old, new, live)
        differing = (key for key in type(new).model_fields if getattr(tables[table], key) != getattr(new, key))
        fixed += [f"{table}.{key}" for key in differing]
    return after.model_copy(update=tables), _changes(before.jobs, jobs, tuple(fixed))


def _kept(old: M, new: M, live: frozenset[str]) -> M:
    """Return ``old`` with the keys of ``new`` that are ``live``."""
    return old.model_copy(update={key: getattr(new, key) for key in live})


def _changes(before: Mapping[str, Job], after: Mapping[str, Job], restart_needed: tuple[str, ...]) -> Changes:
    changed = tuple(name for name, job in after.items() if name in before and before[name] is not job)
    added = tuple(name for name in after if name not in before)
    removed = tuple(name for name in before if name not in after)
    return Changes(added, changed, removed, len(after) - len(added) - len(changed), restart_needed)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of a reload. ``generation`` counts the configurations that were put in force, the first one as 1.

    With ``findings``, or an ``error``, nothing was changed.
    """

    why: Why
    generation: int
    at: datetime
    changes: Changes = Changes()
    findings: tuple[str, ...] = ()
    error: str = ""

    @property
    def applied(self) -> bool:
        """Whether the configuration is in force as it was read."""
        return not self.findings and not self.error

    def lines(self) -> Iterator[str]:
        """Yield what it says to people."""
        if self.error:
            yield f"nothing was changed: {self.error}"
            return
        if self.findings:
            yield from self.findings
            return
        changes = self.changes
        parts = [f"{word} {_named(names)}" for word, names in _by_word(changes) if names]
        count = f"{changes.unchanged} job{'' if changes.unchanged == 1 else 's'} unchanged"
        yield f"configuration {self.generation} is in force: {'; '.join([*parts, count])}"
        if changes.restart_needed:
            yield f"needs a restart to count: {', '.join(changes.restart_needed)}"


def _by_word(changes: Changes) -> Iterator[tuple[str, tuple[str, ...]]]:
    yield "added", changes.added
    yield "changed", changes.changed
    yield "removed", changes.removed


def _named(names: tuple[str, ...]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more
