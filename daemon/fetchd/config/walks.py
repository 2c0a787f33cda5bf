"""What a job asks for from Run to Run and from page to page: whether its placeholders, cursor and pages fit it."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from typing import Final

from fetchd.fetch import placeholders
from fetchd.job import CursorPages, Job, LinkPages, NumberedPages, OffsetPages

_NO_BODY: Final = "there is nothing to read: what HEAD asks for has no body"
_ORIGIN: Final = re.compile(r"[a-z+]*://[^/?#]*", re.IGNORECASE)

Problems = Iterator[tuple[tuple[int | str, ...], str]]


def walking(own: Job, bad: Collection[str]) -> Problems:
    """Judge what ``own``, a job as it is written without its ``bad`` keys, asks for."""
    if own.collect is not None:
        return
    yield from _placeholders(own, bad)
    if own.cursor is not None:
        yield from _cursor(own, bad)
    if own.pages is not None and "pages" not in bad:
        yield from _pages(own, bad)


def _placeholders(own: Job, bad: Collection[str]) -> Problems:
    for place, text in placeholders.texts(own):
        for message in placeholders.problems(text, own.cursor):
            if own.cursor is not None or "cursor" not in bad or "needs a cursor table" not in message:
                yield place, message
    origin = _ORIGIN.match(own.url.reveal()) if own.url else None
    if origin and placeholders.names(origin[0]):
        yield ("url",), "a placeholder stands in the path or in the query: whom a job asks is always the same"


def _cursor(own: Job, bad: Collection[str]) -> Problems:
    assert own.cursor is not None
    used = any("cursor" in placeholders.names(text) for _, text in placeholders.texts(own))
    if not used and not {"url", "params", "form", "json", "body"} & set(bad):
        yield ("cursor",), "nothing uses it: write {cursor} in the url, the params or the body"
    if own.cursor.slot and own.cursor.initial and placeholders.read(own.cursor.initial) is None:
        yield ("cursor", "initial"), 'with slot = true it is a time, such as "2026-01-01T00:00:00Z"'
    if own.cursor.next is not None and own.parse != "json":
        yield ("cursor", "next"), f'is asked of JSON, and parse is "{own.parse}"'
    if own.cursor.next is not None and own.method == "HEAD":
        yield ("cursor", "next"), f"{_NO_BODY}: write header, or another method"


def _parameters(own: Job, bad: Collection[str]) -> Problems:
    """Judge the parameters that pages set: of two with the same name only one arrives."""
    pages = own.pages
    names = {"param": pages.param} if isinstance(pages, CursorPages | NumberedPages | OffsetPages) else {}
    if isinstance(pages, NumberedPages | OffsetPages) and pages.size:
        names["size_param"] = pages.size_param
        if pages.param == pages.size_param:
            yield ("pages", "param"), f"{pages.param} is what size_param is called too: name another"
    if own.auth is None or "auth" in bad:
        return
    for key, name in names.items():
        if own.auth.fills() == ("query", name):
            yield ("pages", key), "auth sets this parameter"


def _pages(own: Job, bad: Collection[str]) -> Problems:
    pages = own.pages
    assert pages is not None
    headers_only = isinstance(pages, LinkPages) and pages.next is None and pages.deliver == "each"
    if own.parse != "json" and not headers_only:
        yield ("pages",), f'are read as JSON, and parse is "{own.parse}"; only links in headers go with that'
    if own.method == "HEAD" and not headers_only:
        yield ("pages",), f"{_NO_BODY}; only links in headers go with that"
    yield from _parameters(own, bad)
    if not isinstance(pages, CursorPages) or pages.field is None or {"json", "form"} & set(bad):
        return
    if own.form is None and not isinstance(own.json_body, dict):
        yield ("pages", "field"), "needs a form, or a table as json, that it is a field of"
    if not all(pages.field.split(".")):
        yield ("pages", "field"), 'names its levels with dots between them, such as "variables.after"'
