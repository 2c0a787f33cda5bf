"""From a job to the results that it hands over: filled in, through all pages, extracted, with what the next Run has."""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Final, Protocol

import structlog

from fetchd.body import UNWRITTEN, Body, BodyWriter
from fetchd.clock import Clock
from fetchd.errors import FetchError, Reason
from fetchd.fetch import pages, placeholders
from fetchd.fetch.ask import Ask, Place
from fetchd.fetch.links import refused
from fetchd.fetch.pages import LONGEST_CURSOR, Walk
from fetchd.fetch.placeholders import Known
from fetchd.fetch.spool import Spool
from fetchd.fetch.turns import Turn
from fetchd.job import Job
from fetchd.run import Carried, Fetched, Progress, Run, Validators
from fetchd.store import Memory

log = structlog.get_logger()

_NOTHING: Final = Carried()
_NONE: Final = Validators()
_EXPIRED: Final = frozenset({400, 404, 410, 416, 422})
"""What servers answer to a page that they do not know any more."""
_NO_PAGE: Final = frozenset({Reason.PAGES, Reason.EXTRACT, Reason.UNEXPECTED})
"""What becomes of an answer that says the same with the status of a success."""
_NO_CONTENT: Final = 204


class Fetch(Protocol):
    """Makes one request of a job, with its attempts."""

    def held(self, job: Job) -> tuple[Reason, float] | None:
        """Return why ``job`` is not to be fetched now, and for how many seconds; None if it may be."""

    def refusal(self, job: Job) -> str:
        """Return why a Run of ``job`` that began now could send nothing before its deadline; "" if it could."""

    def turn(self, job: Job) -> Turn | None:
        """Return what ``job`` has to wait for before it begins; None if there is nothing."""

    async def fetch(
        self,
        job: Job,
        run: Run,
        progress: Progress,
        validators: Validators = _NONE,
        ask: Ask | None = None,
    ) -> Fetched | None:
        """Return what came back; None if there is nothing new since ``validators``."""


class Reader(Protocol):
    """Reads bodies.

    Raises:
        FetchError: what is in a body is not what the job says.
    """

    async def values(self, body: Body, queries: Sequence[str], progress: Progress) -> list[Any]:
        """Return what each of ``queries``, JMESPath expressions, finds in a JSON body."""

    async def items(self, body: Body, query: str | None, most: int, progress: Progress) -> tuple[int, Body]:
        """Return how many items a JSON body has where ``query`` finds them, and them, one on each line."""

    async def extracted(
        self, job: Job, fetched: Fetched, carried: Carried, progress: Progress
    ) -> tuple[Fetched | None, Carried]:
        """Return ``fetched`` as it is delivered, None if there is nothing left of it, and what is carried then.

        Unless it is ``fetched`` itself that is returned, its body is closed.
        """


@dataclass(slots=True)
class _Trail:
    """A walk in progress. ``cursor`` is the newest one that a page had; ``resumed`` while no page has come yet."""

    known: Known
    walk: Walk
    cursor: str = ""
    resumed: bool = False


