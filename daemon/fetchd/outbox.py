"""Deliveries: each kept before any sink sees it, tried once by its Run, then again until it is made or given up."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable, Container, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from typing import Final

import structlog

from fetchd.clock import Clock
from fetchd.commits import Commits
from fetchd.errors import SinkError, StoreError
from fetchd.lanes import Lanes, OpenLane
from fetchd.run import Delivery, Fetched, Progress, Run, deliveries_of
from fetchd.shorten import shortened
from fetchd.store import Owed, Store
from fetchd.targets import ABSENT, Sinks
from fetchd.tries import Try, Unkept, is_gone, which, why_dead
from fetchd.watch import Result, Unwatched, Watcher

log = structlog.get_logger()

BACKOFF_FIRST: Final = 1.0
BACKOFF_LONGEST: Final = 300.0
DRAIN_SPACING: Final = 0.02
"""Seconds from one delivery of a lane to the next: a receiver that is back shall not be run over."""
LOOK_EVERY: Final = 2.0
"""Seconds between two looks into the store, for what others have put there, such as a replay."""
SAID_EVERY: Final = 60.0
GIVE_UP_AFTER: Final = 0.5
"""Seconds that a sink has to end once its try was cut off."""
LONGEST_ERROR: Final = 1000


Wait = Callable[[asyncio.Event, float], Awaitable[None]]
"""Waits until the event is set, or for so many seconds."""


async def wait_for(event: asyncio.Event, seconds: float) -> None:
    """Wait until ``event`` is set, at most for ``seconds``."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()


