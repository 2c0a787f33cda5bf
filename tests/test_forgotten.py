"""What a daemon must not keep: a thousand reloads, and what they have taken away, are to leave nothing behind."""

from __future__ import annotations

import asyncio
import gc
import threading
import tracemalloc
import weakref
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from socket import AF_UNIX, SOCK_DGRAM, socket

import pytest
from structlog.testing import capture_logs

from fetchd.clock import FakeClock
from fetchd.config import Config, Daemon, Host
from fetchd.config.source import Reading, Source
from fetchd.engine import open_engine
from fetchd.errors import Reason
from fetchd.fetch.turns import Turn
from fetchd.job import Job
from fetchd.metrics import Metrics
from fetchd.reload.apart import apart
from fetchd.reload.changes import Why
from fetchd.reload.force import Force
from fetchd.reload.reloader import Reloader
from fetchd.roster import Roster
from fetchd.scheduler import Scheduler
from fetchd.secret import Redactor
from fetchd.store.memory import MemoryStore
from fetchd.systemd import Notifier
from fetchd.watch import Result
from tests.test_metrics import SLOT, delivery
from tests.test_reload import TEXT, FakeTimetable
from tests.test_scheduler import Starts


def job(name: str = "rates", retries: int = 0) -> Job:
    """Return a job whose server is not there."""
    keys = {"name": name, "url": "http://127.0.0.1:1/", "interval": "1h", "retries": retries}
    return Job.model_validate({**keys, "respect_cache_control": True})


@pytest.mark.parametrize("goes", [True, False])
async def test_no_part_keeps_a_definition_that_is_not_in_force(tmp_path: Path, goes: bool) -> None:
    """Whether its job was removed or defined anew: with the definition its secrets would be kept for ever."""
    before, after = job(), job(retries=1)
    config = Config(path=tmp_path, daemon=Daemon(state_dir=tmp_path), jobs={})
    async with open_engine(config, MemoryStore()) as engine:
        engine.roster.put(engine.roster.open(before))
        with capture_logs() as lines:
            report = await asyncio.create_task(engine.runs.run(before, datetime.now(UTC)))
            assert report is not None
            assert report.reason is Reason.CONNECT
            engine.runner.skip(before, datetime.now(UTC))
            engine.runner.skip(before, datetime.now(UTC))
            if goes:
                engine.roster.retire(engine.roster.remove("rates"))
            elif (old := engine.roster.put(engine.roster.open(after))) is not None:
                engine.roster.retire(old)
                del old
            engine.forget(engine.roster.jobs)
        told = [line["count"] for line in lines if line["event"] == "slot_skipped"]
        assert told == ([1, 1] if goes else [1]), "what the log was not told of a removed job is told with its end"
        await asyncio.sleep(0.01)
        gone = weakref.ref(before)
        del before, report
        gc.collect()
        assert gone() is None


async def test_no_turn_is_kept_of_a_run_that_never_began(tmp_path: Path) -> None:
    """Its job was removed while it waited for a place; with each turn the host would be kept that nobody asks."""
    config = Config(
        path=tmp_path, daemon=Daemon(state_dir=tmp_path), hosts={"127.0.0.1": Host(max_concurrent=1)}, jobs={}
    )
    async with open_engine(config, MemoryStore()) as engine:
        turns = [engine.fetcher.turn(job(name)) for name in ("gone", "there")]
        assert None not in turns
        turns.clear()
        engine.forget({"there": job("there", retries=1)})
        gc.collect()
        assert sum(isinstance(one, Turn) for one in gc.get_objects()) == 1


def test_no_series_of_what_was_removed_comes_back() -> None:
    """A try or a slot may end after the job, and a sink may go while its job stays."""
    metrics = Metrics()
    with_sink = job().model_copy(update={"sinks": ()})
    metrics.replace([with_sink])
    metrics.tried(delivery(), Result.FAILED, "full")
    metrics.replace([with_sink])
    assert not metrics.deliveries, "its sink is there no more"
    metrics.replace([])
    metrics.tried(delivery(), Result.DELIVERED, "")
    metrics.skipped("rates", SLOT, Reason.OVERLAP)
    metrics.missed("rates", 2)
    assert not metrics.deliveries
    assert not metrics.skips
    assert not metrics.slots_missed


