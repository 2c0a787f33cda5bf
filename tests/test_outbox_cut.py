"""Deliveries where something is cut off: by a full disk, a cancellation, a stop, a sink that ignores its end."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from fetchd.body import Body
from fetchd.clock import SystemClock
from fetchd.errors import SinkError
from fetchd.lanes import PLACES
from fetchd.outbox import LOOK_EVERY, Outbox
from fetchd.run import Delivery, Fetched, Progress
from fetchd.store import Owed
from fetchd.store.memory import MemoryStore
from fetchd.store.sqlite import open_sqlite_store
from fetchd.watch import Result, Unwatched
from tests.fakes import FailingStore, FakeSink, fetched, targets
from tests.outboxes import DOWN, AloneSink, Room, events, room, run_of, runs, turns
from tests.processes import until


class TestFullDisk:
    """The store cannot keep what was fetched."""

    async def test_it_is_delivered_all_the_same(self) -> None:
        """To every sink, from memory; but what is remembered of the job does not run ahead."""
        first, second = FakeSink(), FakeSink()
        store = FailingStore()
        away = room(store, first=first, second=second)
        await away.hand_over(1, content=fetched(b"1", '"1"'))
        store.full = True
        body = fetched(b"2", '"2"')
        assert await away.hand_over(2, content=body) == ""
        assert runs(first) == runs(second) == ["00001", "00002"]
        assert store.recall("rates").validators.etag == '"1"'
        assert not away.outbox.kept("rates")
        with pytest.raises(RuntimeError, match="closed"):
            body.body.open()
        store.full = False
        await away.hand_over(3)
        assert away.outbox.kept("rates")

    async def test_what_is_lost_is_said(self) -> None:
        """Every sink is tried, for nobody will try again; the Run names those that have lost it."""
        good = FakeSink()
        store = FailingStore()
        away = room(store, bad=FakeSink(DOWN), good=good)
        store.full = True
        said = await away.hand_over(1)
        assert said == f"bad: {DOWN}; the result is lost, for it could not be kept: the disk is full"
        assert runs(good) == ["00001"]
        assert not store.owed

    async def test_whoever_watches_is_told(self) -> None:
        """There can be no dead letter of what is lost: metrics, page and people must learn of it all the same."""
        told: list[tuple[str, Result, str]] = []

        class Noting(Unwatched):
            def tried(self, delivery: Delivery, result: Result, error: str) -> None:
                told.append((delivery.sink, result, error))

        store = FailingStore()
        store.full = True
        sinks = targets({"rates": {"bad": FakeSink(DOWN), "good": FakeSink()}})
        outbox = Outbox(store, sinks, SystemClock(), watcher=Noting())
        with pytest.raises(SinkError, match="the result is lost"):
            await outbox.hand_over(run_of(1), fetched(), Progress())
        assert told == [("bad", Result.DEAD, str(DOWN)), ("good", Result.DELIVERED, "")]

    async def test_older_deliveries_still_come_first(self) -> None:
        """An older result that arrives after a newer one would put the wrong one in its place."""
        sink = FakeSink(DOWN)
        store = FailingStore()
        away = room(store, webhook=sink)
        await away.hand_over(1)
        store.full, sink.error = True, None
        assert "older deliveries come first" in await away.hand_over(2)
        assert not sink.taken

    async def test_it_goes_on_when_there_is_room_again(self) -> None:
        """A store that cannot be read is asked again, without a try being counted."""
        sink = FakeSink(DOWN)
        store = FailingStore()
        away = room(store, webhook=sink)
        await away.hand_over(1)
        sink.error = None
        store.full = True
        async with away.running():
            await away.time.pass_by(60.0)
            assert sink.tries == 1
            store.full = False
            await away.time.pass_by(2 * LOOK_EVERY)
        assert [delivery.attempt for delivery in sink.taken] == [2]

    async def test_a_delivery_that_cannot_be_read_does_not_keep_the_loop_busy(self) -> None:
        """A defect, or a row that is damaged: logged with its traceback, now and then."""

        class Damaged(MemoryStore):
            async def first_owed(self, job: str, sink: str) -> Owed | None:
                raise ValueError("no JSON")

        away = room(Damaged(), webhook=FakeSink(DOWN))
        await away.hand_over(1)
        with capture_logs() as lines:
            async with away.running():
                await away.time.pass_by(1000.0)
        assert 1 <= len(events(lines, "internal_error")) <= 5

    async def test_a_body_that_went_with_the_attempt(self, tmp_path: Path) -> None:
        """The disk that is full held it: there is nothing to hand over, and no sink sees an empty file."""
        sink = FakeSink()
        store = FailingStore()
        store.full = True
        away = room(store, webhook=sink)
        gone = Fetched(200, "", "", {}, Body(tmp_path / "gone", size=1, sha256="1"))
        assert "its body went with the attempt to keep it" in await away.hand_over(1, content=gone)
        assert not sink.tries


class TestStop:
    """Wherever it is cut off, what is owed stays owed."""

    async def test_tries_under_way_get_the_grace(self) -> None:
        """What ends in time is made."""
        release = asyncio.Event()

        class Slow(FakeSink):
            async def deliver(self, delivery: Delivery) -> None:
                if self.error is None:
                    self.tries += 1
                    await release.wait()
                await super().deliver(delivery)

        sink = Slow(DOWN)
        away = room(webhook=sink)
        await away.hand_over(1)
        sink.error = None
        async with away.running():
            await away.time.pass_by(2.0)
            drain = asyncio.create_task(away.outbox.drain(5.0))
            await turns(5)
            release.set()
            await drain
        assert runs(sink) == ["00001"]

    async def test_after_it_no_try_begins(self) -> None:
        """The sinks are closed next."""
        sink = FakeSink(DOWN)
        away = room(webhook=sink)
        await away.hand_over(1)
        async with away.running():
            await away.outbox.drain(0.0)
            await away.time.pass_by(100.0)
            assert sink.tries == 1

    @pytest.mark.parametrize("steps", range(14))
    async def test_a_run_cancelled_at_any_step(self, steps: int) -> None:
        """Either nothing was kept and the body is closed, or it reaches every sink, one try at a time."""
        sinks = {name: AloneSink(random.Random(steps)) for name in ("first", "second")}
        away = room(**sinks)
        content = fetched()
        task = asyncio.create_task(away.outbox.hand_over(run_of(1), content, Progress()))
        await turns(steps)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        async with away.running():
            await away.time.pass_by(300.0)
        taken = [runs(sink) for sink in sinks.values()]
        assert taken in ([["00001"], ["00001"]], [[], []])
        assert (taken == [[], []]) == (steps == 0)
        if steps:
            with pytest.raises(RuntimeError, match="closed"):
                content.body.open()
        assert not away.store.owed
        assert away.outbox.open_lanes == 0

    @pytest.mark.parametrize("steps", range(0, 60, 3))
    async def test_a_stop_at_any_step(self, steps: int) -> None:
        """The next start finds what the last one has not made; what it may have tried says so."""
        chance = random.Random(steps)
        sink = AloneSink(chance)
        store = MemoryStore()
        for _ in range(3):
            away = room(store, webhook=sink)
            await away.outbox.load()
            kept = len(store.owed) + len(sink.taken)
            await away.hand_over(kept + 1)
            task = asyncio.create_task(away.outbox.run())
            passing = asyncio.create_task(away.time.pass_by(1e6))
            await turns(steps)
            passing.cancel()
            await away.outbox.drain(0.0)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        last = room(store, webhook=sink)
        async with last.running():
            await last.time.pass_by(300.0)
        assert list(dict.fromkeys(runs(sink))) == ["00001", "00002", "00003"]
        assert not store.owed

    async def test_a_sink_that_ignores_its_end_keeps_its_lane_only(self) -> None:
        """It is never tried a second time beside itself; others have its place; and if it ends well, that counts."""
        release = asyncio.Event()

        class Stubborn(FakeSink):
            alive = 0

            async def deliver(self, delivery: Delivery) -> None:
                if self.error is None:
                    self.alive += 1
                    assert self.alive == 1
                    while not release.is_set():
                        try:
                            await release.wait()
                        except asyncio.CancelledError:
                            continue
                    self.alive -= 1
                await super().deliver(delivery)

        stubborn = {f"job-{number}": Stubborn(DOWN) for number in range(PLACES[0] + 1)}
        other = FakeSink(DOWN)
        sinks = {job: {"function": sink} for job, sink in stubborn.items()} | {"other": {"function": other}}
        away = Room(targets(sinks, deadline=0.02))
        for number, job in enumerate(sinks):
            await away.hand_over(number, job)
        for sink in (*stubborn.values(), other):
            sink.error = None
        with capture_logs() as lines:
            async with away.running():
                async with asyncio.timeout(5):
                    while len(events(lines, "delivery_stuck")) <= PLACES[0]:
                        await away.time.pass_by(1.0)
                assert len(other.taken) == 1
                assert "queued behind" in await away.hand_over(99, "job-0")
                release.set()
                await away.time.pass_by(10.0)
        assert runs(stubborn["job-0"]) == ["00000", "00099"]

    async def test_a_sink_that_hangs_is_cut_off_at_its_own_deadline(self) -> None:
        """And tried again: what hangs today may answer tomorrow."""
        sink = FakeSink(DOWN)
        away = Room(targets({"rates": {"webhook": sink}}, deadline=0.02))
        await away.hand_over(1)
        sink.error, sink.hang = None, True
        async with away.running():
            async with asyncio.timeout(5):
                while "not taken within 0.02 s" not in away.store.owed["00001-webhook"].error:
                    await away.time.pass_by(1.0)
            sink.hang = False
            await away.time.pass_by(10.0)
        assert runs(sink) == ["00001"]


async def test_the_backoff_outlives_the_process() -> None:
    """A receiver that has been down for hours is not asked each second because a daemon was restarted."""
    sink = FakeSink(DOWN)
    before = room(webhook=sink)
    async with before.running():
        await before.hand_over(1)
        await before.time.pass_by(600.0)
    tries = sink.tries
    assert tries == 10
    after = Room(targets({"rates": {"webhook": sink}}), before.store, now=before.clock.now())
    async with after.running():
        await after.time.pass_by(600.0)
    assert sink.tries <= tries + 2


@pytest.mark.parametrize("seed", range(8))
async def test_runs_and_the_outbox_share_a_lane(seed: int) -> None:
    """Both at once, at random, with sinks that fail at random: in order, each once, never two tries at one time."""
    chance = random.Random(seed)
    sinks = {name: AloneSink(chance, fails=0.1, turns=40) for name in ("first", "second")}
    away = Room(targets({"rates": sinks}), jitter=0.01)
    ended: Counter[bool] = Counter()
    async with away.running():
        for number in range(60):
            await away.outbox.until_kept("rates")  # as a Run does
            run = asyncio.create_task(away.hand_over(number))
            if chance.random() < 0.1:
                await turns(chance.randrange(1, 40))
                run.cancel()
            (said,) = await asyncio.gather(run, return_exceptions=True)
            ended[said == ""] += 1
            await away.time.pass_by(chance.choice([0.0, 0.01, 0.05, 0.5]))
        await away.time.pass_by(600.0)
    assert min(ended[True], ended[False]) > 3
    for sink in sinks.values():
        assert runs(sink) == [f"{number:05}" for number in range(60)]
    assert not away.store.owed


async def test_what_is_owed_survives_the_process(tmp_path: Path) -> None:
    """With the real store: small and large bodies, in order, each saying that it may have been tried before."""
    large = b"x" * 200_000
    sink = FakeSink(DOWN)
    async with open_sqlite_store(tmp_path) as store:
        outbox = Outbox(store, targets({"rates": {"webhook": sink}}), SystemClock())
        await outbox.load()
        for number, content in enumerate([b"small", large]):
            with pytest.raises(SinkError):
                await outbox.hand_over(run_of(number), fetched(content), Progress())
    contents: list[bytes] = []

    class Reading(FakeSink):
        async def deliver(self, delivery: Delivery) -> None:
            contents.append(await delivery.fetched.body.read())
            await super().deliver(delivery)

    back = Reading()
    async with open_sqlite_store(tmp_path) as store:
        outbox = Outbox(store, targets({"rates": {"webhook": back}}), SystemClock(), jitter=lambda: 0.0)
        await outbox.load()
        assert outbox.open_lanes == 1
        task = asyncio.create_task(outbox.run())
        await until(lambda: not outbox.open_lanes)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert contents == [b"small", large]
    assert [delivery.attempt for delivery in back.taken] == [2, 2]
    async with open_sqlite_store(tmp_path) as store:
        assert (await store.lanes(), store.recall("rates").owed) == ([], 0)
        assert not list((tmp_path / "bodies").iterdir())
