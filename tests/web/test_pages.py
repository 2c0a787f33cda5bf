"""The status page and the page of a job."""

from __future__ import annotations

from datetime import timedelta
from html.parser import HTMLParser
from typing import Final

from fetchd.body import Body
from fetchd.errors import Reason, StoreError
from fetchd.run import Carried, Delivery, Fetched, Outcome, Report, Run
from fetchd.secret import Secret
from fetchd.sinks.file import FileOptions
from fetchd.store import Memory
from fetchd.store.letters import Letter
from fetchd.watch import Result
from fetchd.web.markup import address
from tests.web.made import NOW, House, job, lane

HOSTILE: Final = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'><svg onload=alert(3)>{{7*7}}<!--rows-->"
CANARY: Final = "canary-5f1d0c"
PATHS: Final = (
    "/",
    "/live",
    "/jobs/a",
    "/readyz",
    "/healthz",
    "/api/status",
    "/api/jobs",
    "/api/jobs/a",
    "/api/jobs/a/runs",
)


class Tags(HTMLParser):
    """Lists what a browser would see as tags, and the page's text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.words += data


async def unreadable(job: str, limit: int) -> list[Report]:
    """Fail as a store does whose file is damaged."""
    raise StoreError(f"the database is damaged {HOSTILE} {CANARY}")


def full(text: str) -> House:
    """Return a house in which ``text`` stands wherever something foreign can stand."""
    keys = {
        "url": Secret(f"http://upstream.test/{text}".replace(" ", "%20")),
        "headers": {"Accept": Secret(text)},
        "sinks": (FileOptions(kind="file", path=text.replace("{", "").replace("}", "") or "x"),),
    }
    house = House({"a": job("a", **keys), "b": job("b")}, secrets=[CANARY])
    house.failed("a", text)
    house.ran("b")
    house.board.reloaded(2, text)
    house.unwritable = text
    sink = Delivery("1-file", "a", "1", NOW, "file", Fetched(200, text, text, {}, Body.of(b"x")))
    house.board.tried(sink, Result.FAILED, text)
    house.letters = [Letter("1-file", "a", "file", NOW, 3, text, 9)]
    return house


async def test_the_page_says_how_things_are() -> None:
    """The headline, then what somebody should see, with its reason in words."""
    house = House({name: job(name) for name in ("well", "bad", "slow")})
    house.ran("well")
    house.slots["well"] = house.clock.now() + timedelta(seconds=30)
    for _ in range(3):
        house.failed("bad")
    house.ran("slow")
    async with house.served() as client:
        page = await client.text("/")
    assert "1 of 3 jobs is failing" in Tags(page).words
    assert page.index('id="job-bad"') < page.index('id="job-slow"') < page.index('id="job-well"')
    assert "the server did not answer in time" in page
    assert "no answer within 5 s" in page
    assert "3 in a row" in page
    assert '<time datetime="2026-03-04T03:00:31Z">04 Mar 03:00:31</time>' in page


async def test_everything_foreign_is_inert() -> None:
    """Upstreams, sinks and configurations write into this page; a browser must see nothing but text in it."""
    house = full(HOSTILE)
    async with house.served() as client:
        for path in ("/", "/live", "/jobs/a"):
            page = await client.text(path)
            seen = Tags(page)
            scripts = [attrs for tag, attrs in seen.tags if tag == "script"]
            assert scripts == ([] if path == "/live" else [{"src": "/page.js", "defer": None}])
            assert not [name for _, attrs in seen.tags for name in attrs if name.startswith("on") or name == "style"]
            assert "img" not in {tag for tag, _ in seen.tags}
            assert "alert(1)" in seen.words, "it is shown, as text"
            assert "{{7*7}}" in page
            assert page.count('id="job-b"') == (path != "/jobs/a"), "rows come once, where they belong"


async def test_no_secret_is_shown_anywhere() -> None:
    """Pages, the API and the probes are read by people who may not know the secrets."""
    house = full(f"with {CANARY} in it")
    house.remembered["a"] = Memory(carried=Carried(CANARY, CANARY), dead=1)
    async with house.served() as client:
        for path in PATHS:
            response = await client.get(path)
            text = await response.text()
            assert CANARY not in text, path
            if path not in {"/healthz", "/api/jobs/a/runs"}:
                assert "[redacted]" in text or path == "/healthz", path


async def test_no_secret_of_a_failing_store_is_shown() -> None:
    """What a store says of its trouble is as foreign as anything."""
    house = House({"a": job("a")}, history=unreadable, secrets=[CANARY])
    async with house.served() as client:
        page = await client.text("/jobs/a")
        answer = await client.get("/api/jobs/a/runs")
    assert "the database is damaged" in page
    assert "<script>alert" not in page
    assert answer.status == 503
    assert CANARY not in page + await answer.text()


async def test_the_page_of_a_job_tells_all_that_is_known() -> None:
    """The last failure in full, each Run with its phases, what is owed, what is dead, what counts."""
    options = (FileOptions(kind="file", path="a.json"),)
    house = House({"a": job("a", sinks=options)})
    house.ran("a", timings={"dns": 0.2, "headers": 0.8}, status=200, bytes=2048, attempts=1)
    report = house.failed("a", "line one\nline two " + "x" * 2000)
    house.letters = [Letter("9-file", "a", "file", NOW, 1000, "status 410", 77)]
    house.board.skipped("a", NOW, Reason.OVERLAP)
    house.remembered["a"] = Memory(
        owed=4, dead=1, carried=Carried("2026-01-31", '["mark", "/items/7?sig=s3cret", "", [], ""]', ("x",))
    )
    house.lanes = [lane("a", "file", 4), lane("b", "file", 1)]
    async with house.served() as client:
        page = await client.text("/jobs/a")
    words = Tags(page).words
    assert report.message in words, "in full"
    assert 'aria-label="dns 200 ms, headers 800 ms"' in page
    for shown in (
        "4 (400 B)",
        "9-file",
        "status 410",
        "2026-01-31",
        "/items/7?…",
        "overlap",
        '"1m"',
        "2.0 KiB",
    ):
        assert shown in words, shown
    assert "s3cret" not in page


async def test_a_host_that_wants_no_request_is_told_of() -> None:
    """On both pages, whether the job has run yet or not: its slots are left out for a reason."""
    house = House({"a": job("a"), "b": job("b")})
    house.ran("b")
    house.held = {"b": NOW + timedelta(minutes=50)}
    async with house.served() as client:
        pages = [await client.text(path) for path in ("/", "/jobs/b")]
        assert "wants no request before" not in await client.text("/jobs/a")
    assert ["wants no request before" in Tags(page).words for page in pages] == [True, True]


async def test_a_failure_from_before_the_start_is_told_from_the_history() -> None:
    """After a restart nobody has failed yet, but whoever looks wants to know why the job is red."""
    house = House({"a": job("a")})
    house.store.finish(
        Report(Run("1", "a", NOW), Outcome.FETCH_FAILED, Reason.TLS, "certificate has expired", started=NOW)
    )
    async with house.served() as client:
        assert "certificate has expired" in await client.text("/jobs/a")


async def test_only_what_changed_is_sent_again() -> None:
    """A thousand rows each few seconds would be a load; one that changed is not."""
    house = House({name: job(name) for name in ("a", "b", "c")})
    async with house.served() as client:
        page = await client.text("/")
        live = page.partition('data-live="')[2].partition('"')[0]
        nothing = await client.text(live)
        assert 'class="job' not in nothing
        house.failed("b")
        news = await client.text(nothing.rpartition('data-live="')[2].partition('"')[0])
        assert 'id="job-b"' in news
        assert news.count('class="job ') == 1
        everything = await client.text("/live?after=17.4-999")
        assert everything.count('class="job ') == 3, "a stamp of another process says nothing"


async def test_a_row_that_nobody_touched_becomes_overdue() -> None:
    """Time alone changes what a row has to say."""
    house = House({"a": job("a")})
    house.ran("a")
    async with house.served() as client:
        assert "overdue" not in await client.text("/")
        house.clock.advance(600)
        assert "The only job is overdue" in await client.text("/")


async def test_a_reload_changes_the_page() -> None:
    """New jobs are there, removed ones are gone, and the page says which configuration counts."""
    house = House({"old": job("old"), "kept": job("kept")})
    async with house.served() as client:
        assert 'id="job-old"' in await client.text("/")
        house.board.reloaded(2, jobs={"kept": job("kept"), "new": job("new")})
        page = await client.text("/")
        assert 'id="job-new"' in page
        assert 'id="job-old"' not in page
        assert (await client.get("/jobs/old")).status == 404


async def test_a_daemon_that_is_not_ready_says_so_above_all() -> None:
    """All jobs may look well while nothing is dispatched any more."""
    house = House({"a": job("a")})
    house.ran("a")
    house.late = 30.0
    async with house.served() as client:
        page = await client.text("/")
        of_the_job = await client.text("/jobs/a")
    for shown in (page, of_the_job):
        assert "no slot is dispatched: the earliest has been due for 30 s" in Tags(shown).words
    assert 'class="trouble"' in page
    assert "<title>✕ The daemon is not ready · fetchd</title>" in page, "it is read in a tab behind others"
    assert "are well" not in page


async def test_the_sign_is_green_only_if_there_is_nothing_to_see_to() -> None:
    """Whoever glances at it goes on sleeping."""
    house = House({"a": job("a")})
    async with house.served() as client:
        assert "<title>… The only job has not run yet" in await client.text("/")
        house.ran("a")
        assert "<title>✓ The only job is well" in await client.text("/")
        house.remembered["a"] = Memory(last_success=house.clock.now(), dead=1)
        assert "<title>! The only job is well, 1 dead letter" in await client.text("/")
        house.remembered.clear()
        house.unwritable = "No space left on device"
        assert "<title>! The only job is well" in await client.text("/")
        house.unwritable = ""
        house.board.reloaded(2, "a finding")
        assert "<title>! The only job is well" in await client.text("/")


def test_an_address_goes_on_after_a_slash() -> None:
    """Not within a word, and not between its scheme and its host; what is foreign in it stays text."""
    assert address("https://a.test/v1/<b>") == "https://a.test/<wbr>v1/<wbr>&lt;b&gt;"
    assert address("shop.tasks:sync") == "shop.tasks:sync"


async def test_without_jobs_it_says_what_to_do() -> None:
    """The first view of somebody who has just installed it."""
    async with House({}).served() as client:
        words = Tags(await client.text("/")).words
    assert "There are no jobs" in words
    assert "Write one into it, then fetchd reload" in words


async def test_each_message_is_told_once() -> None:
    """Of thirty Runs that failed alike, the thirty-first that failed otherwise is what somebody looks for."""
    house = House({"a": job("a")})
    for message in ("disk full", "no route", "no route", "no route"):
        house.failed("a", message)
    async with house.served() as client:
        page = await client.text("/jobs/a")
    assert (page.count("no route"), page.count("disk full")) == (1, 1)


async def test_what_became_of_the_process_before_is_shown() -> None:
    """Whoever comes in the morning sees that it was down, or replaced, in the night."""
    house = House({"a": job("a")})
    async with house.served() as client:
        assert "Before that" not in await client.text("/")
        house.board.before = "the daemon was down for 2h; it was replaced"
        assert "the daemon was down for 2h; it was replaced" in await client.text("/")
        assert (await client.json("/api/status"))["before"] == "the daemon was down for 2h; it was replaced"


async def test_what_a_terminal_would_obey_is_not_sent() -> None:
    """Pages are read with curl as well."""
    house = House({"a": job("a")})
    house.ran("a", Outcome.FETCH_FAILED, message="\x1b[2J<b>\u202e")
    async with house.served() as client:
        assert "\\x1b[2J&lt;b&gt;\\u202e" in await client.text("/jobs/a")
