"""News in words: one message of all that happened together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from itertools import islice
from typing import Any, Final

from fetchd.alerts.troubles import DAEMON, FAILING, OFFLINE, OVERDUE, SINK, Change, News
from fetchd.log import printable
from fetchd.notifiers.message import Message, State

LISTED: Final = 10
"""Jobs that a text names one by one."""
DETAILED: Final = 50
"""Jobs that a message holds one by one as fields."""
REASONS: Final = 5
GONE: Final = "it is no longer in the configuration"
LONGEST: Final = 300
"""Characters of one error."""

Redact = Callable[[Any], Any]
"""Takes secrets out of a text."""


def compose(news: Sequence[News], now: datetime, *, id: str, host: str, redact: Redact) -> Message:
    """Return one message of ``news``, of which there is at least one; ``host`` is this machine's name."""
    shown = [_Shown(one, redact) for one in news]
    jobs = _by_job(one for one in shown if one.news.job != DAEMON)
    daemon = [one for one in shown if one.news.job == DAEMON]
    lines = [one.line() for one in daemon] + [one.line(now) for one in islice(jobs, LISTED)]
    if len(jobs) > LISTED:
        lines.append(f"and {len(jobs) - LISTED} more")
    if len(lines) == 1:
        lines = [one.details(now) for one in (*daemon, *jobs)]
    return Message(
        id=id,
        time=now,
        host=host,
        state=_state(news),
        title=f"fetchd on {host}: {_title(daemon, jobs)}",
        text="\n".join(filter(None, lines)),
        jobs=tuple(one.fields() for one in islice(jobs, DETAILED)),
        daemon=tuple(one.fields() for one in islice(daemon, DETAILED)),
        more=max(0, len(jobs) - DETAILED),
    )


class _Shown:
    """One piece of news, fit to be shown."""

    def __init__(self, news: News, redact: Redact) -> None:
        self.news = news
        # Secrets are taken out before the text is cut, or one would be cut in half and half shown.
        text = GONE if news.gone else printable(" ".join(str(redact(news.message)).split()))
        self.message = text if len(text) <= LONGEST else f"{text[:LONGEST]} [...]"

    @property
    def what(self) -> str:
        """Return what is wrong, in a word for receivers."""
        kind = self.news.kind
        if kind.startswith(SINK):
            return "dead_letters" if self.news.change is Change.ONCE else "sink_failing"
        return kind

    def fields(self) -> dict[str, Any]:
        """Return the news as fields."""
        news = self.news
        where = {"job": news.job} if news.job != DAEMON else {}
        sink = {"sink": news.kind.removeprefix(SINK)} if news.kind.startswith(SINK) else {}
        return {
            **where,
            "kind": self.what,
            **sink,
            "change": str(news.change),
            "since": news.since.astimezone(UTC).isoformat(timespec="seconds"),
            "reason": news.reason,
            "failures": news.count,
            "message": self.message,
        }

    def claim(self) -> str:
        """Return what is said of the job, behind its name."""
        news = self.news
        sink = news.kind.removeprefix(SINK)
        if news.gone:
            return (
                f"no longer has the sink {sink}" if news.kind.startswith(SINK) else "is no longer in the configuration"
            )
        if news.change is Change.OVER:
            return "does well again" if news.kind in {FAILING, OVERDUE} else f"delivers to {sink} again"
        still = "still " if news.change is Change.STILL else ""
        if news.kind == FAILING:
            return f"is {still}failing: {news.reason or 'unknown'}"
        if news.kind == OVERDUE:
            return f"is {still}overdue"
        if news.change is Change.ONCE:
            return f"has given up {'a delivery' if news.count == 1 else f'{news.count} deliveries'} to {sink}"
        return f"{still}cannot deliver to {sink}"

    def details(self, now: datetime) -> str:
        """Return what stands below a title that has said the claim."""
        news = self.news
        if news.gone:
            return f"that ends its trouble, since {_written(news.since)}"
        if news.change is Change.OVER:
            return f"after {lasted(news.since, news.until or now)}, since {_written(news.since)}"
        since = f"since {_written(news.since)}" if news.change is not Change.ONCE else ""
        if news.job != DAEMON and news.kind == FAILING and news.count:
            since = f"{news.count} in a row {since}"
        return ": ".join(filter(None, (since, self.message if news.job != DAEMON else "")))

    def line(self, now: datetime | None = None) -> str:
        """Return the news as a line of its own."""
        if self.news.job == DAEMON:
            return f"- {self.daemon_claim()}"
        assert now is not None
        return " ".join(filter(None, (f"- {self.news.job} {self.claim()};", self.details(now)))).rstrip(";")

    def daemon_claim(self) -> str:
        """Return what is said of the daemon itself."""
        if self.news.change is Change.OVER:
            return "this machine is online again" if self.news.kind == OFFLINE else f"over: {self.message}"
        if self.news.change is Change.ONCE and self.news.count > 1:
            return f"{self.message} ({self.news.count} times; this is the last one)"
        return f"still: {self.message}" if self.news.change is Change.STILL else self.message


