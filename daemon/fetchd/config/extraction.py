"""What the keys by which a job reads its results must be to one another, and to what its sinks make of them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from importlib.util import find_spec
from typing import Final

from fetchd.config.lines import KeyPath
from fetchd.extract.feeds import REMEDY
from fetchd.job import Job
from fetchd.sinks.webhook import WebhookOptions

Problems = Iterator[tuple[KeyPath, str]]

_NO_DELIMITERS: Final = frozenset('"\r\n\0')
_MAKE_RECORDS: Final = 'write split, or parse = "csv" or "feed"'


def extracting(own: Job, bad: Collection[str]) -> Problems:
    """Judge how ``own``, a job as it is written, reads its results; of the keys in ``bad`` nothing is known."""
    if "delimiter" in own.model_fields_set and "parse" not in bad:
        yield from _delimiter(own)
    if own.method == "HEAD":
        for key in ("extract", "split"):
            if key in own.model_fields_set:
                yield (key,), "there is nothing to read: what HEAD asks for has no body"
    if own.parse != "json" or own.split is not None or {"parse", "split"} & set(bad):
        return
    if own.unique is not None:
        yield ("unique",), f"goes with records only: {_MAKE_RECORDS}"
    for index, options in enumerate(own.sinks):
        if isinstance(options, WebhookOptions) and options.batch is not None:
            yield ("sinks", index, "batch"), f"goes with records only: {_MAKE_RECORDS}"


def _delimiter(own: Job) -> Problems:
    if own.parse != "csv":
        yield ("delimiter",), 'goes with parse = "csv" only'
    elif own.delimiter in _NO_DELIMITERS:
        yield ("delimiter",), 'a field cannot end with a quotation mark or a line end: write one such as ";"'


def packages(job: Job, find: Callable[[str], object] = find_spec) -> Problems:
    """Say which package is missing that ``job`` is read with; none is imported to see."""
    if job.parse == "feed" and find("feedparser") is None:
        yield ("parse",), f"feeds are read by feedparser, which is missing: {REMEDY}"
