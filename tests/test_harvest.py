"""The way from a job to its results: filled in, through all pages, with what the next Run begins with."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from fetchd.body import MemoryBudget
from fetchd.clock import FakeClock, SystemClock
from fetchd.errors import FetchError, Reason
from fetchd.extract.reader import Reader
from fetchd.fetch.fetcher import Fetcher
from fetchd.fetch.spool import Spool
from fetchd.harvest import Harvest, place_of
from fetchd.job import Job
from fetchd.outbox import Outbox
from fetchd.run import Carried, Fetched, Outcome, Progress, Report, Run, Validators
from fetchd.runner import Runner
from fetchd.store import Memory
from fetchd.store.memory import MemoryStore
from fetchd.worker import Workers
from tests.api import Api, Asked, serving
from tests.fakes import FakeSink, targets
from tests.fetch import room
from tests.fetch.room import connections, response

NOW = datetime(2026, 3, 1, 12, 30, tzinfo=UTC)
RUN = Run("run-1", "test", NOW - timedelta(seconds=1))
MIB = 2**20
ITEMS = [{"id": number} for number in range(7)]


def job(url: str, **keys: Any) -> Job:
    """Return a job whose requests may take their time, as on a busy machine: none of these is about timeouts."""
    return room.job(url, **{"timeout": "5s", **keys})


@dataclass(slots=True)
class Gathered:
    """What a Run brought: the content of each result, the results, closed, and the error that it ended with."""

    contents: list[Any] = field(default_factory=list)
    results: list[Fetched] = field(default_factory=list)
    error: FetchError | None = None
    progress: Progress = field(default_factory=Progress)

    @property
    def carried(self) -> Carried:
        """What the last result left."""
        carried = self.results[-1].carried
        assert carried is not None
        return carried

    @property
    def refusal(self) -> str:
        """Why there are no more pages."""
        assert self.error is not None
        assert (self.error.reason, self.error.transient) == (Reason.PAGES, False)
        return str(self.error)


@dataclass(slots=True)
class Gatherer:
    """A harvest over real connections, and what was lent to it."""

    harvest: Harvest
    budget: MemoryBudget
    folder: Path
    clock: FakeClock

    async def __call__(self, of: Job, memory: Memory | None = None, *, at_most: int = 1000) -> Gathered:
        """Take the results of a Run, up to ``at_most`` of them, as the runner does."""
        gathered = Gathered()
        try:
            async with aclosing(self.harvest.results(of, RUN, gathered.progress, memory or Memory())) as results:
                async for result in results:
                    content = await result.body.read()
                    gathered.contents.append(json.loads(content) if content else None)
                    gathered.results.append(result)
                    result.body.close()
                    if len(gathered.results) == at_most:
                        break
        except FetchError as error:
            gathered.error = error
        assert self.budget.used == 0
        assert not list(self.folder.iterdir())
        return gathered


@asynccontextmanager
async def gathering(folder: Path, above: int = MIB) -> AsyncIterator[Gatherer]:
    """Give a harvest that spools to ``folder``."""
    async with connections() as transport:
        budget = MemoryBudget(64 * MIB)
        spool, workers = Spool(folder, above, budget), Workers()
        fetcher = Fetcher(transport, spool, workers)
        try:
            clock = FakeClock(NOW)
            yield Gatherer(Harvest(fetcher, Reader(workers, spool), spool, clock), budget, folder, clock)
        finally:
            await workers.aclose()


@asynccontextmanager
async def both(folder: Path, answer: Callable[[Asked], bytes], above: int = MIB) -> AsyncIterator[tuple[Gatherer, Api]]:
    """Give a harvest, and a server that answers it."""
    async with gathering(folder, above) as gather, serving(answer) as api:
        yield gather, api


def answered(document: Any, *headers: str) -> bytes:
    """Return a response with JSON."""
    return response(json.dumps(document).encode(), "Content-Type: application/json", *headers)


def paged(asked: Asked) -> bytes:
    """Answer in the way that the path names: the seven items, two on a page."""
    style = asked.target.partition("?")[0].strip("/")
    body = json.loads(asked.body) if asked.body else {}
    start = int({**asked.query, **body.get("variables", {})}.get("start", 0))
    if style == "page":
        start = 2 * int(asked.query["p"]) - 2
    page, following = ITEMS[start : start + 2], start + 2 if start + 2 < len(ITEMS) else None
    if style == "link":
        links = ['<http://elsewhere.test/>; rel="help"', f'<?start={following}>; rel="next"']
        return answered(page, *(f"Link: {link}" for link in links[: 1 if following is None else 2]))
    if style in {"cursor", "next"}:
        url = f"/next?start={following}" if following else None
        return answered({"data": page, "cursor": following, "url": url})
    return answered(page)


STYLES: dict[str, tuple[str, dict[str, Any]]] = {
    "link": ("link", {"kind": "link"}),
    "next": ("next", {"kind": "link", "next": "url", "items": "data"}),
    "cursor": ("cursor", {"kind": "cursor", "next": "cursor", "param": "start", "items": "data"}),
    "field": ("cursor", {"kind": "cursor", "next": "cursor", "field": "variables.start", "items": "data"}),
    "page": ("page", {"kind": "page", "param": "p"}),
    "sized": ("page", {"kind": "page", "param": "p", "size": 2}),
    "offset": ("offset", {"kind": "offset", "param": "start", "size": 2, "size_param": None}),
}


def paged_job(api: Api, style: str, **pages: Any) -> Job:
    """Return a job for one of the styles."""
    path, keys = STYLES[style]
    posted: dict[str, Any] = {"method": "POST", "json": {"query": "{ items }"}} if style == "field" else {}
    return job(f"{api.url}/{path}", pages={**keys, **pages}, **posted)


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("deliver", ["each", "joined"])
async def test_all_items_come_once(style: str, deliver: str, tmp_path: Path) -> None:
    """Whatever the server's way of naming the next page, and however they are delivered."""
    async with both(tmp_path, paged) as (gather, api):
        got = await gather(paged_job(api, style, deliver=deliver))
    assert got.error is None
    pages = [content["data"] if isinstance(content, dict) else content for content in got.contents]
    assert [item for page in pages for item in page] == ITEMS
    asked = 5 if style == "page" else 4
    assert (len(pages), got.progress.pages) == (1 if deliver == "joined" else asked, asked)
    assert got.progress.bytes >= sum(len(json.dumps(item)) for item in ITEMS)
    assert got.carried == Carried()


