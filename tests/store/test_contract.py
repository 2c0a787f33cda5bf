"""What every store keeps to: the one in memory stands in for the others in tests, so it must be like them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from fetchd.body import Body, MemoryBudget
from fetchd.errors import Reason
from fetchd.run import Carried, Outcome, Run, Validators
from fetchd.store import Lane, Memory, Store
from fetchd.store.memory import MemoryStore
from fetchd.store.sqlite import open_sqlite_store
from tests.store.made import NOW, a_report, a_result, a_run, committed, settled

Open = Callable[[], AbstractAsyncContextManager[Store]]


@pytest.fixture(params=["memory", "sqlite"])
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Open:
    """Return what opens a store that keeps ten reports of each job and five failures."""

    @asynccontextmanager
    async def in_memory() -> AsyncIterator[Store]:
        store = MemoryStore(history=10, failures=5)
        yield store
        await store.aclose()

    if request.param == "memory":
        return in_memory
    return lambda: open_sqlite_store(tmp_path, history=10, failures=5, inline_up_to=1000)


async def test_of_a_new_job_nothing_is_remembered(opened: Open) -> None:
    """The first Run of a job finds the same as any other: a memory, but an empty one."""
    async with opened() as store:
        assert store.recall("rates") == Memory()
        assert await store.lanes() == []
        assert await store.first_owed("rates", "file") is None
        assert await store.history("rates", 10) == []


async def test_a_slot_is_claimed_once(opened: Open) -> None:
    """A slot that was taken before a restart is not taken again; the next one is free."""
    async with opened() as store:
        assert await store.claim(a_run(1))
        assert not await store.claim(replace(a_run(1), id="another"))
        assert await store.claim(a_run(2))
        assert await store.claim(a_run(1))  # the wall's clock was stepped back
        assert await store.claim(a_run(1, "other"))
        assert store.recall("rates").last_slot == a_run(1).slot


async def test_a_result_is_owed_to_each_sink(opened: Open) -> None:
    """From the commit on the job is remembered by this result, and the result cannot be lost."""
    async with opened() as store:
        fetched = a_result(b"12345", etag='"2"')
        first, second = await store.commit(a_run(), fetched, ("file", "command"), NOW)
        assert (first.id, second.id) == (f"{a_run().id}-file", f"{a_run().id}-command")
        assert (first.job, first.run, first.slot, first.sink) == ("rates", a_run().id, a_run().slot, "file")
        assert await first.fetched.body.read() == await second.fetched.body.read() == b"12345"
        memory = store.recall("rates")
        assert memory.validators == fetched.validators
        assert memory.sha256 == first.fetched.body.sha256
        assert (memory.owed, memory.owed_bytes, memory.dead) == (2, 10, 0)


async def test_without_sinks_nothing_is_owed(opened: Open) -> None:
    """A job that delivers nowhere still asks its upstream for changes only."""
    async with opened() as store:
        fetched = a_result()
        assert not await store.commit(a_run(), fetched, (), NOW)
        memory = store.recall("rates")
        assert (memory.validators, memory.owed) == (fetched.validators, 0)
        assert await store.lanes() == []


@pytest.mark.parametrize("sinks", [(), ("file",)])
@pytest.mark.parametrize("size", [10, 2000])
async def test_a_commit_gives_the_memory_back(opened: Open, sinks: tuple[str, ...], size: int) -> None:
    """The store reads the body from where it keeps it: the Runs' memory is for bodies in flight."""
    budget = MemoryBudget(10_000)
    async with opened() as store:
        budget.try_take(size)
        body = Body(b"x" * size, size=size, sha256="s", release=lambda: budget.give(size))
        deliveries = await store.commit(a_run(), replace(a_result(), body=body), sinks, NOW)
        assert budget.used == 0
        for delivery in deliveries:
            assert await delivery.fetched.body.read() == b"x" * size


