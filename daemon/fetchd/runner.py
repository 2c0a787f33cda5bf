"""The act: one Run under one deadline, and the one place where every ending becomes an Outcome."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final, Protocol

import structlog

from fetchd.clock import Clock
from fetchd.errors import FetchdError, FetchError, Reason, SinkError, StoreError, UserCodeError
from fetchd.job import Job
from fetchd.run import Fetched, Outcome, Progress, Report, Run, Validators, new_run_id
from fetchd.store import Memory, Store

log = structlog.get_logger()

BACKSTOP_EVERY: Final = 0.1
GIVE_UP_AFTER: Final = 0.5
"""Seconds after its deadline at which a Run that ignores its cancellation is given up."""
STUCK_AT_MOST: Final = 10
"""Runs that were given up and live on: with more, the process ends, for its supervisor to start a clean one."""
SKIPS_SAID_EVERY: Final = 60.0
STACK_AT_MOST: Final = 30

_REASON_BY_PHASE: Final = {
    "pool": Reason.TIMEOUT_POOL,
    "dns": Reason.DNS,
    "connect": Reason.TIMEOUT_CONNECT,
    "write": Reason.TIMEOUT_WRITE,
    "headers": Reason.TIMEOUT_READ,
    "body": Reason.TIMEOUT_READ,
    "memory": Reason.LOCAL_RESOURCE,
    "worker": Reason.STARVED,
    "collect": Reason.COLLECT,
    "claim": Reason.LOCAL_RESOURCE,
    "commit": Reason.LOCAL_RESOURCE,
    "deliver": Reason.SINK,
}
_CONDITIONAL: Final = frozenset({"GET", "HEAD"})


class TooManyStuckError(FetchdError):
    """So many Runs ignore their cancellation that only a new process can help."""


class Fetch(Protocol):
    """Brings the result of a job."""

    async def fetch(self, job: Job, run: Run, progress: Progress, validators: Validators) -> Fetched | None:
        """Return what ``job`` fetches now; None if there is nothing new since ``validators``."""


class HandOver(Protocol):
    """Takes results, and sees to it that they reach their sinks."""

    def kept(self, job: str) -> bool:
        """Return whether the last result of ``job`` could be kept."""

    async def hand_over(self, run: Run, fetched: Fetched, progress: Progress, *, new: bool = True) -> None:
        """Keep the result and try each sink once; ``fetched`` is closed by it, however it ends.

        Raises:
            SinkError: a sink did not take it.
        """


@dataclass(slots=True, eq=False)
class _Live:
    """A Run in progress: what the backstop, the drain and the next slot need to know of it."""

    run: Run
    job: Job
    task: asyncio.Task[object]
    progress: Progress = field(default_factory=Progress)
    started: datetime | None = None
    began: float = 0.0
    waited: float = 0.0
    deadline: float | None = None
    expired: bool = False
    given_up: bool = False
    has_place: bool = False


@dataclass(slots=True)
class _Skips:
    """Slots of one job that were skipped for one reason."""

    unsaid: int = 0
    total: int = 0
    said_at: float = float("-inf")


@dataclass(frozen=True, slots=True)
class _Ending:
    outcome: Outcome
    reason: Reason | None = None
    message: str = ""


class Runner:
    """Runs jobs: fetch, hand over, report."""

    def __init__(self, fetcher: Fetch, outbox: HandOver, store: Store, clock: Clock, *, max_concurrent: int) -> None:
        self._fetcher = fetcher
        self._outbox = outbox
        self._store = store
        self._clock = clock
        self._places = asyncio.Semaphore(max_concurrent)
        self._live: dict[str, _Live] = {}
        self._skips: dict[str, dict[Reason, _Skips]] = {}
        self._marks: dict[str, tuple[Job, str]] = {}
        self._stuck = asyncio.Event()

    @property
    def in_flight(self) -> int:
        """How many Runs are alive, those that wait for a place included."""
        return len(self._live)

    async def run(self, job: Job, slot: datetime) -> Report | None:
        """Execute ``job`` for ``slot`` and return how it ended; None if the slot was skipped.

        The report is logged and kept before this returns. The caller's task is the Run's task: it is cancelled at
        the deadline, and that cancellation ends here.
        """
        if job.name in self._live:
            self.skip(job, slot)
            return None
        task = asyncio.current_task()
        assert task is not None
        live = _Live(Run(new_run_id(), job.name, slot), job, task)
        self._live[job.name] = live
        try:
            ending = await self._act(live)
            if live.given_up:
                log.warning("run_unstuck", job=job.name, run=live.run.id, after_s=self._elapsed(live))
                return None
            return self._finish(live, ending) if ending else None
        finally:
            self._give_place_back(live)
            del self._live[job.name]

    def skip(self, job: Job, slot: datetime) -> None:
        """Count a slot that found the job's Run alive; the log is told at once, then at most once a minute."""
        live = self._live.get(job.name)
        reason = Reason.OVERLAP
        if live is not None and live.given_up:
            reason = Reason.STUCK
        elif live is not None and live.started is None:
            reason = Reason.STARVED
        self._count_skip(job.name, slot, reason)

    def _count_skip(self, job: str, slot: datetime, reason: Reason) -> None:
        self._store.skip(job, slot, reason)
        skips = self._skips.setdefault(job, {}).setdefault(reason, _Skips())
        skips.unsaid += 1
        skips.total += 1
        if self._clock.monotonic() - skips.said_at >= SKIPS_SAID_EVERY:
            self._say_skips(job, reason, skips)

    async def backstop(self) -> None:
        """Watch for Runs that outlive their deadline, for as long as the daemon runs.

        Raises:
            TooManyStuckError: more of them ignore their cancellation than can be borne.
        """
        while True:
            await asyncio.sleep(BACKSTOP_EVERY)
            now = self._clock.monotonic()
            for live in list(self._live.values()):
                if live.deadline is None or now < live.deadline + BACKSTOP_EVERY:
                    continue
                live.expired = True
                live.task.cancel()  # again: user code may have swallowed the first one
                if now >= live.deadline + GIVE_UP_AFTER and not live.given_up:
                    self._give_up(live)
            if sum(live.given_up for live in self._live.values()) > STUCK_AT_MOST:
                raise TooManyStuckError(f"more than {STUCK_AT_MOST} runs ignore their cancellation")

    async def until_stuck(self) -> None:
        """Return once a Run had to be given up."""
        await self._stuck.wait()

    async def drain(self, grace: float) -> None:
        """Let Runs end by themselves for ``grace`` seconds, then cancel the others and wait a moment for them.

        Runs that wait for a place have not begun: they are cancelled at once.
        """
        for live in self._live.values():
            if live.started is None:
                live.task.cancel()
        tasks = {live.task for live in self._live.values() if not live.given_up}
        if tasks:
            await asyncio.wait(tasks, timeout=grace)
        late = [live for live in self._live.values() if not live.given_up]
        for live in late:
            live.task.cancel()
        if late:
            await asyncio.wait({live.task for live in late}, timeout=GIVE_UP_AFTER)

    async def _act(self, live: _Live) -> _Ending | None:
        """Fetch and hand over under the deadline; None where the slot is not to be run."""
        timer = None
        ending: _Ending | None
        try:
            await self._wait_for_place(live)
            timer = asyncio.get_running_loop().call_later(live.job.deadline, self._expire, live)
            ending = await self._carry_out(live)
        except asyncio.CancelledError:
            while live.task.uncancel():
                """Take back each request to cancel: it is answered here."""
            ending = _Ending(Outcome.CANCELLED, Reason.SHUTDOWN, "cancelled while the daemon was stopping")
        finally:
            if timer is not None:
                timer.cancel()
            live.deadline = None
        # Code that runs on past the deadline without giving way, or swallows its cancellation, ends here as well.
        if live.expired or (timer is not None and self._elapsed(live) > live.job.deadline):
            phase = live.progress.phase
            message = f"the deadline of {live.job.deadline:g} s passed in phase {phase}"
            reason = live.progress.failed or _REASON_BY_PHASE.get(phase.partition(":")[0])
            return _Ending(Outcome.DEADLINE_EXCEEDED, reason, message)
        return ending

    async def _carry_out(self, live: _Live) -> _Ending | None:
        """Do what the Run is for, and turn every failure into an ending."""
        job, run, progress = live.job, live.run, live.progress
        try:
            progress.phase = "claim"
            if not await self._claimed(run):
                return None
            if _is_full(job, self._store.recall(job.name)):
                self._count_skip(job.name, run.slot, Reason.BACKLOG)
                return None
            return await self._fetch_and_hand_over(live)
        except FetchError as error:
            progress.phase = error.phase or progress.phase
            return _Ending(Outcome.FETCH_FAILED, error.reason, str(error))
        except SinkError as error:
            return _Ending(Outcome.DELIVERY_FAILED, Reason.SINK, str(error))
        except UserCodeError as error:
            return _Ending(Outcome.FETCH_FAILED, Reason.COLLECT, str(error))
        except Exception as error:
            log.exception("internal_error", job=job.name, run=run.id)
            fetched = progress.phase.startswith(("commit", "deliver"))
            failed = Outcome.DELIVERY_FAILED if fetched else Outcome.FETCH_FAILED
            return _Ending(failed, Reason.INTERNAL, f"{type(error).__name__}: {error}")

    async def _fetch_and_hand_over(self, live: _Live) -> _Ending:
        job, last = live.job, self._last_result(live.job)
        fetched = await self._fetcher.fetch(job, live.run, live.progress, last.validators)
        if fetched is None:
            return _Ending(Outcome.UNCHANGED)
        fetched = replace(fetched, validators=replace(fetched.validators, mark=self._mark(job)))
        # A HEAD has no content that could be the same, and what a POST brings back is told each time.
        new = job.method != "GET" or fetched.body.sha256 != last.sha256
        if new or fetched.validators != last.validators:
            await self._outbox.hand_over(live.run, fetched, live.progress, new=new)
        else:
            fetched.body.close()
        return _Ending(Outcome.SUCCEEDED if new else Outcome.UNCHANGED)

    async def _claimed(self, run: Run) -> bool:
        """Take the slot; a store that cannot write it down, which it says itself, is no reason not to fetch."""
        try:
            return await self._store.claim(run)
        except StoreError:
            return True

    def _last_result(self, job: Job) -> Memory:
        """Return what the next result is compared with: nothing, where it is to be delivered whatever it is."""
        last = self._store.recall(job.name)
        if last.validators.mark != self._mark(job):
            return Memory()
        # A sink that has given up the last result, or one that could not be kept, would else never see the same again.
        if job.on_unchanged == "deliver" or last.dead or not self._outbox.kept(job.name):
            return Memory()
        return last if job.method in _CONDITIONAL else Memory()

    def _mark(self, job: Job) -> str:
        known = self._marks.get(job.name)
        if known is None or known[0] is not job:
            known = self._marks[job.name] = (job, job.mark())
        return known[1]

    async def _wait_for_place(self, live: _Live) -> None:
        """Wait until fewer Runs than the maximum are under way; the deadline begins after it."""
        queued = self._clock.monotonic()
        await self._places.acquire()
        live.has_place = True
        live.began = self._clock.monotonic()
        live.waited = live.began - queued
        live.started = self._clock.now()
        live.deadline = live.began + live.job.deadline

    def _expire(self, live: _Live) -> None:
        live.expired = True
        live.task.cancel()

    def _give_up(self, live: _Live) -> None:
        """Report a Run that does not end, and let others have its place. Its task is left to itself."""
        live.given_up = True
        self._stuck.set()
        self._give_place_back(live)
        log.error("run_stuck", job=live.job.name, run=live.run.id, phase=live.progress.phase, stack=_stack(live.task))
        message = (
            f"still alive {GIVE_UP_AFTER:g} s after the deadline of {live.job.deadline:g} s: it ignores cancellation"
        )
        self._finish(live, _Ending(Outcome.DEADLINE_EXCEEDED, Reason.STUCK, message))

    def _give_place_back(self, live: _Live) -> None:
        if live.has_place:
            live.has_place = False
            self._places.release()

    def _finish(self, live: _Live, ending: _Ending) -> Report:
        """Keep and log how the Run ended."""
        run, progress, started = live.run, live.progress, live.started
        report = Report(
            run=run,
            outcome=ending.outcome,
            reason=ending.reason,
            message=ending.message,
            phase="" if ending.outcome.good else progress.phase,
            status=progress.status,
            bytes=progress.bytes,
            attempts=progress.attempts,
            started=started,
            duration=self._elapsed(live) if started else 0.0,
            lateness=max(0.0, (started - run.slot).total_seconds()) if started else 0.0,
            waited=live.waited,
            timings=dict(progress.timings),
        )
        self._store.finish(report)
        _say(report)
        for reason, skips in self._skips.get(run.job, {}).items():
            if skips.unsaid:
                self._say_skips(run.job, reason, skips)
        return report

    def _elapsed(self, live: _Live) -> float:
        return self._clock.monotonic() - live.began

    def _say_skips(self, job: str, reason: Reason, skips: _Skips) -> None:
        log.warning("slot_skipped", job=job, reason=str(reason), count=skips.unsaid, total=skips.total)
        skips.unsaid = 0
        skips.said_at = self._clock.monotonic()


