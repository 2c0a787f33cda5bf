"""Which path is answered with what. Read-only: nothing here changes anything."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from fetchd.board import Board, Look, Standing
from fetchd.health import Health
from fetchd.job import JOB_NAME
from fetchd.web.answer import Answer, Sources, as_json, text
from fetchd.web.api import Api
from fetchd.web.pages import Pages

_FOLDER: Final = Path(__file__).with_name("static")
_FILES: Final = {
    "/style.css": "text/css; charset=utf-8",
    "/page.js": "text/javascript; charset=utf-8",
    "/icon.svg": "image/svg+xml",
}
_NAME: Final = JOB_NAME.removeprefix("^").removesuffix("$")
_JOB: Final = re.compile(rf"(?P<api>/api)?/jobs/(?P<name>{_NAME})(?P<runs>/runs)?")


@dataclass(frozen=True, slots=True)
class Question:
    """What of a request counts: its path, its query's parameters, and which types it accepts."""

    path: str
    query: Mapping[str, str]
    accept: str = ""


class Site:
    """Answers questions."""

    def __init__(self, board: Board, health: Health, sources: Sources) -> None:
        self._board = board
        self._metrics = sources.metrics
        self._pages = Pages(board, health, sources)
        self._api = Api(board, health, sources)
        self._files = {path: Answer(200, kind, [(_FOLDER / path[1:]).read_bytes()]) for path, kind in _FILES.items()}
        self._paths: dict[str, Callable[[Question], Awaitable[Answer]]] = {
            "/": self._index,
            "/live": self._live,
            "/healthz": self._alive,
            "/readyz": self._ready,
            "/metrics": self._measured,
            "/api/status": self._status,
            "/api/jobs": self._jobs,
        }

    def close(self) -> None:
        """Let go of what is kept."""
        self._pages.close()

    async def answer(self, question: Question) -> Answer:
        """Return the answer; 404 where there is none."""
        if given := self._paths.get(question.path):
            return await given(question)
        if file := self._files.get(question.path):
            return file
        if match := _JOB.fullmatch(question.path):
            return await self._job(match, question)
        return text(404, "there is nothing here")

    async def _job(self, match: re.Match[str], question: Question) -> Answer:
        standing = self._board.standing(match["name"])
        if standing is None:
            words = "there is no such job"
            return as_json({"error": words}, 404) if match["api"] else text(404, words)
        if match["runs"]:
            return await self._api.runs(match["name"], question.query) if match["api"] else text(404, "no such page")
        look = self._looked(standing)
        return await (self._api.job(standing, look) if match["api"] else self._pages.job(standing, look))

    def _looked(self, standing: Standing) -> Look:
        next_slot = self._board.next_slots().get(standing.job.name)
        return self._board.look(standing, self._board.now(), next_slot)

    async def _index(self, _question: Question) -> Answer:
        return await self._pages.index()

    async def _live(self, question: Question) -> Answer:
        return await self._pages.live(question.query.get("after", ""))

    async def _alive(self, _question: Question) -> Answer:
        return text(200, "ok")

    async def _ready(self, _question: Question) -> Answer:
        return self._api.ready()

    async def _measured(self, _question: Question) -> Answer:
        content_type, pieces = await self._metrics()
        return Answer(200, content_type, pieces)

    async def _status(self, _question: Question) -> Answer:
        return await self._api.status()

    async def _jobs(self, _question: Question) -> Answer:
        return await self._api.jobs()
