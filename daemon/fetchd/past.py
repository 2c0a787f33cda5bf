"""What was, told on the command line: how Runs ended, and the deliveries that were given up."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from fetchd.board.known import PREFIX
from fetchd.errors import ConfigError, Finding, StoreError
from fetchd.log import printable
from fetchd.run import Report
from fetchd.shorten import meant, shortened
from fetchd.store import letters
from fetchd.units import format_duration

SHOWN: Final = 2000
_SEARCHED: Final = 16 * SHOWN
ALL: Final = 1_000_000
"""More than the bounded history of a job ever holds."""


def history(state_dir: Path, job: str, limit: int, *, failures: bool) -> Iterator[str]:
    """Yield a line for each of the last Runs of ``job``, the newest first, and one for the slots that were skipped.

    Raises:
        StoreError: nothing has been kept yet, or it cannot be read; so do all the functions here.
    """
    kept = letters.history(state_dir, job, ALL if failures else limit)
    reports = [report for report in kept if not (failures and report.outcome.good)][:limit]
    yield from map(_line, reports)
    if not reports:
        yield f"{job}: no run is on record"
    skipped = letters.skipped(state_dir, job)
    if skipped:
        yield "skipped: " + ", ".join(f"{count} x {reason}" for reason, count in skipped.items())


def look_for(job: str, state_dir: Path, configured: Iterable[str], source: Path) -> None:
    """Do nothing if there is a ``job``, or was: one of those that are ``configured``, or that anything is kept of.

    Raises:
        ConfigError: there is none; the finding is one of ``source``, where it was looked for.
    """
    names = {*configured, *letters.jobs(state_dir, PREFIX)}
    if job not in names:
        message = f"there is no such job, and none is on record; {meant(job, names)}"
        raise ConfigError([Finding(str(source), None, f"jobs.{job}", message)])


def dead_list(state_dir: Path, job: str | None) -> Iterator[str]:
    """Yield a line for each dead letter, of ``job`` or of all."""
    found = letters.dead_letters(state_dir, job)
    for letter in found:
        since = letter.since.isoformat(sep=" ", timespec="seconds")
        tries = _count(letter.attempts, "try", "tries")
        yield f"{letter.id}  {letter.bytes} bytes since {since}, {tries}: {letter.error}"
    if not found:
        yield "no dead letters"


def dead_show(state_dir: Path, id: str, redact: Callable[[str], str] | None) -> Iterator[str]:
    """Yield what is known of one dead letter, then its body as text, as far as it can be shown.

    ``redact`` takes secrets out of the body; without it, the body is not shown.
    """
    owed = letters.dead_letter(state_dir, id)
    delivery, fetched = owed.delivery, owed.delivery.fetched
    yield f"delivery  {delivery.id}"
    yield f"job       {delivery.job}, slot {delivery.slot.isoformat(sep=' ')}"
    yield f"sink      {delivery.sink}"
    kind = fetched.content_type or "no content type"
    yield f"result    {fetched.status or 'no status'}, {kind}, {fetched.body.size} bytes"
    yield f"since     {owed.since.isoformat(sep=' ', timespec='seconds')}, {_count(owed.attempts, 'try', 'tries')}"
    yield f"error     {owed.error}"
    if redact is None:
        return
    yield ""
    try:
        with fetched.body.open() as file:
            content = file.read(_SEARCHED)
    except OSError as error:
        raise StoreError(f"the body of {id} cannot be read: {error.strerror}") from None
    # Cut after it is cleaned: a secret that lies on the cut would otherwise show its half.
    yield printable(redact(content.decode("utf-8", "replace"))[:SHOWN], keep="\n\t")
    if fetched.body.size > SHOWN:
        yield f"... {fetched.body.size - SHOWN} more bytes"


def dead_replay(state_dir: Path, ids: tuple[str, ...], now: datetime) -> str:
    """Owe dead letters again; a running daemon tries them within seconds, another one when it starts."""
    count = letters.replay(state_dir, ids or _all(state_dir), now)
    return f"{_count(count, 'delivery', 'deliveries')} to be tried again"


def dead_ids(state_dir: Path, ids: tuple[str, ...]) -> tuple[str, ...]:
    """Return those of ``ids`` that are dead letters; all that there are if no ids are given."""
    return tuple(id for id in _all(state_dir) if not ids or id in set(ids))


def missing(state_dir: Path, ids: tuple[str, ...]) -> list[str]:
    """Return a line for each of ``ids`` that is no dead letter."""
    there = set(_all(state_dir)) if ids else set()
    return [letters.NO_LETTER.format(id) for id in ids if id not in there]


@dataclass(frozen=True, slots=True)
class Replayed:
    """What has become of dead letters that were replayed; those that were purged count as delivered."""

    delivered: int
    owed: int
    dead: int

    def __str__(self) -> str:
        """Return it in words."""
        again = f", {self.dead} dead again" if self.dead else ""
        return f"{self.delivered} delivered, {self.owed} still owed{again}"


def replayed(state_dir: Path, ids: tuple[str, ...]) -> Replayed:
    """Return what has become of ``ids``, which were replayed."""
    left = letters.undelivered(state_dir, ids)
    dead = sum(left.values())
    return Replayed(len(ids) - len(left), len(left) - dead, dead)


def dead_purge(state_dir: Path, ids: tuple[str, ...]) -> str:
    """Throw dead letters away."""
    count = letters.purge(state_dir, ids or _all(state_dir))
    return f"{_count(count, 'dead letter', 'dead letters')} thrown away"


def _all(state_dir: Path) -> list[str]:
    return [letter.id for letter in letters.dead_letters(state_dir)]


def _line(report: Report) -> str:
    slot = report.run.slot.isoformat(sep=" ", timespec="milliseconds")
    reason = f" ({report.reason})" if report.reason else ""
    status = f", status {report.status}" if report.status else ""
    took = f"{format_duration(round(report.duration, 3)) if report.duration >= 0.001 else '0s'}"
    message = f": {shortened(' '.join(report.message.split()), 200)}" if report.message else ""
    return f"{slot}  {report.outcome}{reason} in {took}{status}, {report.bytes} bytes{message}"


def _count(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}"