class Outbox:
    """Hands results over to their sinks: in order in each lane, the lanes apart from one another."""

    def __init__(
        self,
        store: Store,
        sinks: Sinks,
        clock: Clock,
        *,
        jitter: Callable[[], float] = random.random,
        wait: Wait = wait_for,
        watcher: Watcher | None = None,
    ) -> None:
        self._store = store
        self._sinks = sinks
        self._clock = clock
        self._jitter = jitter
        self._wait = wait
        self._watcher = watcher or Unwatched()
        self._lanes = Lanes()
        self._commits = Commits(store, self._lanes, clock)
        self._changed = asyncio.Event()
        self._tries: set[asyncio.Task[None]] = set()
        self._paused = False

    @property
    def open_lanes(self) -> int:
        """How many lanes are owed something, or are being tried."""
        return len(self._lanes)

    def kept(self, job: str) -> bool:
        """Return whether the last result of ``job`` could be kept: if not, nothing can be told from what is."""
        return self._commits.kept(job)

    async def until_kept(self, job: str) -> None:
        """Wait for a result of ``job`` that its Run was cut off from: the next Run is to know what it has brought."""
        await self._commits.until_kept(job)

    def owed(self, job: str, sink: str) -> int:
        """Return how many deliveries a sink is owed."""
        return self._lanes.count(job, sink)

    async def hand_over(self, run: Run, fetched: Fetched, progress: Progress, *, new: bool = True) -> None:
        """Keep the result with its deliveries, then try each sink in order, until one does not take it.

        What is not made then stays owed, also where this is cancelled. ``fetched`` is closed here. One that is not
        ``new`` goes to no sink: its validators alone are kept.

        Raises:
            SinkError: a sink did not take its delivery, or is owed older ones, or the result could not be kept and
                not be delivered either.
        """
        progress.phase = "commit"
        names = tuple(self._sinks.get(run.job, {})) if new else ()
        now = self._clock.monotonic()
        held = {name: lane for name in names if (lane := self._lanes.hold(run.job, name, now)) is not None}
        commit = self._commits.begin(run, fetched, names)
        try:
            deliveries = await asyncio.shield(commit)
        except StoreError as error:
            await self._from_memory(Unkept(fetched, deliveries_of(run, fetched, names), held, error), progress)
            return
        except BaseException:
            commit.add_done_callback(partial(self._left_alone, fetched, held.values()))
            raise
        try:
            await self._first_tries(deliveries, held, progress)
        finally:
            self._release(held.values())

    async def load(self) -> None:
        """Learn what is owed; to be called before the first Run, which must not overtake it."""
        mark = self._lanes.mark()
        try:
            found = await self._store.lanes()
        except StoreError:
            return  # the store says so itself, and is asked again
        self._lanes.reconcile(found, mark, self._due_of)

    async def run(self) -> None:
        """Try what is owed whenever it is due, until cancelled."""
        look_at = self._clock.monotonic()
        while True:
            self._changed.clear()
            if self._clock.monotonic() >= look_at:
                await self.load()
                look_at = self._clock.monotonic() + LOOK_EVERY
            now = self._clock.monotonic()
            if not self._paused:
                for lane in self._lanes.take_due(now):
                    self._start(lane)
            wake = None if self._paused else self._lanes.wake()
            await self._wait(self._changed, max(0.0, min(look_at, look_at if wake is None else wake) - now))

    async def flush(self, job: str) -> None:
        """Try now what ``job`` is owed, in order, until a sink does not take it; for where nobody else does."""
        for sink in self._sinks.get(job, {}):
            owed = self._lanes.count(job, sink)
            while owed and (lane := self._lanes.hold(job, sink, self._clock.monotonic(), owing=owed)) is not None:
                await self._serve(lane)
                before, owed = owed, lane.count
                if owed >= before:
                    break

    def hurry(self, jobs: Container[str]) -> None:
        """Try now what ``jobs`` are owed: their sinks are others by now, so that earlier failures say nothing."""
        self._lanes.hurry(jobs, self._clock.monotonic())
        self._changed.set()

    def pause(self) -> None:
        """Begin no further tries; those of Runs go on."""
        self._paused = True

    async def drain(self, grace: float) -> None:
        """Let the tries under way end by themselves for ``grace`` seconds, then cut them off: they stay owed."""
        self.pause()
        if self._tries:
            await asyncio.wait(self._tries, timeout=grace)
        for task in self._tries:
            task.cancel()
        if left := {*self._tries, *self._commits.under_way}:
            await asyncio.wait(left, timeout=2 * GIVE_UP_AFTER)

    def _left_alone(self, fetched: Fetched, held: Iterable[OpenLane], commit: asyncio.Task[Sequence[Delivery]]) -> None:
        """Go on from a commit that its Run has not waited for."""
        if commit.cancelled() or commit.exception() is not None:
            fetched.body.close()
        self._release(held)

    async def _first_tries(self, deliveries: Iterable[Delivery], held: dict[str, OpenLane], progress: Progress) -> None:
        for delivery in deliveries:
            progress.phase = f"deliver:{delivery.sink}"
            if (lane := held.get(delivery.sink)) is not None:
                target = self._sinks[delivery.job][delivery.sink]
                await self._first_try(Try(lane, delivery, 1, self._clock.now(), target))
            elif (next_one := await self._behind_others(delivery, held)) is not None:
                await self._first_try(next_one)

    async def _behind_others(self, delivery: Delivery, held: dict[str, OpenLane]) -> Try | None:
        """Take the lane, which was in other hands when ``delivery`` was kept; return None if those have made it since.

        Raises:
            SinkError: older deliveries are still owed, or nothing can be read of what is.
        """
        job, sink = delivery.job, delivery.sink
        lane = self._lanes.hold(job, sink, self._clock.monotonic(), owing=1)
        if lane is not None:
            held[sink] = lane
            try:
                owed = await self._store.first_owed(job, sink)
            except StoreError as error:
                raise SinkError(f"{sink}: {error}") from None
            if owed is None:
                self._lanes.empty(lane)
                return None
            if owed.delivery.id == delivery.id:
                number = owed.attempts + 1
                return Try(lane, replace(delivery, attempt=number), number, owed.since, self._sinks[job][sink])
        older = max(1, self._lanes.count(job, sink) - 1)
        raise SinkError(f"{sink}: queued behind older deliveries, {older} of them")

    async def _first_try(self, first: Try) -> None:
        """Try within the caller's own deadline."""
        sink = first.delivery.sink
        try:
            await first.target.sink.deliver(first.delivery)
        except SinkError as error:
            self._failed(first, error)
            raise SinkError(f"{sink}: {error}", permanent=error.permanent) from None
        except asyncio.CancelledError:
            self._cut_off(first, "the try was cut off")
            raise
        except Exception as error:
            self._failed(first, SinkError(f"{type(error).__name__}: {error}"))
            raise
        self._made(first)

    async def _from_memory(self, unkept: Unkept, progress: Progress) -> None:
        """Try every sink with a result that could not be kept: what one does not take now, it never gets."""
        lost: list[str] = []
        try:
            for delivery in unkept.deliveries:
                progress.phase = f"deliver:{delivery.sink}"
                try:
                    await self._try_unkept(delivery, unkept.held)
                except SinkError as error:
                    lost.append(f"{delivery.sink}: {error}")
        finally:
            unkept.fetched.body.close()
            self._release(unkept.held.values())
        if lost:
            raise SinkError(f"{'; '.join(lost)}; the result is lost, for it could not be kept: {unkept.error}")

    async def _try_unkept(self, delivery: Delivery, held: Mapping[str, OpenLane]) -> None:
        """Try once, and tell of it: what is not taken now is given up, and no dead letter can be kept of it."""
        try:
            if delivery.sink not in held:
                raise SinkError("older deliveries come first")
            if await is_gone(delivery):
                raise SinkError("its body went with the attempt to keep it")
            await self._sinks[delivery.job][delivery.sink].sink.deliver(delivery)
        except BaseException as error:
            text = str(error) or "the try was cut off"
            self._watcher.tried(delivery, Result.DEAD, shortened(text, LONGEST_ERROR))
            raise
        self._watcher.tried(delivery, Result.DELIVERED, "")

    def _start(self, lane: OpenLane) -> None:
        task = asyncio.create_task(self._serve(lane), name=f"deliver {lane.job} {lane.sink}")
        self._tries.add(task)
        task.add_done_callback(self._tries.discard)

    async def _serve(self, lane: OpenLane) -> None:
        """Try the first delivery that the lane is owed."""
        trying: asyncio.Task[None] | None = None
        try:
            owed = await self._store.first_owed(lane.job, lane.sink)
            if owed is None:
                self._lanes.empty(lane)
            elif (next_one := await self._prepared(lane, owed)) is not None:
                trying = asyncio.create_task(next_one.target.sink.deliver(next_one.delivery))
                trying.add_done_callback(partial(self._ended, next_one))
                await self._within(next_one, trying)
        except StoreError:
            lane.due = self._clock.monotonic() + LOOK_EVERY  # the store says so itself
        except Exception:
            log.exception("internal_error", job=lane.job, sink=lane.sink)
            lane.due = self._clock.monotonic() + BACKOFF_LONGEST
        finally:
            self._lanes.give_place_back(lane)
            if trying is None:
                self._release([lane])
            self._changed.set()

    async def _prepared(self, lane: OpenLane, owed: Owed) -> Try | None:
        """Return the try that comes next; None if the delivery cannot be made any more."""
        lane.failures = max(lane.failures, owed.attempts)
        number = owed.attempts + 1
        lane.hung = False
        delivery = replace(owed.delivery, attempt=number if lane.knows(owed.delivery.run) else max(number, 2))
        target = self._sinks.get(lane.job, {}).get(lane.sink, ABSENT)
        next_one = Try(lane, delivery, number, owed.since, target)
        if not await is_gone(delivery):
            return next_one
        self._failed(next_one, SinkError(f"its body is gone: there is no {delivery.fetched.body.path}", permanent=True))
        return None

    async def _within(self, one: Try, trying: asyncio.Task[None]) -> None:
        """Wait for the end of a try; cut it off at its deadline, or when this is cancelled.

        Code that ignores that keeps its lane, but not its place among the tries.
        """
        try:
            await asyncio.wait({trying}, timeout=one.target.deadline)
        finally:
            if not trying.done():
                trying.cancel()
                await asyncio.wait({trying}, timeout=GIVE_UP_AFTER)
                if not trying.done():
                    log.error("delivery_stuck", **which(one.delivery), deadline_s=one.target.deadline)

    def _ended(self, one: Try, trying: asyncio.Task[None]) -> None:
        """Turn the end of a try, however late it comes, into what is owed from here on."""
        error = None if trying.cancelled() else trying.exception()
        if trying.cancelled():
            late = f"it was not taken within {one.target.deadline:g} s"
            self._cut_off(one, "the try was cut off" if self._paused else late)
        elif error is None:
            self._made(one)
        elif isinstance(error, SinkError):
            self._failed(one, error)
        else:
            log.error("internal_error", **which(one.delivery), exc_info=error)
            self._failed(one, SinkError(f"{type(error).__name__}: {error}"))
        self._release([one.lane])

    def _made(self, one: Try) -> None:
        lane = one.lane
        self._store.delivered(one.delivery)
        self._watcher.tried(one.delivery, Result.DELIVERED, "")
        self._lanes.settle(lane, one.delivery)
        if lane.said:
            log.info("delivery_recovered", **which(one.delivery), attempts=one.number, owed=lane.count)
        lane.failures, lane.said = 0, False
        lane.due = self._clock.monotonic() + DRAIN_SPACING

    def _cut_off(self, one: Try, message: str) -> None:
        one.lane.hung = True
        self._failed(one, SinkError(message))

    def _failed(self, one: Try, error: SinkError) -> None:
        """Note that a try failed: the delivery is owed again, or dead."""
        lane, text = one.lane, shortened(str(error), LONGEST_ERROR)
        lane.failures = 0 if error.permanent else lane.failures + 1
        delay = self._backoff(lane.failures) if lane.failures else DRAIN_SPACING
        lane.due = self._clock.monotonic() + delay
        why = why_dead(one, error, self._clock.now())
        self._watcher.tried(one.delivery, Result.FAILED if why is None else Result.DEAD, text)
        if why is None:
            next_try = self._clock.now() + timedelta(seconds=delay)
            self._store.postponed(one.delivery, one.number, next_try, text)
            self._say_failed(one, text, delay)
            return
        self._store.buried(one.delivery, one.number, text)
        self._lanes.settle(lane, one.delivery)
        log.error("delivery_dead", **which(one.delivery), attempts=one.number, why=why, message=text)

    def _say_failed(self, one: Try, text: str, delay: float) -> None:
        """Log a failed try: at most one a minute for each lane, also where it fails and works by turns."""
        lane, now = one.lane, self._clock.monotonic()
        if now - lane.said_at < SAID_EVERY:
            lane.unsaid += 1
            return
        log.warning(
            "delivery_failed",
            **which(one.delivery),
            attempts=one.number,
            owed=lane.count,
            unsaid=lane.unsaid,
            next_try_s=round(delay, 3),
            message=text,
        )
        lane.said, lane.said_at, lane.unsaid = True, now, 0

    def _backoff(self, failures: int) -> float:
        """Return the seconds before the next try: exponential, with full jitter."""
        return min(BACKOFF_LONGEST, BACKOFF_FIRST * 2.0 ** min(failures - 1, 16)) * self._jitter()

    def _due_of(self, next_try: datetime) -> float:
        """Return when that is by the monotonic clock; the wall's may have been stepped since it was written down."""
        seconds = (next_try - self._clock.now()).total_seconds()
        return self._clock.monotonic() + min(max(seconds, 0.0), BACKOFF_LONGEST)

    def _release(self, lanes: Iterable[OpenLane]) -> None:
        for lane in lanes:
            self._lanes.release(lane)
        self._changed.set()
