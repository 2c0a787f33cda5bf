"""What a running daemon does for whoever asks it over the control socket."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable, Container, Coroutine, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, TypeVar

import structlog

from fetchd.board import Board, Look, Standing
from fetchd.board.survey import survey
from fetchd.control.server import Reply, Verb
from fetchd.control.wire import EXIT_BUSY, EXIT_CONFIG, EXIT_FAILED
from fetchd.errors import FetchdError, StoreError
from fetchd.health import Health, Stage
from fetchd.job import Job
from fetchd.reload.changes import Why
from fetchd.reload.reloader import Reloader
from fetchd.roster import Roster, Runs
from fetchd.run import Progress, Report
from fetchd.runner import Runner
from fetchd.shorten import meant
from fetchd.store import Store
from fetchd.told import lines_of

log = structlog.get_logger()

TELL_EVERY: Final = 0.5
"""Seconds between two words on how far a Run has come."""

T = TypeVar("T")


class AskedError(FetchdError):
    """What was asked for cannot be done; ``status`` is the exit status."""

    def __init__(self, message: str, status: int = EXIT_FAILED) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True)
class Inside:
    """The parts of the daemon that verbs speak with.

    ``lift`` lets the host of a job be asked again before the time that it has named, and returns whether it had.
    ``hurry`` has what jobs owe tried now.
    """

    roster: Roster
    runs: Runs
    runner: Runner
    store: Store
    board: Board
    health: Health
    reloader: Reloader
    lift: Callable[[Job], bool]
    hurry: Callable[[Container[str]], None]


class Verbs:
    """Answers requests. What changes something goes on to its end, whether its client waits for it or not."""

    def __init__(self, inside: Inside, *, tell_every: float = TELL_EVERY) -> None:
        self._inside = inside
        self._tell_every = tell_every
        self._acts: set[asyncio.Task[Any]] = set()

    def table(self) -> dict[str, Verb]:
        """Return the verbs by name."""
        verbs = (self.status, self.trigger, self.pause, self.resume, self.reload)
        return {verb.__name__: _answered(verb) for verb in verbs}

    async def status(self, request: Mapping[str, Any], reply: Reply) -> int:
        """Tell how things are: the daemon, then each job if ``jobs`` is asked for. 0 if the daemon does its work."""
        board, verdict = self._inside.board, self._inside.health.verdict()
        config = board.reload
        await reply.data(
            {
                "version": board.version,
                "pid": board.pid,
                "started": board.started_at,
                "now": board.now(),
                "ready": verdict.ready,
                "problems": verdict.problems,
                "warnings": verdict.warnings,
                "generation": config.generation,
                "config": str(board.config),
                "config_since": config.since,
                "config_error": config.error or None,
                "before": board.before or None,
                "resident_bytes": board.usage().resident,
            }
        )
        if request.get("jobs"):
            await self._tell_jobs(reply)
        return 0 if verdict.ready else EXIT_FAILED

    async def trigger(self, request: Mapping[str, Any], reply: Reply) -> int:
        """Run ``job`` now, beside its schedule, and tell how it ended. 0 if it did what it should.

        What it owes is tried now as well: whoever has mended a sink does not want to wait for its backoff.
        """
        (name,) = self._named([request.get("job")])
        self._inside.hurry({name})
        said = False
        while (report := await self._run(name, reply)) is None:
            if name in self._inside.runner.stuck:
                raise AskedError(f"{name}: its run ignores that it was cancelled; only a restart of the daemon ends it")
            if self._inside.runner.progress(name) is None:
                raise AskedError(f"{name}: it was not run: another process has taken its slot")
            if not request.get("wait", True):
                raise AskedError(f"{name}: a run of it is under way")
            if not said:
                await reply.err(f"{name}: a run of it is under way; the next one begins when that has ended")
                said = True
            ended = self._own(self._inside.roster.idle(name))
            await self._follow(name, ended, reply)
        for line in lines_of(report):
            await reply.out(line)
        if not report.outcome.good and self._inside.board.held_until(name) is not None:
            await reply.err(f"`fetchd resume {name}` has its host asked all the same")
        try:
            await self._kept()  # whoever looks next, such as for a dead letter, shall find what was just told
        except StoreError as error:
            await reply.err(f"it is not kept in the history: {error}")
        return 0 if report.outcome.good else EXIT_FAILED

    async def pause(self, request: Mapping[str, Any], reply: Reply) -> int:
        """Leave out the slots of ``jobs``, or of all, until they are resumed, over restarts too."""
        self._refuse_unless_running()
        names, others = self._to_switch(request, paused=True)
        for name in names:
            self._inside.store.pause(name, True)
            log.info("job_paused", job=name)
        await self._kept_switch()
        for name in names:
            await reply.out(f"{name}: paused")
        for name in others:
            await reply.out(f"{name}: was paused already")
        return 0

    async def resume(self, request: Mapping[str, Any], reply: Reply) -> int:
        """Run ``jobs``, or all, again at their slots: by their own rhythm, whatever time their hosts have named."""
        self._refuse_unless_running()
        names, others = self._to_switch(request, paused=False)
        for name in (*names, *others):
            self._inside.store.forgive(name)
        lifted = [name for name in (*names, *others) if self._inside.lift(self._inside.roster.jobs[name])]
        for name in names:
            self._inside.store.pause(name, False)
            self._inside.board.resumed(name)
            log.info("job_resumed", job=name)
        await self._kept_switch()
        for name in names:
            await reply.out(f"{name}: resumed")
        for name in others:
            await reply.out(f"{name}: was not paused; it does not back off")
        for name in lifted:
            await reply.out(f"{name}: its host is asked again, although it has named a later time")
        return 0

    async def reload(self, _request: Mapping[str, Any], reply: Reply) -> int:
        """Read the configuration again. 0 if it is in force, with or without changes."""
        self._refuse_unless_running()
        verdict = await self._owned(self._inside.reloader.reload(Why.VERB))
        show = reply.out if verdict.applied else reply.err
        for line in verdict.lines():
            await show(line)
        if verdict.findings:
            return EXIT_CONFIG
        return EXIT_FAILED if verdict.error else 0

    async def _run(self, name: str, reply: Reply) -> Report | None:
        """Run a job and return how that ended; None if there was no Run, or it does not end."""
        self._refuse_unless_running()
        if self._inside.runner.progress(name) is not None:
            return None
        (name,) = self._named([name])  # while it was waited for, it may have been removed
        run = self._own(self._inside.runs.run(self._inside.roster.jobs[name], datetime.now(UTC), by_hand=True))
        await self._follow(name, run, reply)
        return run.result() if run.done() else None

    async def _follow(self, name: str, task: asyncio.Task[Any], reply: Reply) -> None:
        """Tell how far the Run of ``name`` has come until ``task`` is done, or the Run turns out not to end."""
        while not (await asyncio.wait({task}, timeout=self._tell_every))[0]:
            if name in self._inside.runner.stuck:
                return
            if (progress := self._inside.runner.progress(name)) is not None:
                await reply.send({"progress": progress.how_far()})

    def _to_switch(self, request: Mapping[str, Any], *, paused: bool) -> tuple[list[str], list[str]]:
        """Return the jobs that a request names: those to be paused, or resumed, and those that are so already."""
        names = list(self._inside.roster.jobs) if request.get("all") else self._named(request.get("jobs"))
        already = [name for name in names if self._inside.store.recall(name).paused == paused]
        return [name for name in names if name not in set(already)], already

    async def _kept(self) -> None:
        """Return once what was noted is kept: what is awaited comes after everything before it."""
        await self._inside.store.notes("pause.")

    async def _kept_switch(self) -> None:
        try:
            await self._kept()
        except StoreError as error:
            raise AskedError(f"it counts, but it is not kept over a restart: {error}") from None

    async def _tell_jobs(self, reply: Reply) -> None:
        board, runner = self._inside.board, self._inside.runner
        for name, look in (await survey(board)).looks().items():
            if (standing := board.standing(name)) is not None:
                await reply.data(_row(standing, look, runner.progress(name)))
        jobs = self._inside.roster.jobs
        try:
            lanes = await self._inside.store.lanes()
        except StoreError:
            return  # the warnings say so, and whether the daemon does its work does not hang on it
        for lane in lanes:
            if lane.job not in jobs or lane.sink not in jobs[lane.job].sink_names():
                await reply.data({"owed_to": f"{lane.job} {lane.sink}", "count": lane.count})

    def _named(self, wanted: Any) -> list[str]:
        """Return the jobs that a request names."""
        jobs = self._inside.roster.jobs
        names = [name for name in wanted if isinstance(name, str)] if isinstance(wanted, list) else []
        if not names:
            raise AskedError("name a job")
        for name in names:
            if name not in jobs:
                message = f"there is no job {name} in the running configuration; {meant(name, jobs)}"
                raise AskedError(message, EXIT_CONFIG)
        return list(dict.fromkeys(names))

    def _refuse_unless_running(self) -> None:
        """Change nothing before the jobs are armed, nor once they are drained."""
        stage = self._inside.health.stage
        if stage is not Stage.RUNNING:
            raise AskedError(f"the daemon is {stage}", EXIT_BUSY)

    async def _owned(self, act: Coroutine[Any, Any, T]) -> T:
        return await asyncio.shield(self._own(act))

    def _own(self, act: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Return ``act`` as a task that nobody's leaving cancels, without what the client's own has bound."""
        task = asyncio.create_task(act, context=contextvars.Context())
        self._acts.add(task)
        task.add_done_callback(self._acts.discard)
        return task


def _answered(verb: Callable[[Mapping[str, Any], Reply], Coroutine[Any, Any, int]]) -> Verb:
    async def answer(request: Mapping[str, Any], reply: Reply) -> int:
        try:
            return await verb(request, reply)
        except AskedError as error:
            await reply.err(str(error))
            return error.status
        except StoreError as error:
            await reply.err(str(error))
            return EXIT_FAILED

    return answer


def _row(standing: Standing, look: Look, progress: Progress | None) -> dict[str, Any]:
    last = standing.last
    return {
        "job": standing.job.name,
        "source": standing.job.source,
        "state": str(look.state),
        "overdue": look.overdue,
        "running": progress.how_far() if progress else None,
        "failures": look.failures,
        "last_outcome": str(last.outcome) if last else None,
        "last_reason": str(last.reason) if last and last.reason else None,
        "last_message": last.message if last else None,
        "last_success": look.last_success,
        "next_slot": look.next_slot,
        "backing_off_until": look.backing_off_until,
        "held_until": look.held_until,
        "owed": look.owed,
        "dead": look.dead,
    }
