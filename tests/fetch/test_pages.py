"""Where the next page is: the Link header, addresses in bodies, cursors, numbers; and what is refused."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fetchd.errors import FetchError, Reason
from fetchd.fetch import pages
from fetchd.fetch.ask import Ask, Place
from fetchd.fetch.links import LONGEST, next_link, path_of_next
from fetchd.fetch.pages import AnyPages, Walk
from fetchd.fetch.placeholders import Known
from fetchd.fetch.request import Template
from fetchd.job import CursorPages, LinkPages, NumberedPages, OffsetPages
from tests.fakes import fetched
from tests.fetch.room import RUN, job

URL = "http://api.test:8080/v1/items?size=2"
KNOWN = Known(RUN.slot, RUN.slot)
ANSWERED = httpx.URL(URL)


@pytest.mark.parametrize(
    ("header", "target"),
    [
        ('<http://api.test/?page=2>; rel="next"', "http://api.test/?page=2"),
        ("</?page=2>;rel=next", "/?page=2"),
        ('</1>; rel="prev", </3>; rel="next", </9>; rel="last"', "/3"),
        ('</3> ; title="a, b; rel=\\"next\\" <x>" ; REL = "Last NEXT"', "/3"),
        ('</1>; rel="prev first"; title="next", </2>; rel="next"; type="a/b"', "/2"),
        ("</2,3;x>; rel=next", "/2,3;x"),
        ('<>; rel="next"', ""),
        (",, </1>; rel=next,", "/1"),
        ('</1>; rel="prev"; rel="next"', None),
        ('</1>; rel="next"; anchor="#other", </2>; rel="next"', "/2"),
        ('</1>; rel="nextish"', None),
        ("</1>; title=next", None),
        ("</1>", None),
        ('</1; rel="next"', None),
        ('</1>; rel="next', None),
        ("junk", None),
        ("", None),
    ],
)
def test_link_headers(header: str, target: str | None) -> None:
    """RFC 8288: quoted or not, several in one, in any case, and none where there is none."""
    assert next_link(header) == target


TOKEN = st.text(alphabet="abcxyz-", min_size=1, max_size=8)
QUOTED = st.text(alphabet='ab ,;<>="\\é', max_size=12)
LINK = st.tuples(
    st.text(alphabet="ab/?=&,;%1 ", max_size=12), st.booleans(), st.dictionaries(TOKEN, QUOTED, max_size=3)
)


@given(st.lists(LINK, max_size=5))
def test_any_list_of_links_is_read_back(links: list[tuple[str, bool, dict[str, str]]]) -> None:
    """The first that is the next one is found, whatever stands in the parameters around it."""
    parts = []
    for target, is_next, parameters in links:
        others = {name: value for name, value in parameters.items() if name not in {"rel", "anchor"}}
        texts = [f'{name}="{_escaped(value)}"' for name, value in others.items()]
        parts.append("; ".join([f"<{target}>", *texts, 'rel="next"' if is_next else "rel=prev"]))
    wanted = next((target.strip() for target, is_next, _ in links if is_next), None)
    assert next_link(", ".join(parts)) == wanted


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"')


@given(st.text(alphabet='<>;,="\\ rel=nxt/a', max_size=200))
def test_any_header_is_survived(header: str) -> None:
    """A server can write anything there."""
    next_link(header)


@pytest.mark.parametrize("piece", ["<a>,", '<a>; x="', "<", ";", '\\"', "<a>;;;;", ' ; a = "b', "<a>; rel=next x"])
def test_a_long_header_is_read_in_no_time(piece: str) -> None:
    """As long as all headers may be: a pattern that goes back and forth would not end within the test's timeout."""
    next_link(piece * (200_000 // len(piece)))


@pytest.mark.parametrize(
    ("reference", "path"),
    [
        ("?page=2", "/v1/items?page=2"),
        ("more", "/v1/more"),
        ("/other?x=%2F", "/other?x=%2F"),
        ("../v2/items", "/v2/items"),
        ("http://api.test:8080/x?y", "/x?y"),
        ("HTTP://API.test:8080/x", "/x"),
        ("//api.test:8080/x", "/x"),
        ("http://api.test:8080", "/"),
        ("#part", "/v1/items?size=2"),
        (" /padded ", "/padded"),
        ("/é", "/%C3%A9"),
        ("\\\\evil.test/x", "/v1/\\\\evil.test/x"),
        ("http:///x", "/x"),
        ("http://api.test:8080//evil.test/x", "//evil.test/x"),
    ],
)
def test_references_are_resolved(reference: str, path: str) -> None:
    """Against the address that the page came from (RFC 3986); the origin is the job's own in any case."""
    assert path_of_next(reference, ANSWERED, ANSWERED) == path


@pytest.mark.parametrize(
    "reference",
    [
        "http://evil.test/",
        "//evil.test/",
        "https://api.test:8080/",
        "http://api.test/",
        "http://api.test:8081/",
        "http://api.test:8080@evil.test/",
        "http://user@api.test:8080/",
        "http://user:s3cr3t@api.test:8080/",
        "http://api.test:8080:80/",
        "http://api.test:99999/",
        "http+unix://%2Frun%2Fdocker.sock/",
        "javascript:alert(1)",
        "java\tscript:alert(1)",
        "file:///etc/passwd",
        "data:text/plain,x",
        "ftp://api.test:8080/",
        "http://[::1",
        "http://[bad]/",
        "http://\\\\evil.test/",
        "/with space",
        "/" + "x" * LONGEST,
        "/" + "é" * (LONGEST // 4),
    ],
)
def test_other_origins_are_refused(reference: str) -> None:
    """What the job sends is for its own server; the refusal repeats neither users nor queries."""
    with pytest.raises(FetchError) as caught:
        path_of_next(reference + "?token=s3cr3t" * (len(reference) < 100), ANSWERED, ANSWERED)
    assert (caught.value.reason, caught.value.transient) == (Reason.PAGES, False)
    assert "s3cr3t" not in str(caught.value)


def test_a_redirect_to_elsewhere_does_not_move_the_job() -> None:
    """A page that came from another origin resolves its references there, where the job's secrets must not go."""
    with pytest.raises(FetchError, match=r"another origin, http://mirror\.test, than the job's url"):
        path_of_next("?page=2", httpx.URL("http://mirror.test/items"), ANSWERED)


def test_a_socket_has_pages_too() -> None:
    """The standard library resolves nothing against a scheme that it does not know."""
    socket = httpx.URL("http+unix://%2Frun%2Fapp.sock/v1/items")
    assert path_of_next("?page=2", socket, socket) == "/v1/items?page=2"


def asking(place: Place = Place()) -> Ask:  # noqa: B008 - it is frozen
    """Return what has been asked and answered at `URL`."""
    return Ask(KNOWN, place, ANSWERED, ANSWERED)


def walked(walk: Walk, content: bytes, values: list[Any]) -> FetchError | None:
    """Go on by a page."""
    assert walk.place is not None
    return walk.go_on(asking(walk.place), fetched(content), values)


@pytest.mark.parametrize(
    ("kind", "place", "counted", "following"),
    [
        (NumberedPages(kind="page"), 1, 3, 2),
        (NumberedPages(kind="page", size=3), 1, 3, 2),
        (NumberedPages(kind="page", size=3), 1, 2, None),
        (NumberedPages(kind="page", first=0), 0, 3, 1),
        (NumberedPages(kind="page"), 1, 0, None),
        (OffsetPages(kind="offset", size=3), 0, 3, 3),
        (OffsetPages(kind="offset", size=3), 6, 4, 10),
        (OffsetPages(kind="offset", size=3), 6, 2, None),
        (OffsetPages(kind="offset", size=3), 6, 0, None),
    ],
)
def test_counted_pages(kind: AnyPages, place: int, counted: int, following: int | None) -> None:
    """They end with the first one that is not full; of a server that brings more than was asked nothing is skipped."""
    walk = Walk(kind, Place(place))
    assert walked(walk, b"[1]", ["array", counted]) is None
    assert walk.place == (None if following is None else Place(following))


@pytest.mark.parametrize("kind", [NumberedPages(kind="page"), OffsetPages(kind="offset", items="data")])
@pytest.mark.parametrize("values", [["object", False], ["null", False], ["string", False]])
def test_what_is_no_page(kind: AnyPages, values: list[Any]) -> None:
    """An expression that finds nothing at once would else be a success without results, for ever."""
    with pytest.raises(FetchError, match="page 1 has no list"):
        walked(Walk(kind, pages.first(kind)), b"{}", values)


def test_null_is_none_later() -> None:
    """Some servers write null for an empty list."""
    walk = Walk(NumberedPages(kind="page", items="data"), Place(1))
    walked(walk, b"[1]", ["array", 1])
    walked(walk, b"{}", ["null", False])
    assert walk.place is None


def test_a_server_that_does_not_heed_the_parameter() -> None:
    """It brings the same page for ever."""
    walk = Walk(NumberedPages(kind="page", param="p"), Place(1))
    walked(walk, b"[1]", ["array", 1])
    with pytest.raises(FetchError, match='page 2 is the same as the one before it: the server does not heed "p"'):
        walked(walk, b"[1]", ["array", 1])


@pytest.mark.parametrize("end", [None, "", False])
@pytest.mark.parametrize(
    "kind", [CursorPages(kind="cursor", next="next", param="after"), LinkPages(kind="link", next="next")]
)
def test_the_end(kind: AnyPages, end: Any) -> None:
    """What servers write where there is no further page."""
    walk = Walk(kind, Place())
    assert walked(walk, b"{}", [end]) is None
    assert walk.place is None


@pytest.mark.parametrize(
    ("param", "value", "words"),
    [
        ("after", ["a"], "a list, which no parameter can carry"),
        ("after", {"a": 1}, "a table, which no parameter can carry"),
        ("after", "x" * 5000, "longer than 4096"),
        ("after", "\ud800", "or no text"),
        (None, ["x" * 5000], "longer than 4096"),
    ],
)
def test_odd_cursors(param: str | None, value: Any, words: str) -> None:
    """They are refused; the page that named them is good all the same."""
    where = {"param": param} if param else {"field": "after"}
    refusal = walked(Walk(CursorPages(kind="cursor", next="next", **where), Place()), b"{}", [value])
    assert refusal is not None
    assert words in str(refusal)


@pytest.mark.parametrize("value", [0, 17, 1.5, True, "x"])
def test_cursors_keep_their_type(value: Any) -> None:
    """Zero is one as well, and a JSON body carries a number as a number."""
    walk = Walk(CursorPages(kind="cursor", next="next", field="a"), Place())
    assert walked(walk, b"{}", [value]) is None
    assert walk.place == Place(value)


def test_circles_of_any_length() -> None:
    """A page that came before is not asked for again."""
    walk = Walk(CursorPages(kind="cursor", next="next", param="after"), Place())
    assert walked(walk, b"{}", ["a"]) is None
    assert walked(walk, b"{}", ["b"]) is None
    refusal = walked(walk, b"{}", ["a"])
    assert refusal is not None
    assert "go round in a circle: page 3" in str(refusal)


def test_back_to_the_beginning_is_a_circle() -> None:
    """The job's own request has an address like any page."""
    refusal = walked(Walk(LinkPages(kind="link", next="next"), Place()), b"{}", ["/v1/items?size=2"])
    assert refusal is not None
    assert "circle" in str(refusal)


def test_a_place_to_wait_at_is_the_end() -> None:
    """Some servers go on naming the last cursor; where the page is known to be empty that is no circle."""
    walk = Walk(CursorPages(kind="cursor", next="next", param="after", items="data"), Place("z"))
    assert walked(walk, b"{}", ["z", "array", 0]) is None
    assert walk.place is None


@pytest.mark.parametrize(("caps", "words"), [({"max": 2}, "max = 2 pages"), ({"max_bytes": "4B"}, "max_bytes = 4")])
@pytest.mark.parametrize("resume", [False, True])
def test_caps(caps: dict[str, Any], words: str, resume: bool) -> None:
    """Where more follow it is said, unless the next Run goes on there."""
    walk = Walk(CursorPages(kind="cursor", next="next", param="after", resume=resume, **caps), Place())
    assert walked(walk, b"{1}", ["a"]) is None
    assert not walk.stopped
    refusal = walked(walk, b"{2}", ["b"])
    assert walk.stopped
    assert walk.place == (Place("b") if resume else None)
    assert str(refusal) == ("None" if resume else f"stopped at {words}{' bytes' * ('B' in str(caps))}, and more follow")


def test_as_many_pages_as_allowed_are_no_error() -> None:
    """The cap is about what follows."""
    walk = Walk(CursorPages(kind="cursor", next="next", param="after", max=1), Place())
    assert walked(walk, b"{}", [None]) is None


def requested(place: Place, **keys: Any) -> httpx.Request:
    """Return the request for the page at ``place``."""
    from fetchd.fetch.exchange import Exchange, Limits
    from fetchd.run import Progress

    wanted = job(**{"url": URL, **keys})
    return Template.of(wanted).request(Exchange(Limits.of(wanted), Progress()), ask=Ask(KNOWN, place))


PAGE = {"kind": "page", "size": 2, "size_param": "size"}
CURSOR = {"kind": "cursor", "next": "next", "param": "after"}


@pytest.mark.parametrize(
    ("keys", "place", "target"),
    [
        ({"pages": {"kind": "link"}}, None, "/v1/items?size=2"),
        ({"pages": {"kind": "link"}, "params": {"key": "x"}}, "/x?y=%2F", "/x?y=%2F"),
        ({"pages": CURSOR}, None, "/v1/items?size=2"),
        ({"pages": CURSOR}, "a&b=c", "/v1/items?size=2&after=a%26b%3Dc"),
        ({"pages": CURSOR, "params": {"after": "first", "b": "1"}}, 7, "/v1/items?size=2&b=1&after=7"),
        ({"pages": CURSOR, "url": "http://api.test/?x&a=%2f&%61fter=0"}, True, "/?x&a=%2f&after=true"),
        ({"pages": PAGE, "url": "http://api.test/?page=9"}, 1, "/?size=2&page=1"),
        ({"pages": {"kind": "page"}, "url": "http://api.test/"}, 3, "/?page=3"),
        ({"pages": {"kind": "offset"}, "url": "http://api.test/"}, 0, "/?limit=100&offset=0"),
        ({"url": URL + "&t={slot:unix}", "params": {"a": "{slot:%H %M}"}}, None, f"{URL[20:]}&t=1767225600&a=00+00"),
    ],
)
def test_requests_for_pages(keys: dict[str, Any], place: Any, target: str) -> None:
    """The page's own parameters replace those of the job; every other byte of the query stays."""
    request = requested(Place(place), **keys)
    assert request.url.raw_path.decode() == target
    assert request.url.host == "api.test"


@pytest.mark.parametrize(
    ("keys", "place", "content"),
    [
        ({"json": {"a": 1}}, None, b'{"a":1}'),
        ({"json": {"a": 1}}, [5, "x"], b'{"a":1,"variables":{"after":[5,"x"]}}'),
        ({"json": {"variables": {"after": None, "n": 2}}}, "c", b'{"variables":{"after":"c","n":2}}'),
        ({"json": {"variables": "{slot:%Y}"}}, 3, b'{"variables":{"after":3}}'),
        ({"form": {"a": "{slot:%Y}"}}, "c d", b"a=2026&variables.after=c+d"),
    ],
)
def test_bodies_for_pages(keys: dict[str, Any], place: Any, content: bytes) -> None:
    """The cursor goes where the field says, with its own length; the job's definition stays as it is."""
    field = {"kind": "cursor", "next": "next", "field": "variables.after"}
    request = requested(Place(place), method="POST", pages=field, **keys)
    assert request.content == content
    assert request.headers.get_list("content-length") == [str(len(content))]
    assert len(request.headers.get_list("content-type")) == 1
