"""A walk through pages: where the next one is, and whether it is asked for. Decisions without I/O."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any, Final

from fetchd.errors import FetchError
from fetchd.fetch.ask import Ask, Place
from fetchd.fetch.links import next_link, path_of_next, refused
from fetchd.job import CursorPages, LinkPages, NumberedPages, OffsetPages
from fetchd.run import Fetched

LONGEST_CURSOR: Final = 4096
"""Characters of a cursor at the most."""
_NO_CONTENT: Final = 204
"""There is nothing (RFC 9110, 15.3.5): neither a page nor, so, a next one."""

AnyPages = LinkPages | CursorPages | NumberedPages | OffsetPages


def first(pages: AnyPages) -> Place:
    """Return where the first page is."""
    if isinstance(pages, NumberedPages):
        return Place(pages.first)
    return Place(0 if isinstance(pages, OffsetPages) else None)


def queries(pages: AnyPages) -> list[str]:
    """Return what is to be known of a page's body before the next page: JMESPath expressions."""
    asked = [pages.next] if isinstance(pages, LinkPages | CursorPages) and pages.next else []
    if not _counted(pages):
        return asked
    items = pages.items or "@"
    return [*asked, f"type({items})", f"type({items}) == 'array' && length({items})"]


def _counted(pages: AnyPages) -> bool:
    """Return whether the items of each page are counted."""
    if isinstance(pages, NumberedPages | OffsetPages) or pages.deliver == "joined":
        return True
    return isinstance(pages, CursorPages) and pages.items is not None


class Walk:
    """The pages of one Run. ``place`` is that of the next one, None after the last."""

    def __init__(self, pages: AnyPages, place: Place) -> None:
        self._pages = pages
        self.place: Place | None = place
        self.count = 0
        self.items = 0
        """How many the last page had, where they are counted."""
        self._bytes = 0
        self._seen: set[int] = set()
        self._last = ""

    @property
    def stopped(self) -> bool:
        """Whether the Run has had as much as it may have."""
        return self.count >= self._pages.max or self._bytes >= self._pages.max_bytes

    def go_on(self, ask: Ask, fetched: Fetched, values: Sequence[Any]) -> FetchError | None:
        """Take note of a page, and go to the next one; ``values`` are those of `queries`.

        Returns why the next page is not asked for, although there is one: the page itself is good all the same.

        Raises:
            FetchError: this is not a page.
        """
        assert self.place is not None
        here, self.place = self.place, None
        self.count += 1
        self._bytes += fetched.body.size
        self._seen.add(_digest(_whereabouts(here, ask)))
        if fetched.status == _NO_CONTENT:
            self.items = 0
            return None
        self.items = self._items(values[-2:]) if _counted(self._pages) else 0
        following = self._following(here, ask, fetched, values)
        if isinstance(following, FetchError):
            return following
        if following is None:
            return None
        if _digest(following) in self._seen:
            return refused(f"the pages go round in a circle: page {self.count} leads back to one that came before it")
        if self.stopped and not self._pages.resume:
            return refused(f"stopped at {self._limit()}, and more follow")
        self.place = following
        return None

    def _limit(self) -> str:
        if self.count >= self._pages.max:
            return f"max = {self._pages.max} pages"
        return f"max_bytes = {self._pages.max_bytes} bytes"

    def _following(self, here: Place, ask: Ask, fetched: Fetched, values: Sequence[Any]) -> Place | FetchError | None:
        pages = self._pages
        if isinstance(pages, LinkPages):
            return self._by_link(ask, values[0] if pages.next else next_link(fetched.headers.get("link", "")))
        if isinstance(pages, CursorPages):
            return self._by_cursor(here, values)
        count = self.items
        full = count > 0 if pages.size is None else count >= pages.size
        sha256, last = fetched.body.sha256, self._last
        self._last = sha256
        if count and sha256 == last:
            message = f'page {self.count} is the same as the one before it: the server does not heed "{pages.param}"'
            raise refused(message)
        if not full:
            return None
        return Place(here.value + (1 if isinstance(pages, NumberedPages) else count))

    def _by_link(self, ask: Ask, reference: Any) -> Place | FetchError | None:
        if _is_end(reference):
            return None
        assert ask.asked is not None
        assert ask.answered is not None
        if not isinstance(reference, str):
            return refused(f"page {self.count} names as the next one what is no address but a {_kind(reference)}")
        try:
            return Place(path_of_next(reference, ask.answered, ask.asked))
        except FetchError as error:
            return error

    def _by_cursor(self, here: Place, values: Sequence[Any]) -> Place | FetchError | None:
        assert isinstance(self._pages, CursorPages)
        value = values[0]
        if _is_end(value):
            return None
        if self._pages.items is not None and Place(value) == here and not self.items:
            return None  # some servers name the place to wait at for ever
        if isinstance(value, dict | list) and self._pages.param is not None:
            return refused(f"the cursor of page {self.count} is a {_kind(value)}, which no parameter can carry")
        if len(json.dumps(value)) > LONGEST_CURSOR or not sendable(value):
            return refused(f"the cursor of page {self.count} is longer than {LONGEST_CURSOR} characters, or no text")
        return Place(value)

    def _items(self, values: Sequence[Any]) -> int:
        """Return how many items the page has, by its kind and length."""
        kind, length = values
        if kind == "array":
            return int(length)
        # Null is what some servers write for "none"; but at once it is more likely that the expression is wrong.
        if kind in {None, "null"} and self.count > 1:
            return 0
        if kind is None:
            raise refused(f"page {self.count} has no list: its body is empty")
        where = f"items, {self._pages.items}," if self._pages.items else "it has no items, and its body"
        raise refused(
            f'page {self.count} has no list: {where} is of the type {kind}; write where it is: items = "data"'
        )


def as_text(value: Any) -> str:
    """Return a cursor as parameters carry it."""
    return value if isinstance(value, str) else json.dumps(value)


def sendable(value: Any) -> bool:
    """Return whether ``value`` can be written in UTF-8, which half a pair of surrogates cannot."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return not any("\ud800" <= letter <= "\udfff" for letter in text)


def _is_end(value: Any) -> bool:
    return value is None or value is False or value == ""


def _kind(value: Any) -> str:
    names = {dict: "table", list: "list", bool: "truth value"}
    return names.get(type(value), "number")


def _whereabouts(place: Place, ask: Ask) -> Place:
    """Return ``place`` as another page would name it: the first page of links has a path as well."""
    if place.value is None and ask.asked is not None:
        return Place(ask.asked.raw_path.decode("ascii"))
    return place


def _digest(place: Place) -> int:
    digest = hashlib.blake2b(json.dumps(place.value, sort_keys=True).encode(), digest_size=8)
    return int.from_bytes(digest.digest(), "big")