async def test_a_page_is_asked_for_once_the_last_one_was_taken(tmp_path: Path) -> None:
    """What is kept already needs no memory while the next one comes."""
    async with both(tmp_path, paged) as (gather, api):
        await gather(paged_job(api, "link"), at_most=2)
        assert len(api.asked) == 2


async def test_joined_pages_are_spooled(tmp_path: Path) -> None:
    """However many there are, memory holds one of them; what comes out is JSON, byte by byte."""
    items = [{"text": "žluťoučký \n kůň ☃" * 100, "number": 12345678901234567890 + number} for number in range(200)]

    def answer(asked: Asked) -> bytes:
        page = int(asked.query["page"])
        return answered(items[(page - 1) * 50 : page * 50])

    async with both(tmp_path, answer, above=4096) as (gather, api):
        keys = {"kind": "page", "deliver": "joined"}
        got = await gather(job(api.url, pages=keys))
        refused = await gather(job(api.url, pages=keys, max_body="500KiB"))
    assert got.contents == [items]
    assert got.results[0].content_type == "application/json"
    assert refused.error is not None
    assert refused.error.reason is Reason.TOO_LARGE
    assert not refused.contents


async def test_nothing_joined_is_an_empty_list(tmp_path: Path) -> None:
    """An empty list is a result as well."""
    async with both(tmp_path, lambda asked: answered([])) as (gather, api):
        assert (await gather(job(api.url, pages={"kind": "page", "deliver": "joined"}))).contents == [[]]


async def test_joined_pages_that_do_not_fit_name_the_cap(tmp_path: Path) -> None:
    """Not what is left of it for the page that was too much."""
    items = ["x" * 40] * 10
    async with both(tmp_path, lambda asked: answered([*items, asked.target])) as (gather, api):
        got = await gather(job(api.url, pages={"kind": "page", "deliver": "joined"}, max_body="1000B"))
    assert got.error is not None
    assert got.error.reason is Reason.TOO_LARGE
    assert str(got.error) == "the pages are together larger than max_body, 1000 bytes"


@pytest.mark.parametrize("deliver", ["each", "joined"])
async def test_the_cap_is_said(deliver: str, tmp_path: Path) -> None:
    """Pages that came are delivered; a joined list that is not whole is not, for it would look as if it were."""
    async with both(tmp_path, paged) as (gather, api):
        got = await gather(paged_job(api, "link", max=2, deliver=deliver))
    assert got.refusal == "stopped at max = 2 pages, and more follow"
    assert got.contents == ([] if deliver == "joined" else [ITEMS[:2], ITEMS[2:4]])


async def test_the_cap_on_bytes(tmp_path: Path) -> None:
    """Counted over all pages of the Run."""
    async with both(tmp_path, paged) as (gather, api):
        got = await gather(paged_job(api, "link", max_bytes="30B"))
    assert got.refusal == "stopped at max_bytes = 30 bytes, and more follow"
    assert got.contents == [ITEMS[:2], ITEMS[2:4]]