def _is_full(job: Job, memory: Memory) -> bool:
    """Return whether so much of what ``job`` has fetched is undelivered that no more is fetched."""
    return max(memory.owed, memory.dead) >= job.backlog or memory.owed_bytes >= job.backlog_size


def _say(report: Report) -> None:
    """Write the one canonical line of a Run."""
    run = report.run
    fields = {
        "job": run.job,
        "run": run.id,
        "slot": run.slot.isoformat(),
        "outcome": str(report.outcome),
        "reason": str(report.reason) if report.reason else None,
        "status": report.status,
        "bytes": report.bytes,
        "attempts": report.attempts,
        "duration_s": round(report.duration, 4),
        "lateness_s": round(report.lateness, 4),
    }
    if report.outcome.good:
        log.info("run_finished", **fields)
    else:
        log.warning("run_finished", **fields, phase=report.phase, message=report.message)


def _stack(task: asyncio.Task[object]) -> str:
    """Return where ``task`` waits: the chain of awaits from its Run down, without local values."""
    lines: list[str] = []
    waiting: object = task.get_coro()
    while waiting is not None and len(lines) < STACK_AT_MOST:
        frame = getattr(waiting, "cr_frame", None) or getattr(waiting, "gi_frame", None)
        if frame is not None:
            lines.append(f"{frame.f_code.co_filename}:{frame.f_lineno} in {frame.f_code.co_name}")
        waiting = getattr(waiting, "cr_await", None) or getattr(waiting, "gi_yieldfrom", None)
    return "\n".join(lines)
