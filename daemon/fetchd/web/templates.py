"""HTML: the templates, always escaping, and the words and pictures that they may use."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from fetchd.log import printable
from fetchd.web import charts, markup, words

_FOLDER: Final = Path(__file__).with_name("templates")
T = TypeVar("T")


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
        "exact": _safe(markup.exact),
        "stamp": _safe(markup.instant),
        "length_of": words.length,
        "size_of": words.size,
        "count_of": words.count,
        "ending_of": words.ending,
        "breakable": _safe(markup.address),
        "phases_of": charts.phases,
        "longest_of": charts.longest,
    }
    return made


def _visible(value: Any) -> Any:
    """Return a text with what a terminal would obey, or what reorders a line, escaped: pages are read with curl too."""
    return printable(value, keep="\n\t") if type(value) is str else value


def _safe(made: Callable[[T], str]) -> Callable[[T], Markup]:
    """Return ``made`` for templates, which would else escape its HTML."""
    return lambda value: Markup(made(value))  # noqa: S704