async def test_the_next_run_goes_on(tmp_path: Path) -> None:
    """With ``resume`` the cap is a pause, and so is whatever else ends a Run between two pages."""
    async with both(tmp_path, paged) as (gather, api):
        wanted = paged_job(api, "link", max=2, resume=True)
        first = await gather(wanted)
        second = await gather(wanted, Memory(carried=first.carried))
        cut = await gather(wanted, at_most=1)
        after = await gather(wanted, Memory(carried=cut.carried))
        again = await gather(wanted, Memory(carried=second.carried))
    assert first.error is None
    assert second.error is None
    assert [*first.contents, *second.contents] == [ITEMS[:2], ITEMS[2:4], ITEMS[4:6], ITEMS[6:]]
    assert after.contents == [ITEMS[2:4], ITEMS[4:6]]
    assert second.carried.page == ""
    assert again.contents == first.contents


@pytest.mark.parametrize(
    "changed", [{"params": {"a": "1"}}, {"pages": {"kind": "link", "resume": True, "items": "x"}}, {"method": "PUT"}]
)
async def test_another_definition_begins_anew(changed: dict[str, Any], tmp_path: Path) -> None:
    """A page of another question is no page of this one."""
    async with both(tmp_path, paged) as (gather, api):
        pages = {"kind": "link", "resume": True}
        cut = await gather(job(f"{api.url}/link", pages=pages), at_most=1)
        got = await gather(job(f"{api.url}/link", **{"pages": pages, **changed}), Memory(carried=cut.carried))
    assert got.contents[0] == ITEMS[:2]


@pytest.mark.parametrize("page", ["junk", "[]", "{}", "5", '["mark", 1, "", ["x", "y", null], ""]'])
async def test_what_is_remembered_may_be_anything(page: str, tmp_path: Path) -> None:
    """Another version may have written it."""
    async with both(tmp_path, paged) as (gather, api):
        got = await gather(paged_job(api, "link", resume=True), Memory(carried=Carried(page=page)))
    assert got.contents[0] == ITEMS[:2]


@pytest.mark.parametrize(
    ("place", "shown"),
    [("/a?sig=x&page=2", "/a?…"), ("/a/2", "/a/2"), (7, "7"), ("token", "token"), (None, ""), ({"id": 1}, '{"id": 1}')],
)
def test_where_a_walk_goes_on_is_shown_without_secrets(place: Any, shown: str) -> None:
    """The addresses that servers name for the next page are often signed."""
    assert place_of(json.dumps(["mark", place, "", ["x", "y", None], ""])) == shown


@pytest.mark.parametrize("page", ["", "junk", "[]", "5", "{}", "null"])
def test_where_no_walk_goes_on_nothing_is_shown(page: str) -> None:
    """Another version may have written it."""
    assert place_of(page) == ""


@pytest.mark.parametrize(("status", "anew"), [(410, True), (400, True), (403, False), (500, False)])
async def test_a_page_that_has_expired(status: int, anew: bool, tmp_path: Path) -> None:
    """A place that the server has forgotten would else be asked for by every Run from now on."""

    def answer(asked: Asked) -> bytes:
        expired = len(api.asked) > 1 and asked.query.get("start") == "2" and not expiries
        expiries.extend([asked] * expired)
        return response(b"", status=status) if expired else paged(asked)

    expiries: list[Asked] = []
    async with both(tmp_path, answer) as (gather, api):
        wanted = paged_job(api, "link", resume=True)
        cut = await gather(wanted, at_most=1)
        with capture_logs() as lines:
            got = await gather(wanted, Memory(carried=cut.carried))
    assert bool(got.contents) is anew
    assert [line["event"] for line in lines] == ["pages_restarted"] * anew


@pytest.mark.parametrize(
    ("keys", "forgotten"),
    [
        ({"pages": {"kind": "page", "param": "start", "first": 0, "items": "data"}}, b'{"error": "invalid_cursor"}'),
        ({"pages": {"kind": "cursor", "param": "start", "next": "next"}, "split": "data"}, b'{"error": "gone"}'),
        ({"pages": {"kind": "cursor", "param": "start", "next": "next"}}, b"<p>gone</p>"),
    ],
)
async def test_an_error_that_claims_success(keys: dict[str, Any], forgotten: bytes, tmp_path: Path) -> None:
    """Many servers say with status 200 that they have forgotten a place: every Run from now on would ask for it."""

    def answer(asked: Asked) -> bytes:
        place = int(asked.query.get("start") or 0)
        expired = place == 1 and len(api.asked) == 2
        return response(forgotten) if expired else answered({"data": [place], "next": place + 1 if place < 2 else None})

    async with both(tmp_path, answer) as (gather, api):
        wanted = job(api.url, **{**keys, "pages": {**keys["pages"], "resume": True, "max": 3}})
        cut = await gather(wanted, at_most=1)
        with capture_logs() as lines:
            got = await gather(wanted, Memory(carried=cut.carried))
    assert len(got.contents) == 3
    assert [line["event"] for line in lines] == ["pages_restarted"]


