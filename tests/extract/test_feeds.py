"""Feeds, in one form whatever they were: and what hostile ones cannot do."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fetchd.errors import FetchError
from tests.extract.made import read, rows

pytest.importorskip("feedparser", reason="feeds are read by feedparser: pip install feedparser")

RSS = b"""<?xml version="1.0"?><rss version="2.0" xmlns:content="http://purl.org/rss/1.0/modules/content/"><channel>
<title>News</title><item><guid isPermaLink="false">n1</guid><title>One &amp; only</title><link>/one</link>
<pubDate>Mon, 02 Mar 2026 10:00:00 +0100</pubDate><description>short</description>
<content:encoded><![CDATA[<p onclick="x()">long</p><script>steal()</script>]]></content:encoded>
<author>a@x.test (Ann)</author><category>a</category><category>b</category></item>
<item><title>bare</title><link>javascript:alert(1)</link></item></channel></rss>"""

ATOM = b"""<feed xmlns="http://www.w3.org/2005/Atom"><title>t</title><entry><id>urn:1</id><title>One</title>
<link href="https://x.test/1"/><updated>2026-03-02T10:00:00Z</updated><summary>s</summary>
<author><name>Ann</name></author><category term="a"/></entry></feed>"""

JSON_FEED = json.dumps(
    {
        "version": "https://jsonfeed.org/version/1.1",
        "items": [
            {"id": 7, "url": "https://x.test/1", "title": "One", "content_text": "c", "authors": [{"name": "Ann"}]},
            {"external_url": "javascript:alert(1)", "tags": ["a", 1], "date_published": "2026-03-02T10:00:00Z"},
            "no item",
        ],
    }
).encode()

NOTHING: dict[str, Any] = {
    **dict.fromkeys(("id", "title", "link", "published", "updated", "summary", "content", "author")),
    "categories": [],
}


def entries(content: bytes, **keys: Any) -> list[Any]:
    """Return the entries of the feed."""
    return rows(read(content, parse="feed", url="https://upstream.test/feed", **keys))


def test_rss_is_read() -> None:
    """Times in UTC, links from the feed's own address, HTML without scripts, and no link that is a script."""
    first, second = entries(RSS)
    assert first == {
        "id": "n1",
        "title": "One & only",
        "link": "https://upstream.test/one",
        "published": "2026-03-02T09:00:00Z",
        "updated": None,
        "summary": "short",
        "content": "<p>long</p>",
        "author": "a@x.test (Ann)",
        "categories": ["a", "b"],
    }
    assert second == NOTHING | {"title": "bare"}


def test_atom_is_read() -> None:
    """An update is no publication."""
    assert entries(ATOM) == [
        {
            "id": "urn:1",
            "title": "One",
            "link": "https://x.test/1",
            "published": None,
            "updated": "2026-03-02T10:00:00Z",
            "summary": "s",
            "content": None,
            "author": "Ann",
            "categories": ["a"],
        }
    ]


def test_json_feed_is_read() -> None:
    """What is not as it should be is left out."""
    assert entries(JSON_FEED) == [
        NOTHING | {"id": "7", "link": "https://x.test/1", "title": "One", "content": "c", "author": "Ann"},
        NOTHING | {"published": "2026-03-02T10:00:00Z", "categories": ["a"]},
    ]


def test_an_entry_comes_once_without_a_word_in_the_configuration() -> None:
    """That is what feeds are read for; an entry that is edited is not a new one, one without an id goes by its link."""
    seen = read(ATOM, parse="feed").seen
    assert read(ATOM.replace(b"One", b"Edited"), parse="feed", seen=seen).records == 0
    assert read(ATOM.replace(b"urn:1", b"urn:2"), parse="feed", seen=seen).records == 1
    bare = b'<rss version="2.0"><channel><item><title>t</title><link>http://x.test/%d</link></item></channel></rss>'
    seen = read(bare % 1, parse="feed").seen
    assert [read(bare % number, parse="feed", seen=seen).records for number in (1, 2)] == [0, 1]


def test_expressions_choose_entries() -> None:
    """The result is records all the same."""
    assert entries(RSS, extract="[?link].{t: title}") == [{"t": "One & only"}]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the body is no feed: neither RSS, nor Atom, nor JSON Feed"),
        (b"<html><body>s3cret</body></html>", "the body is no feed: neither RSS, nor Atom, nor JSON Feed"),
        (b"\x00\xff" * 100, "the body is no feed: neither RSS, nor Atom, nor JSON Feed"),
        (b'{"error": "s3cret"}', "the body is JSON, but no JSON Feed"),
        (b'{"version": "https://jsonfeed.org/version/1", "items": 3}', "the body is JSON, but no JSON Feed"),
        (b'{"version": ', "the body is not JSON: Expecting value at line 1, column 13"),
    ],
)
def test_what_is_no_feed_is_an_error(content: bytes, message: str) -> None:
    """A login page is no feed without entries."""
    with pytest.raises(FetchError) as caught:
        entries(content)
    assert str(caught.value) == message


def test_a_body_is_never_the_name_of_a_file(tmp_path: Path) -> None:
    """The library opens whatever its argument names, if it can."""
    (tmp_path / "feed").write_bytes(ATOM)
    with pytest.raises(FetchError, match="is no feed"):
        entries(bytes(tmp_path / "feed"))


def test_entities_neither_reach_files_nor_grow(tmp_path: Path) -> None:
    """A billion laughs, and the oldest trick of all."""
    (tmp_path / "secret").write_text("s3cret")
    item = b'<rss version="2.0"><channel><item><title>%s</title></item></channel></rss>'
    outside = f'<!DOCTYPE r [<!ENTITY x SYSTEM "file://{tmp_path}/secret">]>'.encode() + item % b"&x;"
    laughs = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 10))
    bomb = f'<!DOCTYPE r [<!ENTITY l0 "{"lol" * 10}">{laughs}]>'.encode() + item % b"&l9;"
    square = b'<!DOCTYPE r [<!ENTITY a "%b">]>' % (b"x" * 10_000) + item % (b"&a;" * 2_000)
    for content in (outside, bomb, square):
        answer = read(content, parse="feed")
        assert isinstance(answer.content, bytes)
        assert b"s3cret" not in answer.content
        assert answer.size < 100_000