@pytest.mark.parametrize("size", [10, 2000])
async def test_a_spooled_body_stays_until_the_last_delivery(opened: Open, tmp_path: Path, size: int) -> None:
    """Whoever still owes it can read it, however often somebody closed a body of it; after that nothing is left."""
    spool = tmp_path / "spooled"
    spool.write_bytes(b"x" * size)
    async with opened() as store:
        fetched = a_result(spool)
        first, second = await store.commit(a_run(), fetched, ("file", "command"), NOW)
        fetched.body.close()
        path = first.fetched.body.path
        assert path is not None
        first.fetched.body.close()
        store.delivered(first)
        owed = await store.first_owed("rates", "command")
        assert owed is not None
        assert await owed.delivery.fetched.body.read() == b"x" * size
        owed.delivery.fetched.body.close()
        store.delivered(second)
        await settled(store)
        assert not path.exists()
        assert not spool.exists()


async def test_what_comes_back_is_what_was_kept(opened: Open) -> None:
    """A delivery after a restart must not differ from the one before; headers may hold bytes that are no text."""
    odd = {
        "status": None,
        "headers": {"x": "caf\udce9"},
        "content_type": "text/\udcff",
        "validators": Validators("\udc80"),
    }
    async with opened() as store:
        (kept,) = await committed(store, content=b"\x00\xff", **odd)
        owed = await store.first_owed("rates", "file")
        assert owed is not None
        back, body = owed.delivery.fetched, owed.delivery.fetched.body
        assert replace(owed.delivery, fetched=kept.fetched) == kept
        assert replace(back, body=kept.fetched.body) == kept.fetched
        assert (body.size, body.sha256, await body.read()) == (2, kept.fetched.body.sha256, b"\x00\xff")
        assert (owed.attempts, owed.since, owed.next_try, owed.error) == (0, NOW, NOW, "")
        assert store.recall("rates").validators == Validators("\udc80")


async def test_an_empty_body_is_a_body(opened: Open) -> None:
    """It is not one that has gone missing."""
    async with opened() as store:
        await committed(store, content=b"")
        owed = await store.first_owed("rates", "file")
        assert owed is not None
        assert await owed.delivery.fetched.body.read() == b""


async def test_a_lane_is_served_in_its_order(opened: Open) -> None:
    """An older result must not overwrite a newer one; the lanes of other sinks and jobs are apart."""
    async with opened() as store:
        for number in (3, 1, 2):
            await committed(store, number, "rates", "file", "command")
        await committed(store, 4, "other")
        order = []
        while owed := await store.first_owed("rates", "file"):
            order.append(owed.delivery.run)
            store.delivered(owed.delivery)
        assert order == [a_run(number).id for number in (3, 1, 2)]
        owed = await store.first_owed("rates", "command")
        assert owed is not None
        assert owed.delivery.run == a_run(3).id


async def test_lanes_tell_what_is_owed_and_when(opened: Open) -> None:
    """The outbox decides by them what to try next, without reading a single body."""
    later = NOW + timedelta(minutes=5)
    async with opened() as store:
        (first,) = await committed(store, 1, "rates", "file", content=b"x" * 5)
        await committed(store, 2, "rates", "file", content=b"x" * 7)
        (dead,) = await committed(store, 3, "other", "command")
        await committed(store, 4, "other", "webhook", content=b"x" * 2000)
        store.postponed(first, 1, later, "the disk is full")
        store.buried(dead, 1, "refused")
        lanes = await store.lanes()
        assert sorted(lanes, key=lambda lane: lane.job) == [
            Lane("other", "webhook", 1, 2000, NOW),
            Lane("rates", "file", 2, 12, later),
        ]
        owed = await store.first_owed("rates", "file")
        assert owed is not None
        assert (owed.attempts, owed.since, owed.next_try, owed.error) == (1, NOW, later, "the disk is full")


