"""How things are, in lines of text: what ``fetchd status`` shows of what the daemon tells."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

HEADINGS: Final = ("JOB", "STATE", "LAST SUCCESS", "NEXT SLOT", "OWED", "DEAD", "LAST RUN")
"""The one that holds a message comes last: where a terminal is narrow, it alone is cut."""
FIRST_TO_GO: Final = ("LAST SUCCESS", "OWED", "DEAD", "NEXT SLOT")
"""What is left out, in this order, where a terminal is narrower still."""
_LONGEST: Final = 60
_SHORTEST: Final = 24

Row = Mapping[str, Any]


def lines(head: Row, rows: Sequence[Row], width: int | None = None) -> Iterator[str]:
    """Yield all there is to show, for a terminal of so many columns."""
    yield from headline(head)
    now = datetime.fromisoformat(head["now"])
    table = [HEADINGS, *(cells(row, now) for row in rows if "job" in row)]
    widths = [max(len(line[column]) for line in table) for column in range(len(HEADINGS))]
    shown = list(range(len(HEADINGS) - 1))
    if width is not None:
        for heading in FIRST_TO_GO:
            if _room(width, widths, shown) >= _SHORTEST:
                break
            shown.remove(HEADINGS.index(heading))
        widths[-1] = max(_SHORTEST, _room(width, widths, shown))
    yield ""
    for line in table:
        whole = [line[column].ljust(widths[column]) for column in shown]
        yield "  ".join([*whole, _cut(line[-1], widths[-1])]).rstrip()
    yield from owed_to_none(rows)


def _room(width: int, widths: Sequence[int], shown: Sequence[int]) -> int:
    """Return how many columns of the terminal are left beside those of the table that are ``shown``."""
    return width - sum(widths[column] + 2 for column in shown)


def owed_to_none(rows: Sequence[Row]) -> Iterator[str]:
    """Yield what is owed to sinks that there are no more."""
    for row in rows:
        if "owed_to" in row:
            yield f"owed to a sink that the configuration has no more: {row['owed_to']}, {row['count']}"


def headline(head: Row) -> Iterator[str]:
    """Yield how the daemon itself is."""
    now = datetime.fromisoformat(head["now"])
    up = span(now - datetime.fromisoformat(head["started"]))
    memory = size(head["resident_bytes"])
    since = span(now - datetime.fromisoformat(head["config_since"]))
    yield f"fetchd {head['version']}, process {head['pid']}, up {up}, {memory}"
    if head.get("before"):  # a daemon that has not been replaced since an upgrade does not tell
        yield f"before that: {head['before']}"
    yield f"configuration {head['generation']}, {head['config']}, in force for {since}"
    if head["config_error"]:
        yield "the last one that was offered was refused:"
        yield from (f"  {line}" for line in head["config_error"].splitlines())
    yield "it does its work" if head["ready"] else f"IT DOES NOT DO ITS WORK: {'; '.join(head['problems'])}"
    yield from head["warnings"]


def cells(row: Row, now: datetime) -> tuple[str, ...]:
    """Return the line of one job."""
    return (
        row["job"],
        _state(row),
        _when(row["last_success"], now),
        "-" if row["state"] == "paused" else _when(_next(row), now),
        str(row["owed"]),
        str(row["dead"]),
        _last(row),
    )


def progress(how_far: Row) -> str:
    """Return how far a Run has come."""
    parts = [str(how_far["phase"]), f"attempt {how_far['attempts']}"]
    if how_far["pages"]:
        parts.append(f"page {how_far['pages']}")
    return ", ".join([*parts, size(how_far["bytes"])])


def span(time: timedelta) -> str:
    """Return a length of time in its two largest units."""
    seconds = max(0, round(time.total_seconds()))
    parts: list[str] = []
    for unit, length in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        count, seconds = divmod(seconds, length)
        if count or (unit == "s" and not parts):
            parts.append(f"{count}{unit}")
    return "".join(parts[:2])


def size(count: int) -> str:
    """Return a number of bytes in a unit that suits it."""
    amount, unit = float(count), "bytes"
    for larger in ("KiB", "MiB", "GiB"):
        if amount < 1024:
            break
        amount, unit = amount / 1024, larger
    return f"{count} bytes" if unit == "bytes" else f"{amount:.1f} {unit}"


def _state(row: Row) -> str:
    words = [row["state"]]
    if row["overdue"] and row["state"] != "overdue":
        words.append("overdue")
    if row["running"]:
        words.append(f"running ({row['running']['phase']})")
    return ", ".join(words)


def _last(row: Row) -> str:
    if row["last_outcome"] is None:
        return "-"
    reason = f" ({row['last_reason']})" if row["last_reason"] else ""
    times = f"{row['failures']} x " if row["failures"] > 1 else ""
    message = f": {' '.join(row['last_message'].split())}" if row["last_message"] else ""
    text = f"{times}{row['last_outcome']}{reason}{message}"
    return _cut("".join(letter if letter.isprintable() else "?" for letter in text), _LONGEST)


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[: length - 3]}..."


def _next(row: Row) -> str | None:
    """Return about when a job is run next, as far as is known."""
    times = (row["next_slot"], row["backing_off_until"], row.get("held_until"))
    return max((time for time in times if time), key=datetime.fromisoformat, default=None)


def _when(moment: str | None, now: datetime) -> str:
    if moment is None:
        return "-"
    away = datetime.fromisoformat(moment) - now
    return f"in {span(away)}" if away >= timedelta() else f"{span(-away)} ago"
