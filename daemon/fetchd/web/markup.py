"""Pieces of HTML that the templates and the rows have in common; what is foreign in them is escaped."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from markupsafe import escape

from fetchd.log import printable

_MONTHS: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def text(foreign: str) -> str:
    """Return a text as it can be read, whatever is in it."""
    return str(escape(printable(foreign, keep="\n\t")))


def address(foreign: str) -> str:
    """Return an address that may go on in another line after each slash, and not within a word."""
    scheme, mark, rest = printable(foreign).rpartition("://")
    # No slash comes of escaping.
    return str(escape(scheme + mark)) + str(escape(rest)).replace("/", "/<wbr>")


def instant(at: datetime, attributes: str = "") -> str:
    """Return an instant, which is in UTC, for people, without its year, and in its attribute for scripts."""
    text = at.isoformat()
    said = f"{text[8:10]} {_MONTHS[at.month - 1]} {text[11:19]}"
    return f'<time{attributes} datetime="{text[:19]}Z">{said}</time>'


def exact(at: datetime) -> str:
    """Return an instant that is shown as it is, also where scripts run."""
    return instant(at, ' class="exact"')
