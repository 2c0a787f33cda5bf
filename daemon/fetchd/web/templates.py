"""HTML: the templates, always escaping, and the words and pictures that they may use."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any, Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from fetchd.log import printable
from fetchd.web import charts, words

_FOLDER: Final = Path(__file__).with_name("templates")


def environment() -> Environment:
    """Return the templates' environment; a name that is missing is an error, not a gap in the page."""
    made = Environment(
        loader=FileSystemLoader(_FOLDER),
        autoescape=True,
        finalize=_visible,
        undefined=StrictUndefined,
        auto_reload=False,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {
        "exact": exact,
        "stamp": stamp,
        "length_of": words.length,
        "size_of": words.size,
        "count_of": words.count,
        "ending_of": words.ending,
        "breakable": breakable,
        "phases_of": charts.phases,
        "longest_of": charts.longest,
    }
    return made


def _visible(value: Any) -> Any:
    """Return a text with what a terminal would obey, or what reorders a line, escaped: pages are read with curl too."""
    return printable(value, keep="\n\t") if type(value) is str else value


def breakable(address: str) -> Markup:
    """Return an address that may go on in another line after each slash, and not within a word."""
    scheme, mark, rest = printable(address).rpartition("://")
    return escape(scheme + mark) + Markup("/<wbr>").join(rest.split("/"))


def exact(at: datetime) -> Markup:
    """Return an instant that is shown as it is, also where scripts run."""
    return _time(at, ' class="exact"')


def stamp(at: datetime) -> Markup:
    """Return an instant for people and, in its attribute, for scripts."""
    return _time(at)


def _time(at: datetime, attributes: str = "") -> Markup:
    # Put together by hand, for it comes thrice in each row and Markup's own format is slow; digits need no escaping.
    return Markup(f'<time{attributes} datetime="{at:%Y-%m-%dT%H:%M:%SZ}">{words.clock(at)}</time>')  # noqa: S704