class Harvest:
    """Fetches what a job names, and yields each result as it is to be handed over."""

    def __init__(self, fetcher: Fetch, reader: Reader, spool: Spool, clock: Clock) -> None:
        self._fetcher = fetcher
        self._reader = reader
        self._spool = spool
        self._clock = clock

    def held(self, job: Job) -> Reason | None:
        """Return why what ``job`` fetches is not to be asked for now; None if it may be."""
        held = self._fetcher.held(job)
        return held[0] if held else None

    def refusal(self, job: Job) -> str:
        """Return why a Run of ``job`` that began now could send nothing before its deadline; "" if it could."""
        return self._fetcher.refusal(job)

    def turn(self, job: Job) -> Turn | None:
        """Return what ``job`` has to wait for before it begins; None if there is nothing."""
        return self._fetcher.turn(job)

    async def results(self, job: Job, run: Run, progress: Progress, memory: Memory) -> AsyncGenerator[Fetched, None]:
        """Yield each result that ``job`` fetches now; none if there is nothing new since ``memory``.

        The next page is asked for once the one before it has been taken over by whoever iterates, who closes it.

        Raises:
            FetchError: there is no further result, although there should be; the ones before it are good.
            UserCodeError: the job's function failed.
        """
        if job.pages is None:
            only = await self._only(job, run, progress, memory)
            if only is not None:
                yield only
        elif job.pages.deliver == "joined":
            yield await self._joined(job, run, progress, memory)
        else:
            trail, carried = _begun(job, self._known(job, run, memory), memory), memory.carried
            first = ""
            while trail.walk.place is not None:
                resumed = trail.resumed
                try:
                    page, refusal = await self._page(job, run, progress, trail)
                    left = _left(job, trail, carried, whole=trail.walk.place is None and refusal is None)
                    page = await self._finished(job, page, progress, left, empty=_itemless(job, trail.walk))
                except FetchError as error:
                    if not (resumed and (error.status in _EXPIRED or error.reason in _NO_PAGE)):
                        raise
                    log.warning("pages_restarted", job=job.name, run=run.id, status=progress.status, message=str(error))
                    trail = _begun(job, self._known(job, run, memory), memory._replace(carried=_NOTHING))
                    continue
                before, carried = carried.seen, page.carried or carried
                first = first or _first_new(before, carried.seen)
                if trail.walk.place is None and first and first not in carried.seen:
                    log.warning("records_forgotten", job=job.name, run=run.id, remembered=len(carried.seen))
                yield page
                if refusal is not None:
                    raise refusal
                if trail.walk.stopped:
                    return

    async def _only(self, job: Job, run: Run, progress: Progress, memory: Memory) -> Fetched | None:
        """Return the result of a job without pages."""
        ask = Ask(self._known(job, run, memory)) if placeholders.varies(job) else None
        if ask is None:
            fetched = await self._fetcher.fetch(job, run, progress, memory.validators)
        else:
            fetched = await self._fetcher.fetch(job, run, progress, _NONE, ask)
        if fetched is None or not (ask or job.cursor or _extracts(job)):
            return fetched
        # The validators are those of another request than the next one.
        fetched = replace(fetched, validators=_NONE) if ask else fetched
        carried = replace(memory.carried, page="")
        if ask is not None:
            carried = replace(carried, asked=_asked(job, ask.known))
        if ask is not None and job.cursor is not None:
            with _closing(fetched):
                values = await self._values(fetched.body, _cursor_query(job), progress)
                carried = replace(carried, cursor=_cursor(job, fetched, values, ask.known) or carried.cursor)
        return await self._finished(job, fetched, progress, carried)

    async def _joined(self, job: Job, run: Run, progress: Progress, memory: Memory) -> Fetched:
        """Return the items of all pages as one JSON array.

        All of them or none: a part of a list that looks like the whole of it would do harm.
        """
        trail = _begun(job, self._known(job, run, memory), memory)
        writer = BodyWriter(self._spool.budget, self._spool.folder, spool_above=self._spool.above)
        first: Fetched | None = None
        try:
            while trail.walk.place is not None:
                page, refusal = await self._page(job, run, progress, trail)
                first = first or page
                try:
                    if refusal is not None:
                        raise refusal
                    if trail.walk.items:
                        await self._join(job, page.body, writer, progress)
                finally:
                    page.body.close()
            with _spooling(self._spool):
                await writer.write(b"]" if writer.size else b"[]")
                body = await writer.finish()
        finally:
            writer.abort()
        assert first is not None
        whole = replace(first, body=body, content_type="application/json")
        return await self._finished(job, whole, progress, _left(job, trail, memory.carried, whole=True))

    async def _join(self, job: Job, page: Body, writer: BodyWriter, progress: Progress) -> None:
        """Add the items of ``page`` to the array that ``writer`` collects."""
        assert job.pages is not None
        left = max(0, job.max_body - writer.size - 2)
        try:
            _, lines = await self._reader.items(page, job.pages.items, left, progress)
        except FetchError as error:
            if error.reason is not Reason.TOO_LARGE:
                raise
            message = f"the pages are together larger than max_body, {job.max_body} bytes"
            raise FetchError(Reason.TOO_LARGE, message, transient=False, phase="pages") from None
        progress.phase = "memory"
        await self._spool.budget.take(UNWRITTEN)
        try:
            with _spooling(self._spool):
                before = b"," if writer.size else b"["
                async for chunk in lines.chunks():
                    # A line break ends each item, and is nowhere else in JSON that is written on one line.
                    await writer.write(before + chunk.removesuffix(b"\n").replace(b"\n", b","))
                    before = b"," if chunk.endswith(b"\n") else b""
                await writer.settle()
        finally:
            lines.close()
            self._spool.budget.give(UNWRITTEN)

    async def _page(self, job: Job, run: Run, progress: Progress, trail: _Trail) -> tuple[Fetched, FetchError | None]:
        """Return the next page, and why there will be no further one although it names one."""
        assert job.pages is not None
        assert trail.walk.place is not None
        ask = Ask(trail.known, trail.walk.place)
        fetched = await self._fetcher.fetch(job, run, progress, _NONE, ask)
        if fetched is None:
            raise refused("a page was answered as not modified: the job's own headers are conditional, pages cannot be")
        progress.pages += 1
        progress.earlier = progress.bytes
        queries = pages.queries(job.pages)
        with _closing(fetched):
            values = await self._values(fetched.body, [*queries, *_cursor_query(job)], progress)
            refusal = trail.walk.go_on(ask, fetched, values[: len(queries)])
            trail.cursor = _cursor(job, fetched, values[len(queries) :], trail.known) or trail.cursor
        trail.resumed = False
        return replace(fetched, validators=_NONE), refusal

    async def _values(self, body: Body, queries: list[str], progress: Progress) -> list[Any]:
        """Return what ``queries`` find in ``body``; nothing in an empty one."""
        if not queries or not body.size:
            return [None] * len(queries)
        progress.phase = "extract"
        return await self._reader.values(body, queries, progress)

    async def _finished(
        self, job: Job, fetched: Fetched, progress: Progress, carried: Carried, *, empty: bool = False
    ) -> Fetched:
        """Return ``fetched`` as it is handed over, with what the next Run begins with; an ``empty`` page is not."""
        if not _extracts(job):
            return replace(fetched, carried=carried)
        if empty or fetched.status == _NO_CONTENT:
            return replace(fetched, carried=carried, delivered=False)
        progress.phase = "extract"
        with _closing(fetched):
            extracted, carried = await self._reader.extracted(job, fetched, carried, progress)
        if extracted is None:
            return replace(fetched, body=Body.of(b""), carried=carried, delivered=False)
        return replace(extracted, carried=carried)

    def _known(self, job: Job, run: Run, memory: Memory) -> Known:
        initial = job.cursor.initial if job.cursor else ""
        asked = placeholders.read(memory.carried.asked) or memory.last_success
        return Known(self._clock.now(), run.slot, asked, memory.carried.cursor or initial)