def test_earlier_patterns_of_secrets_are_not_kept() -> None:
    """The library keeps hundreds of the patterns that it was given; of a thousand secrets each is a quarter MiB."""
    always = [f"{number * 7919 % 1000:03}-{number:03}-canary-{number * 31:05}" for number in range(100)]
    redact = Redactor(always)
    redact.learn([*always, "rotated-first"])
    tracemalloc.start()
    try:
        for number in range(20):
            redact.learn([*always, f"rotated-{number}"])
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept < 200_000


async def test_a_job_that_is_removed_while_a_stepped_clock_is_followed_does_no_harm() -> None:
    """Many jobs are armed anew in several turns of the loop; between two of them a reload may take one away."""
    clock, starts, removed = FakeClock(datetime.now(UTC)), Starts(), asyncio.Event()

    def take_away() -> None:
        scheduler.remove(last)
        removed.set()

    def stepped() -> None:
        asyncio.get_running_loop().call_soon(take_away)

    scheduler = Scheduler(starts.start, starts.skip, clock, starts.miss, stepped)
    scheduler.start([job(f"job{number}") for number in range(150)])
    slots = scheduler.next_slots()
    last = max(slots, key=lambda name: slots[name])
    guard = asyncio.create_task(scheduler.guard())
    await asyncio.sleep(0)
    clock.step(3600.0)
    with capture_logs() as lines:
        async with asyncio.timeout(5):
            await removed.wait()
        for _ in range(5):
            await asyncio.sleep(0)
    assert not guard.done(), "the daemon would end"
    assert [line["event"] for line in lines] == ["clock_stepped"]
    guard.cancel()
    await asyncio.gather(guard, return_exceptions=True)
    await scheduler.close()


class SlowSource(Source):
    """A file that is being read until it is let go of."""

    entered = threading.Event()
    let_go = threading.Event()

    def read(self) -> Reading:
        """Read it, but for the first time only once that is wanted."""
        if self.seen is not None:
            self.entered.set()
            assert self.let_go.wait(5)
        return super().read()


async def test_a_stop_is_the_last_word_to_the_service_manager(tmp_path: Path) -> None:
    """A reload under way ends after it, and another one is asked for: READY would take the stop back."""
    path, address = tmp_path / "c.toml", str(tmp_path / "notify")
    path.write_text(f'{TEXT}[jobs.a]\nurl = "http://a.test/"\n')
    source = SlowSource(path, {}, Redactor().learn)
    reading = source.read()
    with socket(AF_UNIX, SOCK_DGRAM) as manager, closing(Notifier(address)) as notifier:
        manager.bind(address)
        manager.setblocking(False)
        force = Force(Roster(lambda _: {}), FakeTimetable(), lambda _: asyncio.sleep(0, []))
        reloader = Reloader(source, reading, force, notifier)
        with capture_logs():
            under_way = asyncio.create_task(reloader.reload(Why.SIGNAL))
            await asyncio.to_thread(source.entered.wait, 5)
            notifier.stopping()
            await reloader.close()
            source.let_go.set()
            assert (await under_way).error
            assert (await reloader.reload(Why.VERB)).error
        said = [manager.recv(1000).partition(b"=")[0] for _ in range(2)]
        assert said == [b"RELOADING", b"STOPPING"]
        with pytest.raises(BlockingIOError):
            manager.recv(1000)


async def test_what_is_done_apart_is_heard_of_and_can_be_left() -> None:
    """An error is its caller's; a caller that was cancelled does not wait for a module that hangs."""
    with pytest.raises(ZeroDivisionError):
        await apart(lambda: 1 // 0)
    assert await apart(lambda: "done") == "done"
    began, end = threading.Event(), threading.Event()

    def hang() -> None:
        began.set()
        end.wait(5)

    task = asyncio.create_task(apart(hang))
    await asyncio.to_thread(began.wait, 5)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    end.set()
    await asyncio.sleep(0.01)