@pytest.mark.parametrize(
    "keys",
    [
        {"extract": "data"},
        {"split": "data", "unique": "id"},
        {"parse": "csv"},
        {"pages": {"kind": "page", "items": "data"}, "split": "data"},
        {"pages": {"kind": "offset"}, "extract": "@"},
        {"pages": {"kind": "cursor", "param": "c", "next": "n", "items": "data"}, "split": "data"},
    ],
)
async def test_no_content_is_nothing_new(keys: dict[str, Any], tmp_path: Path) -> None:
    """A server that has nothing answers 204 (RFC 9110, 15.3.5); nothing in it is to be read, and nothing wrong."""
    async with both(tmp_path, lambda asked: response(b"", status=204)) as (gather, api):
        got = await gather(job(api.url, **keys))
    assert got.error is None
    assert [result.delivered for result in got.results] == [False]


async def test_no_content_joined_is_an_empty_list(tmp_path: Path) -> None:
    """Of pages of which there is none."""
    async with both(tmp_path, lambda asked: response(b"", status=204)) as (gather, api):
        got = await gather(job(api.url, pages={"kind": "page", "deliver": "joined"}))
    assert got.contents == [[]]


async def test_an_empty_page_says_so(tmp_path: Path) -> None:
    """Any other status promises a page."""
    async with both(tmp_path, lambda asked: response(b"")) as (gather, api):
        got = await gather(job(api.url, pages={"kind": "page"}))
    assert got.refusal == "page 1 has no list: its body is empty"


async def test_resumed_pages_ask_the_same_question(tmp_path: Path) -> None:
    """Page 2 of what is newer than today is not page 2 of what is newer than yesterday."""
    async with both(tmp_path, paged) as (gather, api):
        wanted = job(
            f"{api.url}/cursor?after={{cursor}}&since={{last_success:unix}}",
            pages={**STYLES["cursor"][1], "max": 2, "resume": True},
            cursor={"slot": True, "initial": "2020-01-01T00:00:00Z"},
        )
        before = Memory(last_success=NOW - timedelta(hours=1))
        first = await gather(wanted, before)
        second = await gather(wanted, before._replace(last_success=NOW, carried=first.carried))
    assert {(asked.query["after"], asked.query["since"]) for asked in api.asked} == {
        ("2020-01-01T00:00:00Z", str(int((NOW - timedelta(hours=1)).timestamp())))
    }
    assert first.carried.cursor == ""
    assert second.carried.cursor == "2026-03-01T12:29:59Z"


@pytest.mark.parametrize("caps", [{"max": 100}, {"max_bytes": "1MiB"}])
async def test_other_caps_are_no_other_walk(caps: dict[str, Any], tmp_path: Path) -> None:
    """Whoever gives a walk that came to its cap more room does not want all of it once more."""
    async with both(tmp_path, paged) as (gather, api):
        first = await gather(paged_job(api, "cursor", resume=True, max=2))
        second = await gather(
            paged_job(api, "cursor", resume=True, **{"max": 2, **caps}), Memory(carried=first.carried)
        )
    assert [page["data"] for page in first.contents + second.contents] == [ITEMS[at : at + 2] for at in (0, 2, 4, 6)]


async def test_the_last_success_is_when_it_was_asked(tmp_path: Path) -> None:
    """What the server adds while a Run is under way, or a walk of several, is newer than that and not skipped."""
    async with both(tmp_path, paged) as (gather, api):
        pages = {**STYLES["cursor"][1], "max": 2, "resume": True}
        plain, walk = f"{api.url}/offset?since={{last_success}}", f"{api.url}/cursor?since={{last_success}}"
        only = await gather(job(plain))
        begun = await gather(job(walk, pages=pages))
        gather.clock.advance(3600)
        ended = await gather(job(walk, pages=pages), Memory(carried=begun.carried))
        await gather(job(plain), Memory(last_success=NOW + timedelta(minutes=1), carried=only.carried))
    assert begun.carried.asked == ""
    assert only.carried.asked == ended.carried.asked == "2026-03-01T12:30:00Z"
    assert api.asked[-1].query["since"] == "2026-03-01T12:30:00Z"


