"""The act: one Run under one deadline, and the one place where every ending becomes an Outcome."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Mapping
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import Final, Protocol

import structlog

from fetchd.clock import Clock
from fetchd.endings import Ending, of_error, overdue, say
from fetchd.errors import FetchdError, FetchError, Reason, SinkError, StoreError
from fetchd.job import Job
from fetchd.live import GIVE_UP_AFTER, Live, LiveRuns, Turn, stack_of
from fetchd.novelty import Novelty, is_new
from fetchd.places import Places
from fetchd.run import Fetched, Outcome, Progress, Report, Run, RunIds
from fetchd.slots import Slots, is_full, refusal
from fetchd.store import Memory, Store
from fetchd.watch import Unwatched, Watcher

log = structlog.get_logger()

FULL: Final = "as many deliveries are owed, or dead, as its backlog may hold"


class Source(Protocol):
    """Brings the results of jobs."""

    def held(self, job: Job) -> Reason | None:
        """Return why what ``job`` fetches is not to be asked for now; None if it may be."""

    def refusal(self, job: Job) -> str:
        """Return why a Run of ``job`` that began now could send nothing before its deadline; "" if it could."""

    def turn(self, job: Job) -> Turn | None:
        """Return what ``job`` has to wait for before it begins; None if there is nothing."""

    def results(self, job: Job, run: Run, progress: Progress, memory: Memory) -> AsyncGenerator[Fetched, None]:
        """Yield each result that ``job`` fetches now; none if there is nothing new since ``memory``."""


class HandOver(Protocol):
    """Takes results, and sees to it that they reach their sinks."""

    def kept(self, job: str) -> bool:
        """Return whether the last result of ``job`` could be kept."""

    async def until_kept(self, job: str) -> None:
        """Wait for a result of ``job`` that is being kept while its Run has ended."""

    async def hand_over(self, run: Run, fetched: Fetched, progress: Progress, *, new: bool = True) -> None:
        """Keep the result and try each sink once; ``fetched`` is closed by it, however it ends.

        Raises:
            SinkError: a sink did not take it.
        """


class Runner:
    """Runs jobs: fetch, hand over, report."""

    def __init__(
        self,
        source: Source,
        outbox: HandOver,
        store: Store,
        clock: Clock,
        *,
        max_concurrent: int,
        watcher: Watcher | None = None,
    ) -> None:
        self._source = source
        self._outbox = outbox
        self._store = store
        self._clock = clock
        self._watcher = watcher or Unwatched()
        self._ids = RunIds(clock, store.last_run)
        self._places = Places(max_concurrent)
        self._slots = Slots(store, clock, self._watcher)
        self._live = LiveRuns(clock, self._give_up)
        self._novelty = Novelty(store, outbox.kept)

    @property
    def in_flight(self) -> int:
        """How many Runs are alive, those that wait for a place included."""
        return len(self._live)

    @property
    def stuck(self) -> list[str]:
        """The jobs whose Run ignores that it was cancelled, and lives on."""
        return self._live.stuck

    def progress(self, job: str) -> Progress | None:
        """Return how far the Run of ``job`` has come; None if none is alive."""
        live = self._live.of(job)
        return live.progress if live else None

    async def run(self, job: Job, slot: datetime, *, by_hand: bool = False) -> Report | None:
        """Execute ``job`` for ``slot`` and return how it ended; None if the slot was skipped.

        The report is logged and kept before this returns. The caller's task is the Run's task: it is cancelled at
        the deadline, and that cancellation ends here. What is run ``by_hand`` is run although the job is paused
        or backs off, not while a Run of it is alive; a host that wants no request gets none from it either. Where it
        is skipped the report says why, and nobody else is told: it is no slot, and says nothing of the job.
        """
        if job.name in self._live:
            if not by_hand:
                self.skip(job, slot)
            return None
        if not by_hand and (reason := refusal(job, self._store.recall(job.name), slot, self._held)):
            self._slots.skip(job.name, slot, reason)
            return None
        run = Run(self._ids.next(), job.name, slot)
        if by_hand and (message := self._source.refusal(job)):
            return Report(run, Outcome.SKIPPED, Reason.RETRY_AFTER, message)
        task = asyncio.current_task()
        assert task is not None
        live = Live(run, job, task, by_hand=by_hand)
        self._live.add(live)
        try:
            ending = await self._act(live)
            if live.given_up:
                log.warning("run_unstuck", job=job.name, run=live.run.id, after_s=self._elapsed(live))
                return None
            if ending is None:
                return None
            return self._skip(live, ending) if ending.outcome is Outcome.SKIPPED else self._finish(live, ending)
        finally:
            self._give_place_back(live)
            self._live.remove(live)

    def skip(self, job: Job, slot: datetime) -> None:
        """Count a slot that found the job's Run alive; the log is told at once, then at most once a minute."""
        live = self._live.of(job.name)
        reason = Reason.OVERLAP
        if live is not None and live.given_up:
            reason = Reason.STUCK
        elif live is not None and live.started is None:
            reason = Reason.STARVED
        self._slots.skip(job.name, slot, reason)

    async def backstop(self) -> None:
        """Watch for Runs that outlive their deadline, for as long as the daemon runs.

        Raises:
            TooManyStuckError: more of them ignore their cancellation than can be borne.
        """
        await self._live.backstop()

    async def until_stuck(self) -> None:
        """Return once a Run had to be given up."""
        await self._live.until_stuck()

    async def cancel(self, jobs: Iterable[str]) -> list[str]:
        """End the Runs of ``jobs``, which are no longer wanted; return those whose Run does not end."""
        return await self._live.cancel(jobs)

    def forget(self, jobs: Mapping[str, Job]) -> None:
        """Let go of what is kept for definitions other than ``jobs``, which are those in force."""
        self._novelty.forget(jobs)
        self._slots.forget(jobs)

    async def drain(self, grace: float) -> None:
        """Let Runs end by themselves for ``grace`` seconds, then cancel the others and wait a moment for them."""
        await self._live.drain(grace)

    async def _act(self, live: Live) -> Ending | None:
        """Fetch and hand over under the deadline; None where another process has the slot."""
        timer = None
        ending: Ending | None
        try:
            if skipped := await self._wait_for_turn(live):
                return skipped
            await self._wait_for_place(live)
            timer = asyncio.get_running_loop().call_later(live.job.deadline, self._expire, live)
            ending = await self._carry_out(live)
        except asyncio.CancelledError:
            while live.task.uncancel():
                """Take back each request to cancel: it is answered here."""
            why = "its job was removed" if live.removed else "the daemon was stopping"
            ending = Ending(Outcome.CANCELLED, Reason.SHUTDOWN, f"cancelled while {why}")
        finally:
            self._give_place_back(live)
            if timer is not None:
                timer.cancel()
            live.deadline = None
        # Code that runs on past the deadline without giving way, or swallows its cancellation, ends here as well.
        if live.expired or (timer is not None and self._elapsed(live) > live.job.deadline):
            return overdue(live.job.deadline, live.progress)
        return ending

    async def _carry_out(self, live: Live) -> Ending | None:
        """Do what the Run is for, and turn every failure into an ending."""
        job, run, progress = live.job, live.run, live.progress
        try:
            progress.phase = "claim"
            if not await self._claimed(run):
                return None
            if is_full(job, self._store.recall(job.name)):
                return Ending(Outcome.SKIPPED, Reason.BACKLOG, FULL)
            self._watcher.started(run)
            return await self._fetch_and_hand_over(live)
        except Exception as error:
            if isinstance(error, FetchError):
                progress.phase = error.phase or progress.phase
            elif not isinstance(error, FetchdError):
                log.exception("internal_error", job=job.name, run=run.id)
            return of_error(error, progress.phase)

    async def _fetch_and_hand_over(self, live: Live) -> Ending:
        """Hand over each result as it comes. A sink that does not take one is no reason to leave the others."""
        job, live.progress.phase = live.job, "commit"
        await self._outbox.until_kept(job.name)
        last = self._novelty.last(job)
        outcome, count, carried = Outcome.UNCHANGED, 0, last.carried
        refused: SinkError | None = None
        async with aclosing(self._source.results(job, live.run, live.progress, last)) as results:
            async for fetched in results:
                count += 1
                fetched = self._novelty.marked(job, fetched)
                new = is_new(job, fetched, last, carried, first=count == 1)
                if not new and fetched.validators == last.validators and fetched.carried in (None, carried):
                    fetched.body.close()
                    continue
                carried = fetched.carried or carried
                run = live.run if count == 1 else replace(live.run, id=f"{live.run.id}.{count}")
                try:
                    await self._outbox.hand_over(run, fetched, live.progress, new=new)
                except SinkError as error:
                    refused = refused or error
                outcome = Outcome.SUCCEEDED if new else outcome
        if refused is not None:
            raise refused
        return Ending(outcome)

    async def _claimed(self, run: Run) -> bool:
        """Take the slot; a store that cannot write it down, which it says itself, is no reason not to fetch."""
        try:
            return await self._store.claim(run)
        except StoreError:
            return True

    def _held(self, job: Job) -> Reason | None:
        """Return why the host of ``job`` is not to be asked; what could not be kept is no reason to call it fresh."""
        reason = self._source.held(job)
        return None if reason is Reason.FRESH and not self._outbox.kept(job.name) else reason

    async def _wait_for_turn(self, live: Live) -> Ending | None:
        """Wait for the host's turn; return why the slot is not to be run, if the host has asked for that meanwhile.

        It comes before the place: those who wait for one polite host must not take the places of all others.
        """
        live.queued = self._clock.monotonic()
        live.turn = self._source.turn(live.job)
        if live.turn is None:
            return None
        await live.turn.taken()
        if live.by_hand:
            message = self._source.refusal(live.job)
            return Ending(Outcome.SKIPPED, Reason.RETRY_AFTER, message) if message else None
        reason = self._held(live.job)
        return Ending(Outcome.SKIPPED, reason) if reason else None

    async def _wait_for_place(self, live: Live) -> None:
        """Wait until fewer Runs than the maximum are under way; the deadline begins after it."""
        await self._places.take()
        live.has_place = True
        live.began = self._clock.monotonic()
        live.waited = live.began - live.queued
        live.started = self._clock.now()
        live.deadline = live.progress.deadline = live.began + live.job.deadline
        live.progress.aside = partial(self._aside, live)
        live.progress.idle = partial(self._live.idle, live)

    @asynccontextmanager
    async def _aside(self, live: Live) -> AsyncIterator[None]:
        """Let others have the place of a Run that sleeps, as one does for as long as its host wants no request."""
        if not live.has_place:  # it was given up, and others have it already
            yield
            return
        live.has_place = False
        self._places.give()
        with self._live.idle(live):
            yield
            await self._places.take(back=True)
        live.has_place = True

    def _expire(self, live: Live) -> None:
        live.expired = True
        live.task.cancel()

    def _give_up(self, live: Live) -> None:
        """Report a Run that does not end, and let others have its place. Its task is left to itself."""
        self._give_place_back(live)
        log.error("run_stuck", job=live.job.name, run=live.run.id, phase=live.progress.phase, stack=stack_of(live.task))
        message = (
            f"still alive {GIVE_UP_AFTER:g} s after the deadline of {live.job.deadline:g} s: it ignores cancellation"
        )
        self._finish(live, Ending(Outcome.DEADLINE_EXCEEDED, Reason.STUCK, message))

    def _give_place_back(self, live: Live) -> None:
        turn, live.turn = live.turn, None
        if turn is not None:
            turn.release()
        if live.has_place:
            live.has_place = False
            self._places.give()

    def _skip(self, live: Live, ending: Ending) -> Report | None:
        """Count the slot of a Run that was not begun; to whoever asked for it by hand, say why."""
        if live.by_hand:
            return Report(live.run, ending.outcome, ending.reason, ending.message)
        assert ending.reason is not None
        self._slots.skip(live.job.name, live.run.slot, ending.reason)
        return None

    def _finish(self, live: Live, ending: Ending) -> Report:
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
        say(report)
        self._watcher.finished(report)
        self._slots.say(run.job)
        return report

    def _elapsed(self, live: Live) -> float:
        return self._clock.monotonic() - live.began