def place_of(page: str) -> str:
    """Return where a walk goes on that `Carried` remembers as ``page``, fit to be shown; "" where it begins anew.

    Addresses come without their queries: those that servers name are often signed.
    """
    try:
        _, place, *_ = json.loads(page)
    except (ValueError, TypeError):
        return ""
    if not isinstance(place, str):
        return "" if place is None else json.dumps(place)
    path, query, _ = place.partition("?")
    return f"{path}?…" if query else path


def _extracts(job: Job) -> bool:
    return job.parse != "json" or bool(job.extract or job.split or job.unique)


def _itemless(job: Job, walk: Walk) -> bool:
    """Return whether a page has no items where its records would be: later ones may have null for an empty list."""
    if job.pages is None or job.pages.kind == "link" or job.pages.items is None:
        return False
    return not walk.items and job.extract is None and job.split == job.pages.items


def _begun(job: Job, known: Known, memory: Memory) -> _Trail:
    """Return the walk of a Run: from where the one before it came to, if it is to go on there."""
    assert job.pages is not None
    if job.pages.resume and memory.carried.page:
        trail = _resumed(job, memory.carried.page)
        if trail is not None:
            return trail
    return _Trail(known, Walk(job.pages, pages.first(job.pages)))


def _resumed(job: Job, page: str) -> _Trail | None:
    """Return the walk that ``page`` remembers, with its placeholders as they were; None if it is another job's."""
    assert job.pages is not None
    try:
        mark, place, pending, times, cursor = json.loads(page)
        now, slot, last_success = (placeholders.read(time) if time else None for time in times)
    except (ValueError, TypeError):
        return None
    if mark != _mark(job) or now is None or slot is None:
        return None
    return _Trail(Known(now, slot, last_success, cursor), Walk(job.pages, Place(place)), pending, resumed=True)