HOSTILE = [
    ("http://evil.test/?page=2", "another origin, http://evil.test, than the job's url"),
    ("//evil.test/", "another origin, http://evil.test"),
    ("{scheme}s://{host}/", "another origin, https://127.0.0.1"),
    ("{scheme}://{host}@evil.test/", "names a user"),
    ("{scheme}://user@{host}/", "names a user"),
    ("http+unix://%2Frun%2Fdocker.sock/containers/json", "another origin"),
    ("javascript:alert(1)", "cannot be asked for"),
    ("file:///etc/passwd", "cannot be asked for"),
    ("/?{long}", "longer than 8000 characters"),
]


@pytest.mark.parametrize(("target", "words"), HOSTILE)
async def test_a_hostile_next(target: str, words: str, tmp_path: Path) -> None:
    """The page that names it is delivered; what it names gets nothing, least of all the job's secrets."""

    def answer(asked: Asked) -> bytes:
        host = asked.headers["host"]
        return answered({"data": [1], "next": target.format(scheme="http", host=host, long="x" * 9000)})

    async with both(tmp_path, answer) as (gather, api):
        pages = {"kind": "link", "next": "next"}
        got = await gather(job(api.url, pages=pages, headers={"X-Api-Key": "s3cr3t"}, params={"key": "s3cr3t"}))
        assert len(api.asked) == 1
    assert words in got.refusal
    assert "s3cr3t" not in got.refusal
    assert len(got.contents) == 1


async def test_a_header_of_ten_megabytes(tmp_path: Path) -> None:
    """It is not read to its end."""
    huge = response(b"[]", f'Link: <?{"x" * 10 * MIB}>; rel="next"')
    async with both(tmp_path, lambda asked: huge) as (gather, api):
        got = await gather(job(api.url, pages={"kind": "link"}))
    assert got.error is not None
    assert got.error.reason is Reason.PROTOCOL


@pytest.mark.parametrize("length", [1, 2, 3])
async def test_circles(length: int, tmp_path: Path) -> None:
    """Of any length, each page is fetched once."""

    def answer(asked: Asked) -> bytes:
        following = (int(asked.query.get("at", 0)) + 1) % length
        return answered([following], f'Link: </?at={following}>; rel="next"')

    async with both(tmp_path, answer) as (gather, api):
        got = await gather(job(f"{api.url}/?at=0", pages={"kind": "link"}))
        assert len(api.asked) == length
    assert "in a circle" in got.refusal


async def test_an_address_that_only_grows(tmp_path: Path) -> None:
    """It never comes back to where it was, but to its bound."""

    def answer(asked: Asked) -> bytes:
        return answered([1], f'Link: <{asked.target}{"&again" * 100}>; rel="next"')

    async with both(tmp_path, answer) as (gather, api):
        got = await gather(job(f"{api.url}/?", pages={"kind": "link"}))
        assert 5 < len(api.asked) < 20
    assert got.error is not None


async def test_the_next_page_after_a_redirect(tmp_path: Path) -> None:
    """References start from where the page came from, and each page is redirected anew where the server does so."""

    def answer(asked: Asked) -> bytes:
        if asked.target.startswith("/old"):
            return response(b"", f"Location: /deep/new?{asked.target.partition('?')[2]}", status=302)
        last = asked.query.get("n") == "2"
        return answered([asked.target], *(() if last else ('Link: <other?n=2>; rel="next"',)))

    async with both(tmp_path, answer) as (gather, api):
        got = await gather(job(f"{api.url}/old?n=1", pages={"kind": "link"}))
        assert api.targets == ["/old?n=1", "/deep/new?n=1", "/deep/other?n=2"]
    assert [result.url for result in got.results] == [f"{api.url}/deep/new", f"{api.url}/deep/other"]


async def test_each_page_is_authorised(tmp_path: Path) -> None:
    """By header and by the address's user alike; nothing of it, nor of any query, is in what may be shown."""
    async with both(tmp_path, paged) as (gather, api):
        url = api.url.replace("://", "://user:s3cr3t@")
        got = await gather(job(f"{url}/link?key=s3cr3t", pages={"kind": "link"}, headers={"X-Key": "s3cr3t"}))
    assert {(asked.headers["x-key"], asked.headers["authorization"][:6]) for asked in api.asked} == {
        ("s3cr3t", "Basic ")
    }
    assert {result.url for result in got.results} == {f"{api.url}/link"}


