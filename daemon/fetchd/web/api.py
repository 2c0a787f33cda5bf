"""The read-only API: what the board knows, as JSON."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Final

from fetchd.board import Board, Ending, Look, Standing
from fetchd.board.survey import Survey, survey
from fetchd.errors import StoreError
from fetchd.harvest import place_of
from fetchd.health import Health
from fetchd.overdue import NEVER
from fetchd.run import Report
from fetchd.web.answer import JSON, Answer, Sources, as_json, encoded

AT_ONCE: Final = 25
"""Jobs turned into JSON within one turn of the loop."""
RUNS: Final = 50
MOST_RUNS: Final = 1000


class Api:
    """Answers in JSON; every text that did not come from fetchd itself is redacted."""

    def __init__(self, board: Board, health: Health, sources: Sources) -> None:
        self._board = board
        self._health = health
        self._sources = sources

    def ready(self) -> Answer:
        """Return whether the daemon does its work; 503 if not."""
        verdict = self._health.verdict()
        shown = {"ready": verdict.ready, "problems": verdict.problems, "warnings": verdict.warnings}
        return as_json(self._sources.redact(shown), 200 if verdict.ready else 503)

    async def status(self) -> Answer:
        """Return how the daemon is, with the jobs in sums alone."""
        board, verdict = self._board, self._health.verdict()
        found = await survey(board)
        used = board.usage()
        reload = board.reload
        return as_json(
            {
                "version": board.version,
                "pid": board.pid,
                "started": board.started_at,
                "before": board.before or None,
                "now": found.at,
                "ready": verdict.ready,
                "problems": self._sources.redact(verdict.problems),
                "warnings": self._sources.redact(verdict.warnings),
                "jobs": _sums(found),
                "next_slot": found.next_slot,
                "config": {
                    "path": self._sources.redact(str(board.config)),
                    "generation": reload.generation,
                    "since": reload.since,
                    "error": self._sources.redact(reload.error) or None,
                    "rejected": reload.failed_at,
                },
                "resident_bytes": used.resident,
                "open_descriptors": used.descriptors,
                "clock_steps": board.clock_steps,
            }
        )

    async def jobs(self) -> Answer:
        """Return every job, those that somebody should see to first."""
        found = await survey(self._board)
        pieces = [b"["]
        for number, (name, look) in enumerate(found.looks().items(), start=1):
            standing = self._board.standing(name)
            if standing is not None:
                pieces += [b",\n" if len(pieces) > 1 else b"", encoded(self._job(standing, look))]
            if number % AT_ONCE == 0:
                await asyncio.sleep(0)
        return Answer(200, JSON, [*pieces, b"]\n"])

    async def job(self, standing: Standing, look: Look) -> Answer:
        """Return all that is known of one job."""
        name = standing.job.name
        carried = self._board.memory(name).carried
        troubles = standing.sinks or {}
        redact = self._sources.redact
        try:
            lanes = {lane.sink: lane for lane in await self._sources.lanes() if lane.job == name}
        except StoreError as error:
            return as_json({"error": redact(str(error))}, 503)
        sinks = [
            {
                "name": sink,
                "owed": lanes[sink].count if sink in lanes else 0,
                "owed_bytes": lanes[sink].bytes if sink in lanes else 0,
                "next_try": lanes[sink].next_try if sink in lanes else None,
                "error": redact(troubles[sink].error) if sink in troubles else None,
            }
            for sink in dict.fromkeys((*standing.job.sink_names(), *lanes))
        ]
        more = {
            "sinks": sinks,
            "cursor": redact(carried.cursor) or None,
            "page": redact(place_of(carried.page)) or None,
            "records_known": len(carried.seen),
            "config": dict(redact(self._sources.values(standing.job))),
        }
        return as_json({**self._job(standing, look), **more})

    async def runs(self, job: str, query: Mapping[str, str]) -> Answer:
        """Return the last Runs of a job, the newest first."""
        given = query.get("limit", str(RUNS))
        limit = int(given) if given.isascii() and given.isdigit() and len(given) < 6 else 0
        if not 1 <= limit <= MOST_RUNS:
            return as_json({"error": f"limit is a number from 1 to {MOST_RUNS}"}, 400)
        try:
            reports = await self._sources.history(job, limit)
        except StoreError as error:
            return as_json({"error": self._sources.redact(str(error))}, 503)
        return as_json([self._run(report) for report in reports])

    def _job(self, standing: Standing, look: Look) -> dict[str, Any]:
        overdue = self._board.overdue_since(standing.job.name) if look.overdue else NEVER
        return {
            "name": standing.job.name,
            "source": self._sources.redact(standing.job.source),
            "state": look.state,
            "overdue": look.overdue,
            "overdue_since": None if overdue == NEVER else overdue,
            "running_since": standing.running_since,
            "failures": look.failures,
            "failing_since": standing.failing_since,
            "last": self._ending(standing.last),
            "last_failure": self._ending(standing.last_failure),
            "last_success": look.last_success,
            "next_slot": look.next_slot,
            "backing_off_until": look.backing_off_until,
            "held_until": look.held_until,
            "owed": look.owed,
            "dead": look.dead,
            "runs": standing.runs or {},
            "skipped": standing.skipped or {},
            "missed": standing.missed,
        }

    def _ending(self, ending: Ending | None) -> dict[str, Any] | None:
        if ending is None:
            return None
        return {
            "at": ending.at,
            "outcome": ending.outcome,
            "reason": ending.reason,
            "message": self._sources.redact(ending.message),
            "status": ending.status,
            "duration_s": round(ending.duration, 4),
        }

    def _run(self, report: Report) -> dict[str, Any]:
        return {
            "run": report.run.id,
            "slot": report.run.slot,
            "started": report.started,
            "outcome": report.outcome,
            "reason": report.reason,
            "message": self._sources.redact(report.message),
            "phase": report.phase or None,
            "status": report.status,
            "bytes": report.bytes,
            "attempts": report.attempts,
            "duration_s": round(report.duration, 4),
            "lateness_s": round(report.lateness, 4),
            "waited_s": round(report.waited, 4),
            "timings_s": {name: round(took, 4) for name, took in report.timings.items()},
        }


def _sums(found: Survey) -> dict[str, int]:
    return {
        "total": found.total,
        "failing": found.failing,
        "overdue": found.overdue,
        "paused": found.paused,
        "running": found.running,
        "owed": found.owed,
        "dead": found.dead,
    }
