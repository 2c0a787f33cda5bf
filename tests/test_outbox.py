"""Deliveries: none is lost, none overtakes, whatever the sinks do."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from fetchd.body import Body
from fetchd.clock import FakeClock
from fetchd.errors import Reason, SinkError
from fetchd.job import Job
from fetchd.outbox import DRAIN_SPACING, LOOK_EVERY, Outbox
from fetchd.run import Delivery, Fetched, Progress
from fetchd.runner import Runner
from fetchd.store.memory import MemoryStore
from fetchd.targets import Target
from tests.fakes import FakeFetcher, FakeSink, fetched, targets
from tests.outboxes import DOWN, NOW, GatedSink, Room, TimedSink, events, room, run_of, runs, turns


class TestOutage:
    """A sink that is down for an hour while its job, and another one, go on."""

    async def test_nothing_is_lost_and_the_order_is_kept(self) -> None:
        """Until the backlog is full it fetches on, then it says that it does not; afterwards everything arrives.

        Once, in order, and not faster than the receiver may bear. The other job does not notice.
        """
        sink, other = TimedSink(), FakeSink()
        away = Room(targets({"rates": {"webhook": sink}, "other": {"file": other}}))
        sink.clock = away.clock
        count = 0

        async def number(_job: Job, _progress: Progress) -> Fetched:
            nonlocal count
            count += 1
            return fetched(str(count).encode())

        jobs = [
            Job.model_validate({"name": name, "url": "http://upstream.test/", "backlog": 100})
            for name in ("rates", "other")
        ]
        runner = Runner(FakeFetcher(number), away.outbox, away.store, away.clock, max_concurrent=2)
        with capture_logs() as lines:
            async with away.running():
                for _ in range(180):
                    for job in jobs:
                        await asyncio.create_task(runner.run(job, away.clock.now()))
                    assert away.outbox.open_lanes == 1
                    await away.time.pass_by(20.0)
                assert (len(sink.taken), len(other.taken)) == (0, 180)
                assert away.store.skipped == {("rates", Reason.BACKLOG): 80}
                assert sink.tries < 30
                sink.error = None
                await away.time.pass_by(300.0 + 100 * DRAIN_SPACING + 1)
        contents = [int(await delivery.fetched.body.read()) for delivery in sink.taken]
        assert len(contents) == 100
        assert contents == sorted(set(contents))
        assert min(later - earlier for earlier, later in pairwise(sink.times)) >= DRAIN_SPACING - 1e-6
        assert (away.store.owed, away.outbox.open_lanes) == ({}, 0)
        assert sum(line["count"] for line in events(lines, "slot_skipped")) >= 78
        assert len(events(lines, "delivery_recovered")) == 1

    async def test_the_tries_are_said_once_a_minute_at_most(self) -> None:
        """An hour of an outage is a few lines, and none is missing from their count."""
        sink = FakeSink(DOWN)
        away = room(webhook=sink)
        with capture_logs() as lines:
            async with away.running():
                await away.hand_over(1)
                await away.time.pass_by(3600.0)
        failed = events(lines, "delivery_failed")
        assert failed[0]["message"] == str(DOWN)
        assert {"job", "run", "sink", "delivery", "attempts", "owed", "next_try_s"} <= set(failed[0])
        assert len(failed) + sum(line["unsaid"] for line in failed) == sink.tries
        assert len(failed) < sink.tries
        assert len(failed) <= 61

    async def test_the_backoff_grows_to_its_limit(self) -> None:
        """A second at first, so that a restart of the receiver is hardly felt; five minutes in the end."""
        sink = TimedSink()
        tries: list[float] = []

        class Noting(FakeSink):
            async def deliver(self, delivery: Delivery) -> None:
                tries.append(away.clock.monotonic())
                raise DOWN

        away = room(webhook=Noting())
        sink.clock = away.clock
        async with away.running():
            await away.hand_over(1)
            await away.time.pass_by(3000.0)
        gaps = [round(later - earlier) for earlier, later in pairwise(tries)]
        assert gaps[:10] == [1, 2, 4, 8, 16, 32, 64, 128, 256, 300]
        assert set(gaps[10:]) == {300}

    async def test_hung_sinks_do_not_delay_the_others(self) -> None:
        """More lanes hang than there are places, and the one that works is served at once."""
        hung = {f"hung-{number}": {"webhook": FakeSink(hang=True)} for number in range(20)}
        good = FakeSink(DOWN)
        away = Room(targets({**hung, "good": {"file": good}}))
        for number, job in enumerate(hung):
            task = asyncio.create_task(away.hand_over(100 + number, job))
            await turns(5)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        await away.hand_over(1, "good")
        good.error = None
        async with away.running():
            await away.time.pass_by(5.0)
            assert runs(good) == ["00001"]
            await away.hand_over(2, "good")
            assert runs(good) == ["00001", "00002"]


class TestDeadLetters:
    """What is given up, why, and what it means for the others."""

    async def test_a_poison_delivery_does_not_stop_its_lane(self) -> None:
        """The receiver will never take it: it is kept aside, and the next ones come through at once."""

        class Picky(FakeSink):
            async def deliver(self, delivery: Delivery) -> None:
                if delivery.run == "00002":
                    raise SinkError("this will never do", permanent=True)
                await super().deliver(delivery)

        sink = Picky(DOWN)
        away = room(webhook=sink)
        for number in (1, 2, 3):
            await away.hand_over(number)
        sink.error = None
        with capture_logs() as lines:
            async with away.running():
                await away.time.pass_by(5.0)
        assert runs(sink) == ["00001", "00003"]
        assert [dead.error for dead in away.store.dead.values()] == ["this will never do"]
        (line,) = events(lines, "delivery_dead")
        assert (line["log_level"], line["why"], line["delivery"]) == ("error", "refused", "00002-webhook")

    async def test_a_poison_delivery_of_a_run_is_dead_at_once(self) -> None:
        """Waiting cannot help, so nothing is owed, and the Run says why."""
        away = room(webhook=FakeSink(SinkError("no", permanent=True)), file=FakeSink())
        assert await away.hand_over(1) == "webhook: no"
        assert list(away.store.dead) == ["00001-webhook"]
        assert list(away.store.owed) == ["00001-file"]

    @pytest.mark.parametrize(
        ("limits", "why", "attempts"), [({"max_attempts": 4}, "max_attempts", 4), ({"max_age": 100.0}, "max_age", 8)]
    )
    async def test_it_is_given_up_at_its_limits(self, limits: dict[str, Any], why: str, attempts: int) -> None:
        """Each has its own tries; with the sink still down, the next one has to wait its turn."""
        away = Room({"rates": {"webhook": Target(FakeSink(DOWN), 1.0, **limits)}})
        with capture_logs() as lines:
            async with away.running():
                await away.hand_over(1)
                await away.time.pass_by(200.0)
        (line,) = events(lines, "delivery_dead")
        assert (line["why"], line["attempts"]) == (why, attempts)
        assert list(away.store.dead) == ["00001-webhook"]

    async def test_after_a_dead_letter_of_a_sink_that_is_down_the_backoff_goes_on(self) -> None:
        """A backlog that has grown too old must not be thrown at the receiver, and away, in one go."""
        sink = FakeSink(DOWN)
        away = Room({"rates": {"webhook": Target(sink, 1.0, max_age=10.0)}})
        async with away.running():
            for number in range(20):
                await away.hand_over(number)
            await away.time.pass_by(300.0)
        assert sink.tries < 12

    async def test_a_body_that_has_vanished(self, tmp_path: Path) -> None:
        """Nothing is left to be delivered: that is said, and the lane goes on."""
        path = tmp_path / "body"
        path.write_bytes(b"x")
        content = fetched()
        gone = Fetched(200, "", "", {}, Body(path, size=1, sha256="1"))
        sink = FakeSink(DOWN)
        away = room(webhook=sink)
        await away.hand_over(1, content=gone)
        await away.hand_over(2, content=content)
        path.unlink()
        sink.error = None
        async with away.running():
            async with asyncio.timeout(5):
                while not away.store.dead:  # a thread looks for the file
                    await away.time.pass_by(1.0)
            await away.time.pass_by(1.0)
        assert runs(sink) == ["00002"]
        assert f"its body is gone: there is no {path}" in away.store.dead["00001-webhook"].error

    async def test_a_sink_that_is_configured_no_more(self) -> None:
        """It may have been taken out by mistake: a day is left to put it back, then what it is owed is dead."""
        first = room(webhook=FakeSink(DOWN))
        await first.hand_over(1)
        second = Room({}, first.store, now=NOW + timedelta(hours=23, minutes=50))
        await second.outbox.load()
        async with second.running():
            await second.time.pass_by(500.0)
            assert list(second.store.owed) == ["00001-webhook"]
            await second.time.pass_by(500.0)
        assert "no such sink any more" in second.store.dead["00001-webhook"].error


class TestRuns:
    """The first try, within the Run."""

    async def test_older_deliveries_are_not_overtaken(self) -> None:
        """The Run says so, leaves its own behind them, and the one after the last of them is tried inline again."""
        sink = FakeSink(DOWN)
        away = room(webhook=sink)
        assert await away.hand_over(1) == f"webhook: {DOWN}"
        sink.error = None
        assert await away.hand_over(2) == "webhook: queued behind older deliveries, 1 of them"
        assert await away.hand_over(3) == "webhook: queued behind older deliveries, 2 of them"
        async with away.running():
            await away.time.pass_by(5.0)
        assert await away.hand_over(4) == ""
        assert runs(sink) == ["00001", "00002", "00003", "00004"]
        assert [delivery.attempt for delivery in sink.taken] == [2, 1, 1, 1]

    @pytest.mark.parametrize("error", [None, DOWN])
    async def test_what_the_outbox_has_tried_meanwhile_is_not_tried_as_if_it_had_not(
        self, error: SinkError | None
    ) -> None:
        """Its lane was in other hands when it was kept, and they got to its end while an earlier sink took its time."""
        first, second = GatedSink(), GatedSink()
        first.opened.set()
        second.opened.set()
        away = room(first=first, second=second)
        second.error = DOWN
        assert await away.hand_over(1) == f"second: {DOWN}"
        second.error = None
        second.opened.clear()
        async with away.running():
            await away.time.pass_by(2.0)  # the outbox tries the first result again, which takes its time
            first.opened.clear()
            task = asyncio.create_task(away.hand_over(2))
            await turns(10)
            second.opened.set()
            await turns(10)
            second.error = error
            await away.time.pass_by(2 * DRAIN_SPACING)
            assert second.tries == 3
            second.error = None
            first.opened.set()
            assert await task == ""
        assert [(delivery.run, delivery.attempt) for delivery in second.taken] == [
            ("00001", 2),
            ("00002", 2 if error else 1),
        ]
        assert (away.store.owed, away.outbox.open_lanes) == ({}, 0)

    async def test_the_first_failure_ends_the_tries_of_the_run(self) -> None:
        """What comes after it is owed, and tried by the outbox without waiting for a backoff."""
        bad, after = FakeSink(DOWN), FakeSink()
        away = room(bad=bad, after=after)
        assert await away.hand_over(1) == f"bad: {DOWN}"
        assert not after.taken
        async with away.running():
            await away.time.pass_by(0.1)
        assert runs(after) == ["00001"]
        assert list(away.store.owed) == ["00001-bad"]

    async def test_one_that_is_cut_off_stays_owed(self) -> None:
        """The Run's deadline passes within a sink: the try counts, and the next one is the outbox's."""
        sink = FakeSink(hang=True)
        away = room(webhook=sink)
        progress = Progress()
        task = asyncio.create_task(away.outbox.hand_over(run_of(1), fetched(), progress))
        await turns(10)
        assert progress.phase == "deliver:webhook"
        task.cancel()
        assert isinstance((await asyncio.gather(task, return_exceptions=True))[0], asyncio.CancelledError)
        assert away.store.owed["00001-webhook"].attempts == 1
        sink.hang = False
        async with away.running():
            await away.time.pass_by(3.0)
        assert [delivery.attempt for delivery in sink.taken] == [2]

    async def test_a_defect_of_a_sink_is_no_reason_to_lose_its_delivery(self) -> None:
        """The error is the Run's, the delivery is owed, and the defect is logged when the outbox meets it too."""
        sink = FakeSink(ZeroDivisionError("boom"))
        away = room(webhook=sink)
        with pytest.raises(ZeroDivisionError):
            await away.outbox.hand_over(run_of(1), fetched(), Progress())
        with capture_logs() as lines:
            async with away.running():
                await away.time.pass_by(1.5)
                sink.error = None
                await away.time.pass_by(5.0)
        assert events(lines, "internal_error")
        assert runs(sink) == ["00001"]

    async def test_validators_alone(self) -> None:
        """The same content under a new ETag: the next fetch asks with it, and no sink is bothered."""
        sink = FakeSink()
        away = room(webhook=sink)
        await away.outbox.hand_over(run_of(1), fetched(etag='"2"'), Progress(), new=False)
        assert away.store.recall("rates").validators.etag == '"2"'
        assert not sink.tries