async def test_each_page_has_all_attempts(tmp_path: Path) -> None:
    """A hundred pages with one hiccup each are no reason to give up."""
    hiccups: list[str] = []

    def answer(asked: Asked) -> bytes:
        if hiccups.count(asked.target) < 2:
            hiccups.append(asked.target)
            return response(b"", status=503)
        return paged(asked)

    async with both(tmp_path, answer) as (gather, api):
        path, keys = STYLES["link"]
        got = await gather(job(f"{api.url}/{path}", pages=keys, retries=2, retry={"first": "1ms", "longest": "1ms"}))
    assert (got.error, len(got.contents), got.progress.attempts) == (None, 4, 12)


async def test_a_page_that_fails_ends_the_run(tmp_path: Path) -> None:
    """What came before it stays delivered."""

    def answer(asked: Asked) -> bytes:
        return response(b"", status=403) if asked.query.get("start") == "4" else paged(asked)

    async with both(tmp_path, answer) as (gather, api):
        got = await gather(paged_job(api, "link"))
    assert got.error is not None
    assert got.error.reason is Reason.HTTP_4XX
    assert got.contents == [ITEMS[:2], ITEMS[2:4]]


async def test_a_page_that_is_no_json(tmp_path: Path) -> None:
    """It ends as what it is, and is not held any longer."""
    async with both(tmp_path, lambda asked: response(b"<html>")) as (gather, api):
        got = await gather(job(api.url, pages={"kind": "page"}))
    assert got.error is not None
    assert got.error.reason is Reason.EXTRACT


async def test_placeholders_reach_the_server(tmp_path: Path) -> None:
    """In the address, the parameters and the body, of a secret too; what may be shown names no query."""
    async with both(tmp_path, lambda asked: answered([])) as (gather, api):
        url = f"{api.url}/{{now:%Y/%m}}/{{{{now}}}}?c={{cursor}}&s={{slot:unix}}"
        wanted = job(
            url,
            method="POST",
            params={"since": "{last_success-1m}"},
            json={"a": ["{cursor}", {"{now}": "{ now }"}]},
            cursor={"header": "X-Next", "initial": "a/é&"},
        )
        got = await gather(wanted, Memory(last_success=NOW))
    (asked,) = api.asked
    assert asked.target.split("?")[0] == "/2026/03/%7Bnow%7D"
    assert asked.query == {"c": "a/é&", "s": str(int(RUN.slot.timestamp())), "since": "2026-03-01T12:29:00Z"}
    assert json.loads(asked.body) == {"a": ["a/é&", {"{now}": "{ now }"}]}
    assert got.results[0].url == f"{api.url}/2026/03/%7Bnow%7D"


CURSORS = [
    ({"next": "meta.next"}, {"meta": {"next": "abc"}}, "abc"),
    ({"next": "meta.next"}, {"meta": {"next": 17}}, "17"),
    ({"next": "meta.next"}, {"meta": {"next": 0}}, "0"),
    ({"next": "meta.next"}, {"meta": {"next": True}}, "true"),
    ({"next": "meta.next"}, {"meta": {"next": None}}, "old"),
    ({"next": "meta.next"}, {"meta": {"next": ""}}, "old"),
    ({"next": "meta.next"}, {}, "old"),
    ({"next": "meta.next"}, {"meta": {"next": False}}, "old"),
    ({"next": "max_by(@, &id).id"}, [{"id": 3}, {"id": 5}], "5"),
    ({"header": "x-NEXT"}, {}, "from-header"),
    ({"header": "X-Other"}, {}, "old"),
    ({"slot": True}, {}, "2026-03-01T12:29:59Z"),
]


@pytest.mark.parametrize(("cursor", "document", "wanted"), CURSORS)
async def test_where_cursors_come_from(cursor: dict[str, Any], document: Any, wanted: str, tmp_path: Path) -> None:
    """Each becomes a text; where there is none the old one stays."""
    async with both(tmp_path, lambda asked: answered(document, "X-Next: from-header")) as (gather, api):
        first = await gather(job(f"{api.url}?c={{cursor}}", cursor=cursor), Memory(carried=Carried("old")))
        await gather(job(f"{api.url}?c={{cursor}}", cursor=cursor), Memory(carried=first.carried))
    assert [asked.query["c"] for asked in api.asked] == ["old", wanted]


@pytest.mark.parametrize("value", [["a"], {"a": 1}, "x" * 5000, "\ud800"])
async def test_what_is_no_cursor(value: Any, tmp_path: Path) -> None:
    """The Run fails before anything of it is kept, so that the next one asks the same again."""
    async with both(tmp_path, lambda asked: answered({"next": value})) as (gather, api):
        got = await gather(job(f"{api.url}?c={{cursor}}", cursor={"next": "next"}))
    assert got.error is not None
    assert (got.error.reason, got.contents) == (Reason.EXTRACT, [])