async def test_the_counts_follow_each_step(opened: Open) -> None:
    """A job that is owed too much is not fetched: the counts decide it, so they must not drift."""

    async def counts() -> tuple[int, int, int]:
        await settled(store)
        memory = store.recall("rates")
        return memory.owed, memory.owed_bytes, memory.dead

    async with opened() as store:
        first, second = await committed(store, 1, "rates", "file", "command")
        (third,) = await committed(store, 2, "rates", "file")
        assert await counts() == (3, 30, 0)
        store.postponed(first, 1, NOW, "no")
        assert await counts() == (3, 30, 0)
        store.buried(first, 2, "no")
        assert await counts() == (2, 20, 1)
        store.delivered(second)
        store.delivered(second)
        assert await counts() == (1, 10, 1)
        store.postponed(first, 3, NOW, "a dead letter is not owed")
        store.buried(first, 4, "twice")
        assert await counts() == (1, 10, 1)
        store.delivered(first)
        store.delivered(third)
        assert await counts() == (0, 0, 0)
        store.postponed(third, 1, NOW, "it was delivered")
        store.buried(third, 1, "it was delivered")
        assert await counts() == (0, 0, 0)


async def test_the_history_tells_each_run(opened: Open) -> None:
    """What the log said of a Run, the newest first."""
    reports = [
        a_report(a_run(1), status=200, bytes=7, attempts=1, lateness=0.5, waited=0.25, timings={"body": 0.1}),
        a_report(
            a_run(2),
            Outcome.FETCH_FAILED,
            reason=Reason.TIMEOUT_READ,
            message="no answer \U0001f600",
            phase="headers",
            attempts=3,
        ),
        a_report(a_run(3), Outcome.CANCELLED, reason=Reason.SHUTDOWN, started=None, duration=0.0),
    ]
    async with opened() as store:
        for report in reports:
            store.finish(report)
        store.finish(a_report(a_run(4, "other")))
        assert await store.history("rates", 10) == reports[::-1]
        assert await store.history("rates", 2) == reports[:0:-1]


async def test_good_runs_alone_count_as_success(opened: Open) -> None:
    """The job's silence is an alarm of its own: a Run that failed must not quieten it."""
    async with opened() as store:
        store.finish(a_report(a_run(1), Outcome.UNCHANGED))
        assert store.recall("rates").last_success == a_run(1).slot + timedelta(seconds=2)
        store.finish(a_report(a_run(2), Outcome.DELIVERY_FAILED))
        assert store.recall("rates").last_success == a_run(1).slot + timedelta(seconds=2)


async def test_good_runs_do_not_push_failures_out(opened: Open) -> None:
    """A job that fails once a day and runs each second shall still tell why."""
    bad = [a_run(number) for number in range(7)]
    good = [a_run(number) for number in range(7, 200)]
    async with opened() as store:
        for run in bad:
            store.finish(a_report(run, Outcome.FETCH_FAILED))
        for run in good:
            store.finish(a_report(run))
        await store.tidy()
        kept = [report.run for report in await store.history("rates", 1000)]
        assert kept == [*good[:-11:-1], *bad[:-6:-1]]


