"""What people know, kept in the store's notes over restarts."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, Final

import structlog

from fetchd.alerts.troubles import DAEMON, FAILING, SINK, Key, Trouble
from fetchd.alerts.words import LONGEST, Redact, lasted
from fetchd.errors import StoreError
from fetchd.job import Job
from fetchd.run import Outcome
from fetchd.store import Memory, Store

log = structlog.get_logger()

ALIVE: Final = "alerts/alive"
RUNS: Final = "alerts/runs"
"""Noted while the daemon runs: what is there at the start was left by a process that did not stop in order."""
REPLACED: Final = "replaced"
"""What is noted there of one that was ended for its loop: starts that fail must not forget why, nor count as more."""
STALLED: Final = "the loop of the process before this one stood still, so that it was replaced; the log tells where"
CUT_OFF: Final = "the process before this one did not stop in order: killed, out of memory, failed, or without power"
TOLD: Final = "alerts/told/"
NOT_FAILED: Final = frozenset({Outcome.CANCELLED, Outcome.SKIPPED})
"""Outcomes that say nothing of a job."""
LOOKED_AT: Final = 5
"""Last Runs of a job among which one has failed, if the job fails: others were cut off, or skipped."""

_UNKNOWN: Final = datetime.min.replace(tzinfo=UTC)


def keep(store: Store, key: Key, trouble: Trouble, redact: Redact) -> None:
    """Note that people know of ``trouble``."""
    value = {
        "since": trouble.since.isoformat(),
        "told": trouble.told.isoformat() if trouble.told else None,
        "reason": trouble.reason,
        "message": str(redact(trouble.message))[:LONGEST],
        "count": trouble.count,
        "hushed": trouble.hushed,
        "to": trouble.to,
    }
    store.note(_name(key), json.dumps(value))


def forget(store: Store, key: Key) -> None:
    """Note that people know of nothing wrong there."""
    store.note(_name(key), None)


async def became(store: Store, now: datetime, down_after: float, *, stalled: bool) -> list[tuple[str, str]]:
    """Return what became of the process before this one: the kind of each trouble, and words. None if all was in order.

    ``stalled`` says that it was ended for its loop; a stop for less than ``down_after`` seconds is nobody's business.
    """
    try:
        notes = {**await store.notes(ALIVE), **await store.notes(RUNS)}
    except StoreError:
        return []  # the store says so itself
    found = []
    if stalled:
        store.note(RUNS, REPLACED)
    if stalled or notes.get(RUNS) == REPLACED:
        found.append(("stall", STALLED))
    elif RUNS in notes:
        log.warning("daemon_cut_off", message=CUT_OFF)
        found.append(("killed", CUT_OFF))
    with suppress(KeyError, ValueError):
        since = datetime.fromisoformat(notes[ALIVE])
        if (now - since).total_seconds() >= down_after:
            found.append(("down", f"the daemon was down for {lasted(since, now)}"))
    return found


async def recalled(store: Store, jobs: Mapping[str, Job]) -> dict[Key, Trouble]:
    """Return all that is wrong and all that people know of, from before this process."""
    try:
        notes = await store.notes(TOLD)
    except StoreError:
        return {}  # the store says so itself
    known = {_key(name): trouble for name, value in notes.items() if (trouble := _read(name, value)) is not None}
    for (subject, kind), trouble in known.items():
        # What a sink is owed is tried again, and what is wrong with the daemon is said again. Where nothing is owed
        # because it was given up, nobody has seen that the sink takes anything.
        if kind.startswith(SINK):
            trouble.on = bool(store.recall(subject).owed or store.recall(subject).dead)
        elif subject != DAEMON and kind == FAILING:
            trouble.on = not _succeeded_since(store.recall(subject), trouble)
    unknown: dict[str, Trouble] = {}
    for name in jobs:
        memory = store.recall(name)
        key = (name, FAILING)
        if key in known:
            known[key].count = max(memory.failures, known[key].count)  # a reload may have forgiven some
        elif memory.failures:
            known[key] = unknown[name] = Trouble(memory.failing_since or _UNKNOWN, count=memory.failures, fresh=False)
    if unknown:
        await _learn(store, unknown)
    return known


def _succeeded_since(memory: Memory, trouble: Trouble) -> bool:
    """Return whether a job has done well since it began to fail.

    That no failures in a row are counted tells nothing: a reload forgives them, and what no sink took is none of them.
    """
    return not memory.failures and memory.last_success is not None and memory.last_success >= trouble.since


async def _learn(store: Store, unknown: Mapping[str, Trouble]) -> None:
    """Learn why these jobs failed the last time; without that they are told of only when they fail again."""
    try:
        reports = await store.recent(LOOKED_AT)
    except StoreError:
        return
    for report in reports:
        trouble = unknown.get(report.run.job)
        if trouble is not None and not report.outcome.good and report.outcome not in NOT_FAILED:
            trouble.reason = str(report.reason or report.outcome)
            trouble.message, trouble.fresh = report.message, True


def _name(key: Key) -> str:
    return f"{TOLD}{key[0]}/{key[1]}"


def _key(name: str) -> Key:
    job, _, kind = name.removeprefix(TOLD).partition("/")
    return job, kind


def _read(name: str, value: str) -> Trouble | None:
    try:
        read: Mapping[str, Any] = json.loads(value)
        to = read.get("to")
        return Trouble(
            since=datetime.fromisoformat(read["since"]),
            reason=str(read["reason"]),
            message=str(read["message"]),
            count=int(read["count"]),
            told=datetime.fromisoformat(read["told"]),
            hushed=bool(read["hushed"]),
            to=None if to is None else tuple(map(str, to)),
        )
    except (KeyError, TypeError, ValueError) as error:
        log.warning("notes_unreadable", note=name, message=f"what people were told is not known: {error}")
        return None
