"""The row of one job in the page's table, put together by hand: a template takes five times as long."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from functools import cache
from typing import Final

from fetchd.board import Ending, Look, Standing, State
from fetchd.errors import Reason
from fetchd.run import Outcome
from fetchd.web import charts, words
from fetchd.web.markup import address, instant, text

SHOWN: Final = 200
"""Characters of a message in the table of jobs."""

_KINDS: Final = {state: state.name.lower() for state in State}


def row(standing: Standing, look: Look, redact: Callable[[str], str]) -> str:
    """Return a job's row; what is foreign in it is redacted, printable and escaped."""
    name, kind = text(standing.job.name), _KINDS[look.state]
    source = address(redact(standing.job.source))
    return (
        f'<li id="job-{name}" class="job {kind}" data-rank="{look.rank}">\n'
        f'<div class="who"><h3><a href="/jobs/{name}">{name}</a></h3><p class="source">{source}</p></div>\n'
        f'<p class="states">{_states(look.state, look.overdue, look.running)}</p>\n'
        f'<div class="last">{_last(standing, look, redact)}</div>\n'
        f"<dl>{_facts(look)}</dl>\n"
        f"{charts.recent(standing.recent.runs())}</li>\n"
    )


@cache
def _states(state: State, overdue: bool, running: bool) -> str:
    """Return the words for how a job is."""
    said = _state(state)
    if overdue and state is not State.OVERDUE:
        said += f" {_state(State.OVERDUE)}"
    return said + (' <span class="running">running</span>' if running else "")


def _state(state: State) -> str:
    sign = f'<span aria-hidden="true">{words.SIGNS[state]}</span>'
    return f'<span class="state {_KINDS[state]}">{sign} {state}</span>'


def _last(standing: Standing, look: Look, redact: Callable[[str], str]) -> str:
    """Return how the last Run ended, and what comes of it."""
    last, since = standing.last, standing.failing_since
    said = _before(look, since) if last is None else _ending(last, look, since, redact)
    return said + (_fine(f"Its host wants no request before {instant(look.held_until)}") if look.held_until else "")


def _before(look: Look, since: datetime | None) -> str:
    """Return what is known of a job that has not run yet."""
    if not look.failures:
        return _fine("No run since the daemon started")
    told = _fine(f"{look.failures} in a row, the first {instant(since)}") if since else ""
    return f"<p>Failing since before the daemon started</p>{told}"


def _ending(last: Ending, look: Look, since: datetime | None, redact: Callable[[str], str]) -> str:
    told = f"{instant(last.at)}, took {words.length(last.duration)}"
    if look.failures > 1 and since:
        told += f"; {look.failures} in a row, the first {instant(since)}"
    if look.backing_off_until:
        told += f"; backing off, next try about {instant(look.backing_off_until)}"
    said = _ended(last.outcome, last.reason) + _fine(told)
    message = "" if last.outcome.good else text(redact(last.message)[:SHOWN])
    return f'{said}<p class="message" dir="auto">{message}</p>' if message else said


@cache
def _ended(outcome: Outcome, reason: Reason | None) -> str:
    said = text(words.ending(outcome, reason))
    return f"<p>{said} <code>{reason}</code></p>" if reason else f"<p>{said}</p>"


def _fine(html: str) -> str:
    return f'<p class="fine">{html}</p>'


def _facts(look: Look) -> str:
    success = instant(look.last_success) if look.last_success else "never"
    slot = instant(look.next_slot) if look.next_slot else "none"
    return (
        f"<div><dt>Last success</dt><dd>{success}</dd></div><div><dt>Next slot</dt><dd>{slot}</dd></div>"
        f"{_count('owed', look.owed, 'delivery', 'deliveries')}{_count('dead', look.dead, 'letter', 'letters')}"
    )


def _count(name: str, number: int, one: str, many: str) -> str:
    if not number:
        return ""
    return f'<div class="{name}"><dt>{name.capitalize()}</dt><dd>{words.count(number, one, many)}</dd></div>'