async def test_what_is_owed_can_be_tried_at_once() -> None:
    """A single Run from the command line has no outbox that would come back to it."""
    sink, bad = FakeSink(DOWN), FakeSink(DOWN)
    away = room(webhook=sink, bad=bad)
    for number in (1, 2, 3):
        await away.hand_over(number)
    sink.error = None
    await away.outbox.flush("rates")
    assert runs(sink) == ["00001", "00002", "00003"]
    assert (bad.tries, len(away.store.owed)) == (1, 3)
    await away.outbox.flush("rates")
    assert bad.tries == 2
    assert away.outbox.open_lanes == 1


async def test_a_replay_is_noticed() -> None:
    """Another process has made it owed again; nobody tells the daemon."""
    sink = FakeSink(SinkError("no", permanent=True))
    away = room(webhook=sink)
    await away.hand_over(1)
    sink.error = None
    async with away.running():
        await away.time.pass_by(10.0)
        letter = away.store.dead.pop("00001-webhook")
        away.store.owed["00001-webhook"] = letter
        await away.time.pass_by(LOOK_EVERY + 0.1)
    assert [delivery.attempt for delivery in sink.taken] == [2]


async def test_an_outbox_with_nothing_to_do_hardly_turns() -> None:
    """It looks into the store now and then, and sleeps in between."""
    waits = 0
    clock = FakeClock(NOW)

    async def wait(_event: asyncio.Event, seconds: float) -> None:
        nonlocal waits
        waits += 1
        clock.advance(seconds)
        if clock.now() > NOW + timedelta(minutes=1):
            raise asyncio.CancelledError

    outbox = Outbox(MemoryStore(), {}, clock, wait=wait)
    with pytest.raises(asyncio.CancelledError):
        await outbox.run()
    assert waits <= 60 / LOOK_EVERY + 2