def _left(job: Job, trail: _Trail, carried: Carried, *, whole: bool) -> Carried:
    """Return what is carried after a page: once the ``whole`` has come, its cursor; before that, where to go on.

    What the placeholders stood for goes with it: pages of two different questions do not fit together.
    """
    assert job.pages is not None
    if whole:
        return replace(carried, page="", cursor=trail.cursor or carried.cursor, asked=_asked(job, trail.known))
    place, known = trail.walk.place, trail.known
    if not job.pages.resume or place is None:
        return replace(carried, page="")
    times = [placeholders.written(time) if time else None for time in (known.now, known.slot, known.last_success)]
    return replace(carried, page=json.dumps([_mark(job), place.value, trail.cursor, times, known.cursor]))


def _asked(job: Job, known: Known) -> str:
    """Return what ``{last_success}`` is once all that was asked for has come: the time before the first request.

    What the server has added since then may be missing. Jobs that do not ask for it have nothing to keep.
    """
    return placeholders.written(known.now) if "last_success" in placeholders.used(job) else ""


def _first_new(before: Sequence[str], seen: Sequence[str]) -> str:
    """Return the first of the digests in ``seen`` that was not there ``before``; "" if there is none."""
    start = seen.index(before[-1]) + 1 if before and before[-1] in seen else 0
    return "".join(seen[start : start + 1])


def _mark(job: Job) -> str:
    """Return what changes with the meaning of a page's place: the definition of the job, without its limits."""
    text = json.dumps([job.mark(), job.model_dump(mode="json", include={"cursor"})])
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()


def _cursor_query(job: Job) -> list[str]:
    return [job.cursor.next] if job.cursor and job.cursor.next else []


def _cursor(job: Job, fetched: Fetched, values: Sequence[Any], known: Known) -> str:
    """Return the new cursor as a text, the first of ``values`` if the body holds it; "" where there is none.

    Raises:
        FetchError: it cannot be one.
    """
    cursor = job.cursor
    if cursor is None:
        return ""
    if cursor.slot:
        return placeholders.written(known.slot)
    value = values[0] if cursor.next else fetched.headers.get(str(cursor.header).lower())
    if value is None or value is False:
        return ""
    text = "" if isinstance(value, dict | list) else pages.as_text(value)
    if isinstance(value, dict | list) or len(text) > LONGEST_CURSOR or not pages.sendable(text):
        message = f"the new cursor is no text or number of at most {LONGEST_CURSOR} characters"
        raise FetchError(Reason.EXTRACT, message, transient=False, phase="extract")
    return text


@contextmanager
def _closing(fetched: Fetched) -> Iterator[None]:
    """Let go of the body if what happens inside fails."""
    try:
        yield
    except BaseException:
        fetched.body.close()
        raise


@contextmanager
def _spooling(spool: Spool) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        message = f"cannot spool the pages in {spool.folder}: {error.strerror or error}"
        raise FetchError(Reason.LOCAL_RESOURCE, message, transient=True, phase="memory") from error