async def test_a_cursor_moves_with_the_last_page(tmp_path: Path) -> None:
    """With an earlier one, a crash between two pages would skip what is left of them."""

    def answer(asked: Asked) -> bytes:
        start = int(asked.query.get("start", 0))
        following = start + 1 if start < 3 else None
        return answered({"next": following, "sync": f"token-{start}" if start == 2 else None})

    async with both(tmp_path, answer) as (gather, api):
        pages = {"kind": "cursor", "next": "next", "param": "start", "resume": True, "max": 3}
        wanted = job(f"{api.url}/?since={{cursor}}", pages=pages, cursor={"next": "sync", "initial": "0"})
        first = await gather(wanted)
        second = await gather(wanted, Memory(carried=first.carried))
    assert [result.carried.cursor for result in first.results if result.carried] == ["", "", ""]
    assert [result.carried.cursor for result in second.results if result.carried] == ["token-2"]
    assert {asked.query["since"] for asked in api.asked} == {"0"}


async def test_no_records_move_the_cursor_all_the_same(tmp_path: Path) -> None:
    """There is nothing to deliver, but the next Run shall not ask for the same again."""
    async with both(tmp_path, lambda asked: answered({"items": [], "next": "b"})) as (gather, api):
        got = await gather(job(f"{api.url}?c={{cursor}}", cursor={"next": "next"}, split="items"))
    assert [(result.delivered, result.carried) for result in got.results] == [(False, Carried("b"))]


async def test_null_ends_a_walk_that_is_split(tmp_path: Path) -> None:
    """Some servers write null for an empty list: the last page has no records then, and is no failure."""

    def answer(asked: Asked) -> bytes:
        return answered({"data": [{"id": 1}] if asked.query["page"] == "1" else None})

    async with both(tmp_path, answer) as (gather, api):
        got = await gather(job(api.url, pages={"kind": "page", "items": "data"}, split="data"))
    assert (got.error, [result.delivered for result in got.results]) == (None, [True, False])


async def test_records_are_known_over_pages(tmp_path: Path) -> None:
    """What one page has delivered is left out of the next, and of the next Run."""
    async with both(tmp_path, paged) as (gather, api):
        wanted = job(f"{api.url}/offset", pages={"kind": "page", "param": "start"}, split="@", unique="id")
        first = await gather_lines(gather, wanted, Memory())
        second = await gather_lines(gather, wanted, Memory(carried=first[-1].carried or Carried()))
    assert [result.delivered for result in first] == [True] * 5 + [False] * 2
    assert [result.delivered for result in second] == [False] * 7


async def test_more_records_than_are_remembered_are_told_of(tmp_path: Path) -> None:
    """What is forgotten while the walk goes on is delivered by the next Run again, and nobody would know why."""

    def answer(asked: Asked) -> bytes:
        page = int(asked.query["page"])
        return answered([{"id": number} for number in range(page * 2000, page * 2000 + 2000)] if page < 4 else [])

    async with both(tmp_path, answer) as (gather, api):
        wanted = job(api.url, pages={"kind": "page"}, split="@", unique="id")
        with capture_logs() as lines:
            found = await gather_lines(gather, wanted, Memory())
        few = job(api.url, pages={"kind": "page", "first": 3}, split="@", unique="id")
        with capture_logs() as none:
            await gather_lines(gather, few, Memory())
    assert [result.delivered for result in found] == [True] * 3 + [False]
    assert [(line["event"], line["remembered"]) for line in lines] == [("records_forgotten", 5000)]
    assert not none


async def gather_lines(gather: Gatherer, of: Job, memory: Memory) -> list[Fetched]:
    """Return the results of a Run whose bodies are no JSON documents."""
    results = []
    async with aclosing(gather.harvest.results(of, RUN, Progress(), memory)) as found:
        async for result in found:
            result.body.close()
            results.append(result)
    return results


async def test_a_plain_job_goes_the_short_way(tmp_path: Path) -> None:
    """Its validators are sent, its result is passed on as it is."""
    plain = response(b"[1]", 'ETag: "a"')
    async with both(tmp_path, lambda asked: plain) as (gather, api):
        got = await gather(job(api.url), Memory(validators=Validators('"old"'), carried=Carried("kept")))
    assert api.asked[0].headers["if-none-match"] == '"old"'
    assert (got.results[0].carried, got.results[0].validators.etag) == (None, '"a"')


async def test_not_modified_is_no_result(tmp_path: Path) -> None:
    """There is nothing to hand over."""
    async with both(tmp_path, lambda asked: response(status=304)) as (gather, api):
        got = await gather(job(api.url), Memory(validators=Validators('"old"')))
    assert (got.results, got.error) == ([], None)


