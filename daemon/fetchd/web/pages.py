"""The status page and the page of a job, as HTML."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from markupsafe import Markup

from fetchd.board import Board, Ending, Look, Standing, State
from fetchd.board.samples import EVERY
from fetchd.board.survey import Survey, survey
from fetchd.body import on_disk
from fetchd.errors import StoreError
from fetchd.harvest import place_of
from fetchd.health import Health
from fetchd.overdue import NEVER
from fetchd.run import Report
from fetchd.store import Lane
from fetchd.store.letters import Letter
from fetchd.web import charts, words
from fetchd.web.answer import HTML, Answer, Sources
from fetchd.web.row import SHOWN, row
from fetchd.web.rows import Rows, Shown

if TYPE_CHECKING:
    from jinja2 import Environment, Template

CUT: Final = Markup("<!--rows-->")
"""Stands in a page where the rows come, which are sent as they are kept; no text that was escaped can hold it."""
RUNS: Final = 50
LETTERS: Final = 50
PIECES_A_TURN: Final = 300
"""Pieces of a template that are rendered within one turn of the loop; each is a few words long."""
FORGOTTEN_AFTER: Final = 60.0
"""Seconds without a viewer after which rendered rows are let go of."""


class Pages:
    """Renders pages; rows are kept while somebody looks at them."""

    def __init__(self, board: Board, health: Health, sources: Sources) -> None:
        self._board = board
        self._health = health
        self._sources = sources
        self._templates: dict[str, Template] = {}
        self._charts: tuple[int, list[tuple[int, Markup]]] = (-1, [])
        """Of how many samples, the most and the line of each kind."""
        self._rows = Rows(lambda standing, look: row(standing, look, sources.redact))
        self._born = f"{board.started_at.timestamp():.0f}.{board.pid}"
        self._forget: asyncio.TimerHandle | None = None

    def close(self) -> None:
        """Let go of what is kept."""
        if self._forget is not None:
            self._forget.cancel()
        self._rows.clear()

    async def index(self) -> Answer:
        """Return the status page."""
        await self._prepared()
        found = await survey(self._board)
        rows = await self._kept(found)
        page = await self._page("index.html", view=self._view(found), stamp=self._stamp(rows), cut=CUT)
        return _filled(page, rows.pieces())

    async def live(self, after: str) -> Answer:
        """Return what has changed since the stamp ``after``: the page's head, and the rows of some jobs or of all."""
        await self._prepared()
        found = await survey(self._board)
        rows = await self._kept(found)
        born, _, number = after.partition("-")
        known = int(number) if born == self._born and number.isascii() and number.isdigit() else 0
        page = await self._page("live.html", view=self._view(found), stamp=self._stamp(rows), cut=CUT, jobs=found.total)
        return _filled(page, rows.newer(known))

    async def job(self, standing: Standing, look: Look) -> Answer:
        """Return the page of one job, as far as its parts can be read."""
        await self._prepared()
        name, redact = standing.job.name, self._sources.redact
        memory, overdue = self._board.memory(name), self._board.overdue_since(name)  # a reload may come meanwhile
        troubles: list[str] = []
        runs: Sequence[Report] = ()
        lanes: Sequence[Lane] = ()
        letters: Sequence[Letter] = ()
        try:
            runs = await self._sources.history(name, RUNS)
            lanes = [lane for lane in await self._sources.lanes() if lane.job == name]
            if look.dead:
                letters = await on_disk(partial(self._sources.letters, name))
        except StoreError as error:
            troubles.append(redact(str(error)))
        failure = self._failure(standing.last_failure, runs)
        page = await self._page(
            "job.html",
            view=self._notices(),
            name=name,
            look=look,
            sign=words.SIGNS[look.state],
            source=redact(standing.job.source),
            standing=standing,
            memory=memory,
            cursor=redact(memory.carried.cursor)[:SHOWN],
            page=redact(place_of(memory.carried.page))[:SHOWN],
            overdue_since=None if overdue == NEVER else overdue,
            failure=failure,
            sinks=self._sinks(standing, lanes, letters),
            letters=[replace(letter, error=redact(letter.error)) for letter in letters[:LETTERS]],
            chart=charts.recent(standing.recent.runs()),
            runs=self._told(runs, failure.message if failure else ""),
            troubles=troubles,
            phase_names=(*charts.PHASES, "other"),
            values=redact(self._sources.values(standing.job)),
        )
        return Answer(200, HTML, [page.encode("utf-8", "replace")])

    async def _prepared(self) -> None:
        """Read the templates when somebody looks for the first time: most daemons are never looked at.

        The library is imported in a thread; in one, compiling would leave its memory behind.
        """
        if self._templates:
            return
        made = await on_disk(_environment)
        templates: dict[str, Template] = {}
        for name in made.list_templates():
            templates[name] = made.get_template(name)
            await asyncio.sleep(0)
        self._templates = templates

    async def _page(self, template: str, **shown: Any) -> str:
        pieces: list[str] = []
        for piece in self._templates[template].generate(**shown):
            pieces.append(piece)
            if len(pieces) % PIECES_A_TURN == 0:
                await asyncio.sleep(0)
        return "".join(pieces)

    async def _kept(self, found: Survey) -> Shown:
        if self._forget is not None:
            self._forget.cancel()
        self._forget = asyncio.get_running_loop().call_later(FORGOTTEN_AFTER, self._rows.clear)
        return await self._rows.of(found)

    def _stamp(self, shown: Shown) -> str:
        return f"{self._born}-{shown.stamp}"

    def _notices(self) -> dict[str, Any]:
        """Return what is wrong with the daemon itself: whatever a page shows may be old then."""
        verdict, redact = self._health.verdict(), self._sources.redact
        return {"ready": verdict.ready, "problems": redact(verdict.problems), "warnings": redact(verdict.warnings)}

    def _view(self, found: Survey) -> dict[str, Any]:
        board, redact, notices = self._board, self._sources.redact, self._notices()
        reload, ready = board.reload, notices["ready"]
        if found.failing or found.overdue or not ready:
            tone = "trouble"
        else:
            warned = notices["warnings"] or reload.error or found.dead
            tone = "warned" if warned else "calm" if found.states[State.WELL] else "idle"
        return {
            **notices,
            "headline": words.headline(found.states, overdue=found.overdue, dead=found.dead, ready=ready),
            "tone": tone,
            "sign": words.TONES[tone],
            "total": found.total,
            "now": found.at,
            "next_slot": found.next_slot,
            "in_flight": words.count(found.running, "run"),
            "up": (found.at - board.started_at).total_seconds(),
            "reload": {
                "generation": reload.generation,
                "since": reload.since,
                "error": redact(reload.error),
                "failed_at": reload.failed_at,
            },
            "samples": self._samples(),
            "version": board.version,
            "pid": board.pid,
            "started": board.started_at,
            "before": board.before,
            "config": redact(str(board.config)),
            "owed": found.owed,
            "dead": found.dead,
            "clock_steps": board.clock_steps,
        }

    def _samples(self) -> list[dict[str, Any]]:
        samples, used = self._board.samples, self._board.usage()
        over = words.length(max(EVERY, len(samples) * EVERY))
        shown: tuple[tuple[str, Sequence[int], int, Callable[[int], str]], ...] = (
            ("Resident memory", samples.resident, used.resident // 1024, _kibibytes),
            ("Open descriptors", samples.descriptors, used.descriptors, str),
            ("Runs in flight", samples.in_flight, self._board.in_flight, str),
        )
        if self._charts[0] != samples.taken:
            charted = [
                (max(values, default=0), charts.day(values, f"{name} over {over}")) for name, values, _, _ in shown
            ]
            self._charts = (samples.taken, charted)
        return [
            {"name": name, "now": said(now), "most": said(max(most, now)), "over": over, "chart": chart}
            for (name, _, now, said), (most, chart) in zip(shown, self._charts[1], strict=True)
        ]

    def _failure(self, known: Ending | None, runs: Iterable[Report]) -> Ending | None:
        """Return the last failure in full; before the first one of this process, that of the history."""
        for report in runs:
            if report.counts and not report.outcome.good:
                ending = Ending.of(report, self._sources.redact)
                return replace(ending, message=self._sources.redact(report.message))
        return replace(known, message=self._sources.redact(known.message)) if known else None

    def _told(self, runs: Iterable[Report], told: str) -> list[tuple[Report, str]]:
        """Return each Run with its message, where that is another than the one ``told`` before: most are the same."""
        found = []
        for report in runs:
            message = "" if report.outcome.good else self._sources.redact(report.message)
            found.append((report, message[:SHOWN] if message != told else ""))
            told = message or told
        return found

    def _sinks(self, standing: Standing, lanes: Iterable[Lane], letters: Iterable[Letter]) -> list[dict[str, Any]]:
        owed = {lane.sink: lane for lane in lanes}
        dead: dict[str, int] = {}
        for letter in letters:
            dead[letter.sink] = dead.get(letter.sink, 0) + 1
        troubles = standing.sinks or {}
        return [
            {
                "name": sink,
                "owed": owed[sink].count if sink in owed else 0,
                "bytes": owed[sink].bytes if sink in owed else 0,
                "next_try": owed[sink].next_try if sink in owed else None,
                "dead": dead.get(sink, 0),
                "error": self._sources.redact(troubles[sink].error) if sink in troubles else "",
            }
            for sink in dict.fromkeys((*standing.job.sink_names(), *owed, *dead))
        ]


def _environment() -> Environment:
    from fetchd.web.templates import environment

    return environment()


def _kibibytes(count: int) -> str:
    return words.size(count * 1024)


def _filled(page: str, rows: Iterable[bytes]) -> Answer:
    """Return ``page`` with the rows in their place, in pieces that need not be put together."""
    head, _, tail = page.partition(CUT)
    return Answer(200, HTML, [head.encode("utf-8", "replace"), *rows, tail.encode("utf-8", "replace")])