def _by_job(shown: Iterable[_Shown]) -> list[_Shown]:
    """Return the news without those that say of a job again that it does well."""
    kept: dict[tuple[str, str], _Shown] = {}
    for one in shown:
        well = one.news.change is Change.OVER and one.news.kind in {FAILING, OVERDUE}
        key = (one.news.job, "well" if well else f"{one.news.kind} {one.news.change}")
        if key not in kept or one.news.since < kept[key].news.since:
            kept[key] = one
    return list(kept.values())


def _title(daemon: Sequence[_Shown], jobs: Sequence[_Shown]) -> str:
    parts = [one.daemon_claim() for one in daemon[:2]]
    groups: dict[tuple[str, Change, bool], list[_Shown]] = {}
    for one in jobs:
        kind = SINK if one.news.kind.startswith(SINK) else one.news.kind
        kind = FAILING if one.news.change is Change.OVER and kind == OVERDUE else kind
        groups.setdefault((kind, one.news.change, one.news.gone), []).append(one)
    parts += [_counted(group) for group in groups.values()]
    return "; ".join(parts)


def _counted(group: Sequence[_Shown]) -> str:
    """Return what a title says of jobs to which the same happened."""
    first = group[0].news
    if len(group) == 1:
        return f"{first.job} {group[0].claim()}"
    if first.gone:
        return f"{len(group)} {'sinks' if first.kind.startswith(SINK) else 'jobs'} are no longer in the configuration"
    still = "still " if first.change is Change.STILL else ""
    if first.kind.startswith(SINK):
        if first.change is Change.ONCE:
            return f"{sum(one.news.count for one in group)} deliveries of {len(group)} sinks were given up"
        over = first.change is Change.OVER
        return f"{len(group)} sinks take deliveries again" if over else f"{len(group)} sinks {still}take no deliveries"
    if first.change is Change.OVER:
        return f"{len(group)} jobs do well again"
    if first.kind == OVERDUE:
        return f"{len(group)} jobs are {still}overdue"
    return f"{len(group)} jobs are {still}failing: {reasons(one.news for one in group)}"


def reasons(news: Iterable[News]) -> str:
    """Return why jobs fail, the commonest first: ``timeout_connect (290), dns (10)``."""
    counted = Counter(one.reason or "unknown" for one in news).most_common()
    words = [f"{reason} ({count})" for reason, count in counted[:REASONS]]
    if rest := sum(count for _, count in counted[REASONS:]):
        words.append(f"others ({rest})")
    return ", ".join(words)


def _state(news: Iterable[News]) -> State:
    states = {_STATES[one.change] for one in news}
    if len(states) == 1:
        return states.pop()
    return "mixed" if "recovered" in states else "problem"


_STATES: Final[dict[Change, State]] = {
    Change.NEW: "problem",
    Change.STILL: "problem",
    Change.OVER: "recovered",
    Change.ONCE: "info",
}


def _written(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def lasted(since: datetime, now: datetime) -> str:
    """Return a time as a person says it, of two units at the most."""
    seconds = max(0, round((now - since).total_seconds()))
    for size, unit, smaller, name in ((86400, "d", 3600, "h"), (3600, "h", 60, "m"), (60, "m", 1, "s")):
        if seconds >= size:
            rest = seconds % size // smaller
            return f"{seconds // size}{unit}" + (f" {rest}{name}" if rest else "")
    return f"{seconds}s"