async def test_a_cancelled_commit_is_whole(opened: Open) -> None:
    """The deadline may come at any moment: the result is kept with its deliveries and its validators, or not at all."""
    async with opened() as store:
        for turns in range(8):
            run = Run(f"run-{turns}", f"job-{turns}", NOW)
            fetched = a_result(b"x" * (2000 if turns % 2 else 10))
            task = asyncio.create_task(store.commit(run, fetched, ("file",), NOW))
            for _ in range(turns // 2):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            fetched.body.close()
        await store.aclose()
    async with opened() as store:
        for number in range(8):
            memory = store.recall(f"job-{number}")
            owed = await store.first_owed(f"job-{number}", "file")
            assert (owed is None) == (memory.owed == 0) == (memory.validators == Validators())
            if owed is not None:
                assert await owed.delivery.fetched.body.read()


async def test_closing_twice_is_harmless(opened: Open) -> None:
    """What ends a process need not know what has been ended already."""
    async with opened() as store:
        await store.aclose()
        await store.aclose()


async def test_what_runs_carry_is_kept_with_the_result(opened: Open) -> None:
    """The next Run goes on from where the last kept result ended; one that carries nothing changes nothing."""
    carried = Carried("17", "https://upstream.test/?page=2", ("a1", "b2"), "2026-03-01T12:30:00Z")
    async with opened() as store:
        await committed(store, 1, carried=carried)
        await committed(store, 2)
        await store.commit(a_run(1, "other"), a_result(carried=Carried("x")), (), NOW)
        assert store.recall("rates").carried == carried
        assert store.recall("other").carried == Carried("x")


async def test_failures_to_fetch_are_counted_until_a_success(opened: Open) -> None:
    """A target that fails is known by its failures in a row; a sink that fails, or a stop, says nothing of it."""
    late = {"outcome": Outcome.DEADLINE_EXCEEDED}
    async with opened() as store:
        store.finish(a_report(a_run(1), Outcome.FETCH_FAILED, reason=Reason.CONNECT))
        store.finish(a_report(a_run(2), phase="headers", **late))
        store.finish(a_report(a_run(3), Outcome.CANCELLED))
        known = store.recall("rates")
        assert (known.failures, known.failing_since) == (2, a_run(1).slot)
        store.finish(a_report(a_run(4), phase="deliver:file", **late))
        assert (store.recall("rates").failures, store.recall("rates").failing_since) == (0, None)
        store.finish(a_report(a_run(5), Outcome.FETCH_FAILED))
        store.forgive("rates")
        assert store.recall("rates").failures == 0


async def test_a_job_stays_paused_until_it_is_resumed(opened: Open) -> None:
    """A pause concerns one job, and the store alone remembers it."""
    async with opened() as store:
        store.pause("rates", True)
        assert (store.recall("rates").paused, store.recall("other").paused) == (True, False)
        store.pause("rates", False)
        assert not store.recall("rates").paused


async def test_notes_are_found_by_the_beginning_of_their_names(opened: Open) -> None:
    """Whoever keeps notes has names of its own, and gets back no others."""
    async with opened() as store:
        for name in ("alerts/rates", "alerts/other", "alertt", "alert", "pings/rates"):
            store.note(name, f"of {name}")
        store.note("alerts/rates", "again")
        store.note("alerts/other", None)
        store.note("never/there", None)
        assert await store.notes("alerts/") == {"alerts/rates": "again"}
        assert await store.notes("none/") == {}


async def test_the_last_runs_of_every_job_are_told_at_once(opened: Open) -> None:
    """Whoever shows all jobs asks once, and gets each job's in their order."""
    async with opened() as store:
        for number in range(1, 6):
            store.finish(a_report(a_run(number)))
            store.finish(a_report(a_run(number, "other"), Outcome.FETCH_FAILED))
        found = [(report.run.job, report.run.slot) for report in await store.recent(2)]
    slots = [a_run(4).slot, a_run(5).slot]
    assert [slot for job, slot in found if job == "rates"] == slots
    assert [slot for job, slot in found if job == "other"] == slots
    assert len(found) == 4


async def test_a_restart_forgets_nothing_of_a_job(tmp_path: Path) -> None:
    """Pauses, failures, notes and what Runs carry are there for the next process."""
    async with open_sqlite_store(tmp_path) as store:
        await committed(store, carried=Carried("17", "2", ("a",)))
        store.finish(a_report(a_run(1), Outcome.FETCH_FAILED))
        store.pause("rates", True)
        store.note("alerts/rates", "failing")
        before = store.recall("rates")
    async with open_sqlite_store(tmp_path) as store:
        assert store.recall("rates") == before
        assert before.paused
        assert before.failures == 1
        assert await store.notes("alerts/") == {"alerts/rates": "failing"}
