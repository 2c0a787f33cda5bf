"""Values as rows and rows as values. No statement here reads or writes by itself."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from fetchd.body import Body
from fetchd.errors import Reason
from fetchd.run import Carried, Fetched, Outcome, Report, Run, Validators, deliveries_of
from fetchd.shorten import shortened
from fetchd.store import Owed

LONGEST_TEXT: Final = 4096
"""Characters of a message that are kept: an error may carry a whole traceback, and there are many of them."""

INSERT_RESULT: Final = """
INSERT INTO results (run, job, slot, since, size, sha256, head, filed, body) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
"""
OWED_COLUMNS: Final = """
r.run, r.job, r.slot, r.since, r.size, r.sha256, r.head, r.filed, r.body, d.sink, d.attempts, d.next_try, d.error
"""
INSERT_REPORT: Final = """
INSERT INTO runs (job, run, slot, outcome, good, reason, message, phase, status, bytes, attempts, started,
  duration, lateness, waited, timings)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""
SELECT_REPORTS: Final = """
SELECT job, run, slot, outcome, reason, message, phase, status, bytes, attempts, started,
  duration, lateness, waited, timings
FROM runs WHERE job = ? ORDER BY id DESC LIMIT ?
"""
SELECT_RECENT: Final = """
SELECT job, run, slot, outcome, reason, message, phase, status, bytes, attempts, started,
  duration, lateness, waited, timings
FROM (SELECT *, row_number() OVER (PARTITION BY job ORDER BY id DESC) AS place FROM runs)
WHERE place <= ? ORDER BY id
"""

Row = tuple[Any, ...]

_encode: Final = json.JSONEncoder(separators=(",", ":")).encode


def short(text: str) -> str:
    """Return ``text`` fit for a row: not too long, and without the lone surrogates that SQLite refuses."""
    text = shortened(text, LONGEST_TEXT)
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()


def validators_text(validators: Validators) -> str:
    """Return ``validators`` as they are kept."""
    return _encode((validators.etag, validators.last_modified, validators.mark))


def validators_of(text: str) -> Validators:
    """Return the validators that were kept as ``text``."""
    return Validators(*json.loads(text))


def carried_of(text: str | None) -> Carried:
    """Return what was kept as ``text`` for the next Run."""
    if text is None:
        return Carried()
    cursor, page, seen, *asked = json.loads(text)
    return Carried(cursor, page, tuple(seen), *asked)


def remembered_row(job: str, fetched: Fetched) -> Row:
    """Return the row of what ``job`` is remembered by once ``fetched`` is kept; what it does not carry on is null."""
    carried = fetched.carried
    text = None if carried is None else _encode((carried.cursor, carried.page, carried.seen, carried.asked))
    return job, validators_text(fetched.validators), fetched.body.sha256, text


def result_row(run: Run, fetched: Fetched, now: datetime) -> Row:
    """Return the row of a result; a body that is in a file stays there."""
    head = {
        "status": fetched.status,
        "url": fetched.url,
        "content_type": fetched.content_type,
        "headers": dict(fetched.headers),
        "validators": (fetched.validators.etag, fetched.validators.last_modified),
        "timings": dict(fetched.timings),
    }
    body = fetched.body
    slot, since = run.slot.isoformat(), now.isoformat()
    return (
        run.id,
        run.job,
        slot,
        since,
        body.size,
        body.sha256,
        _encode(head),
        body.path is not None,
        body.content,
    )


def owed_of(row: Row, path_of: Callable[[str], Path]) -> Owed:
    """Return the delivery that ``row``, of `OWED_COLUMNS`, tells of."""
    run, job, slot, since, size, sha256, text, filed, content, sink, attempts, next_try, error = row
    body = Body(path_of(run) if filed else content, size=size, sha256=sha256, kept=True)
    head = json.loads(text)
    fetched = Fetched(
        status=head["status"],
        url=head["url"],
        content_type=head["content_type"],
        headers=head["headers"],
        body=body,
        validators=Validators(*head["validators"]),
        timings=head["timings"],
    )
    (delivery,) = deliveries_of(Run(run, job, datetime.fromisoformat(slot)), fetched, (sink,))
    return Owed(delivery, attempts, datetime.fromisoformat(since), datetime.fromisoformat(next_try), error)


def report_row(report: Report) -> Row:
    """Return the row of ``report``."""
    run = report.run
    return (
        run.job,
        run.id,
        run.slot.isoformat(),
        report.outcome,
        report.outcome.good,
        report.reason,
        short(report.message),
        short(report.phase),
        report.status,
        report.bytes,
        report.attempts,
        report.started.isoformat() if report.started else None,
        report.duration,
        report.lateness,
        report.waited,
        _encode(dict(report.timings)),
    )


def report_of(row: Row) -> Report:
    """Return the report that ``row``, of `SELECT_REPORTS`, tells of."""
    job, run, slot, outcome, reason, message, phase, status, size, attempts, started, *durations, timings = row
    duration, lateness, waited = durations
    return Report(
        run=Run(run, job, datetime.fromisoformat(slot)),
        outcome=Outcome(outcome),
        reason=Reason(reason) if reason else None,
        message=message,
        phase=phase,
        status=status,
        bytes=size,
        attempts=attempts,
        started=time_of(started),
        duration=duration,
        lateness=lateness,
        waited=waited,
        timings=json.loads(timings),
    )


def time_of(text: str | None) -> datetime | None:
    """Return the time that was kept as ``text``."""
    return datetime.fromisoformat(text) if text else None