@pytest.mark.parametrize("keys", [{"params": {"at": "{now}"}}, {"pages": {"kind": "link"}}])
async def test_no_validators_for_another_request(keys: dict[str, Any], tmp_path: Path) -> None:
    """The address differs from Run to Run, so they say nothing about the next one."""
    async with both(tmp_path, lambda asked: response(b"[]", 'ETag: "a"')) as (gather, api):
        got = await gather(job(api.url, **keys), Memory(validators=Validators('"old"')))
    assert "if-none-match" not in api.asked[0].headers
    assert got.results[0].validators == Validators()


async def test_pages_with_conditional_headers(tmp_path: Path) -> None:
    """A page that is not shown cannot be gone on from: it is said rather than taken for the end."""
    async with both(tmp_path, lambda asked: response(status=304)) as (gather, api):
        got = await gather(job(api.url, pages={"kind": "link"}, headers={"If-None-Match": '"a"'}))
    assert "not modified" in got.refusal


async def run_of(runner: Runner, of: Job) -> Report:
    """Run ``of`` once, at a slot of its own."""
    report = await asyncio.create_task(runner.run(of, datetime.now(UTC)))
    assert report is not None
    return report


def runner_over(gather: Gatherer, sink: FakeSink) -> tuple[Runner, MemoryStore]:
    """Return a runner that hands results over to ``sink``, and its store."""
    store = MemoryStore()
    outbox = Outbox(store, targets({"test": {"sink": sink}}), SystemClock())
    return Runner(gather.harvest, outbox, store, SystemClock(), max_concurrent=1), store


async def test_where_a_walk_goes_on_is_kept_with_its_pages(tmp_path: Path) -> None:
    """In one transaction with each page, also where the last page has nothing new to deliver."""

    def answer(asked: Asked) -> bytes:
        start = int(asked.query.get("start", 0))
        return answered([ITEMS[0]] if start else ITEMS[:2], *(() if start else ('Link: </?start=2>; rel="next"',)))

    sink = FakeSink()
    async with both(tmp_path, answer) as (gather, api):
        runner, store = runner_over(gather, sink)
        pages = {"kind": "link", "resume": True}
        wanted = job(api.url, pages=pages, split="@", unique="id")
        first = await run_of(runner, wanted)
        again = await run_of(runner, wanted)
        assert api.targets == ["/", "/?start=2"] * 2
    assert (first.outcome, again.outcome) == (Outcome.SUCCEEDED, Outcome.UNCHANGED)
    assert store.recall("test").carried.page == ""
    assert len(sink.taken) == 1


@pytest.mark.parametrize(("deliver", "outcome", "count"), [("joined", "unchanged", 1), ("each", "succeeded", 8)])
async def test_the_same_once_more(deliver: str, outcome: str, count: int, tmp_path: Path) -> None:
    """A joined result is compared with the last one; of single pages nobody knows which was the last like it."""
    sink = FakeSink()
    async with both(tmp_path, paged) as (gather, api):
        runner, _ = runner_over(gather, sink)
        wanted = paged_job(api, "link", deliver=deliver)
        reports = [await run_of(runner, wanted) for _ in range(2)]
    assert [str(report.outcome) for report in reports] == ["succeeded", outcome]
    assert len(sink.taken) == len({delivery.id for delivery in sink.taken}) == count


@pytest.mark.parametrize(("moves", "outcome"), [(True, "succeeded"), (False, "unchanged")])
async def test_the_same_answer_to_another_question(moves: bool, outcome: str, tmp_path: Path) -> None:
    """Two events that look alike are two, if the server says that the second is newer."""

    def answer(asked: Asked) -> bytes:
        newest = int(asked.query["after"]) + 1 if moves else 1
        return answered([{"event": "login"}], f"X-Newest: {newest}")

    sink = FakeSink()
    async with both(tmp_path, answer) as (gather, api):
        runner, _ = runner_over(gather, sink)
        wanted = job(f"{api.url}?after={{cursor}}", cursor={"header": "X-Newest", "initial": "0"})
        reports = [await run_of(runner, wanted) for _ in range(2)]
    assert [str(report.outcome) for report in reports] == ["succeeded", outcome]
    assert len(sink.taken) == (2 if moves else 1)


async def test_a_refused_page_fails_the_run_after_the_others(tmp_path: Path) -> None:
    """What came is delivered, and the Run still says that something is missing."""
    sink = FakeSink()
    async with both(tmp_path, paged) as (gather, api):
        runner, _ = runner_over(gather, sink)
        report = await run_of(runner, paged_job(api, "link", max=3))
    assert (report.outcome, report.reason, report.phase) == (Outcome.FETCH_FAILED, Reason.PAGES, "pages")
    assert len(sink.taken) == 3
