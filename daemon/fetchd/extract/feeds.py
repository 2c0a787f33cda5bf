"""Feeds as records, all in one form: RSS and Atom by feedparser, JSON Feed by itself. For worker processes alone."""

from __future__ import annotations

import io
import time
from collections.abc import Iterator
from typing import Any, Final

from fetchd.extract.plain import failure, parsed

REMEDY: Final = "pip install feedparser, where fetchd is installed"
"""What brings the package that reads feeds."""

_JSON_FEED: Final = "https://jsonfeed.org/version/"
_TEXTS: Final = ("id", "title", "summary", "author")


def entries(content: bytes, content_type: str, url: str) -> Iterator[dict[str, Any]]:
    """Yield each entry with its id, title, link, published, updated, summary, content, author and categories.

    What an entry does not have is None. Times are RFC 3339 in UTC; links that are relative start from ``url``, and
    those that are neither http nor https are left out; of HTML, scripts and the like are left out.

    Raises:
        FetchError: it is no feed, or the package that reads feeds is missing.
    """
    if content.removeprefix(b"\xef\xbb\xbf").lstrip()[:1] == b"{":
        return _of_json(parsed(content))
    return _of_xml(content, content_type, url)


def _of_xml(content: bytes, content_type: str, url: str) -> Iterator[dict[str, Any]]:
    try:
        import feedparser
    except ImportError:
        raise failure(f"feeds are read by feedparser, which is missing: {REMEDY}") from None
    # As a file: bytes would be tried as the name of one first.
    headers = {"content-type": content_type, "content-location": url}
    try:
        feed = feedparser.parse(io.BytesIO(content), response_headers=headers)
    except (MemoryError, RecursionError):
        raise
    except Exception as error:  # it guesses at what is broken, and its guesses fail in many ways
        raise failure(f"the body is no feed that can be read: {type(error).__name__}") from None
    if not feed.get("version"):
        raise failure("the body is no feed: neither RSS, nor Atom, nor JSON Feed")
    for entry in feed.entries:
        yield _of_entry(entry)


def _of_entry(entry: dict[str, Any]) -> dict[str, Any]:
    def get(key: str) -> Any:
        return dict.get(entry, key)  # its own get() puts one date in the place of another

    texts = {key: get(key) or None for key in _TEXTS}
    return {
        "id": texts["id"],
        "title": texts["title"],
        "link": _link(get("link")),
        "published": _time(get("published_parsed")),
        "updated": _time(get("updated_parsed")),
        "summary": texts["summary"],
        "content": next((part.get("value") or None for part in get("content") or []), None),
        "author": texts["author"],
        "categories": [tag["term"] for tag in get("tags") or [] if tag.get("term")],
    }


def _of_json(feed: Any) -> Iterator[dict[str, Any]]:
    version = feed.get("version")
    if not isinstance(version, str) or not version.startswith(_JSON_FEED) or not isinstance(feed.get("items"), list):
        raise failure("the body is JSON, but no JSON Feed")
    for item in feed["items"]:
        if isinstance(item, dict):
            yield _of_item(item)


def _of_item(item: dict[str, Any]) -> dict[str, Any]:
    authors = item.get("authors") or [item.get("author")]
    first = authors[0] if isinstance(authors, list) and authors else None
    tags = item.get("tags")
    identity = item.get("id")
    return {
        "id": str(identity) if isinstance(identity, str | int | float) and identity != "" else None,
        "title": _text(item.get("title")),
        "link": _link(item.get("url")) or _link(item.get("external_url")),
        "published": _text(item.get("date_published")),
        "updated": _text(item.get("date_modified")),
        "summary": _text(item.get("summary")),
        "content": _text(item.get("content_html")) or _text(item.get("content_text")),
        "author": _text(first.get("name")) if isinstance(first, dict) else None,
        "categories": [tag for tag in tags if isinstance(tag, str)] if isinstance(tags, list) else [],
    }


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def _link(value: Any) -> str | None:
    text = _text(value)
    return text if text and text.lower().startswith(("http://", "https://")) else None


def _time(value: Any) -> str | None:
    try:
        return time.strftime("%Y-%m-%dT%H:%M:%SZ", value) if value else None
    except (ValueError, OverflowError):  # a date that no calendar has
        return None
