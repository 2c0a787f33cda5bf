"""Points in time as servers write them: seconds, and dates in each of HTTP's three forms."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Final

import httpx

LONGEST: Final = 10 * 366 * 86400.0
"""Seconds that anything is taken to last at the most."""

_MONTHS: Final = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_MONTH: Final = f"(?P<month>{'|'.join(_MONTHS)})"
_TIME: Final = r"(?P<hour>\d\d):(?P<minute>\d\d):(?P<second>\d\d)"
_FORMS: Final = tuple(
    re.compile(form, re.IGNORECASE | re.ASCII)
    for form in (
        rf"[a-z]+, *(?P<day>\d\d?) {_MONTH} (?P<year>\d{{4}}) {_TIME} (?:GMT|UTC)",
        rf"[a-z]+, *(?P<day>\d\d?)-{_MONTH}-(?P<year>\d\d|\d{{4}}) {_TIME} (?:GMT|UTC)",
        rf"[a-z]+ {_MONTH} +(?P<day>\d\d?) {_TIME} (?P<year>\d{{4}})",
    )
)
_SECONDS: Final = re.compile(r"(\d+)(?:\.\d*)?", re.ASCII)
_LEAP: Final = 60


def seconds_in(text: str) -> float | None:
    """Return the seconds that ``text`` counts, no more than `LONGEST`; None if it is no count of them.

    A fraction, which some servers send, is taken.
    """
    found = _SECONDS.fullmatch(text.strip())
    if found is None:
        return None
    return LONGEST if len(found[1].lstrip("0")) > len(str(int(LONGEST))) else min(LONGEST, float(found[0]))


def date_in(text: str, now: datetime) -> datetime | None:
    """Return the date that ``text`` names (RFC 9110, 5.6.7); None if it names none.

    A year of two digits is that of the century in which it is at most 50 years ahead of ``now``.
    """
    text = text.strip()
    for form in _FORMS:
        if found := form.fullmatch(text):
            break
    else:
        return None
    year = int(found["year"])
    if len(found["year"]) == 2:
        year += now.year - now.year % 100
        year -= 100 if year > now.year + 50 else 0
    second = int(found["second"])
    try:
        date = datetime(
            year,
            _MONTHS.index(found["month"].lower()) + 1,
            int(found["day"]),
            int(found["hour"]),
            int(found["minute"]),
            59 if second == _LEAP else second,
            tzinfo=UTC,
        )
        return date + timedelta(seconds=second == _LEAP)
    except (ValueError, OverflowError):
        return None


def until(text: str, headers: httpx.Headers, now: datetime) -> float | None:
    """Return the seconds from the response's own date to that in ``text``; None if that is none.

    They are negative if it is past. Without a date of its own the response is one of ``now``. Clocks of servers are
    wrong; two dates by the same one agree.
    """
    date = date_in(text, now)
    if date is None:
        return None
    said = date_in(headers.get("date", ""), now) or now
    return min(LONGEST, (date - said).total_seconds())
