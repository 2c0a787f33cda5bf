"""How many Runs are under way at one time: never more than may be, and never fewer than could be."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import pytest

from fetchd.clock import SystemClock
from fetchd.job import Job
from fetchd.live import GIVE_UP_AFTER
from fetchd.outbox import Outbox
from fetchd.places import Places
from fetchd.run import Fetched, Outcome, Progress
from fetchd.runner import Runner
from fetchd.store.memory import MemoryStore
from tests.fakes import FakeFetcher, fetched

SLOT = datetime(2026, 3, 1, tzinfo=UTC)


def job(name: str, deadline: str = "20s") -> Job:
    """Return a job."""
    return Job.model_validate({"name": name, "url": "http://upstream.test/", "deadline": deadline})


class Stage:
    """A runner with one place, and what its Runs do: ``begun`` are those that got as far as the fetch, in order."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.at_once = self.most = 0
        self.slept = asyncio.Event()
        self.asleep = asyncio.Event()
        self.go_on = asyncio.Event()
        self.held = asyncio.Event()
        self.hold = asyncio.Event()
        self.hold.set()
        store = MemoryStore()
        self.runner = Runner(
            FakeFetcher(self._act), Outbox(store, {}, SystemClock()), store, SystemClock(), max_concurrent=1
        )

    def begin(self, *jobs: Job) -> list[asyncio.Task[Outcome | None]]:
        """Begin a Run of each."""
        return [asyncio.create_task(self._run(one)) for one in jobs]

    async def _run(self, one: Job) -> Outcome | None:
        report = await self.runner.run(one, SLOT)
        return report.outcome if report else None

    async def _act(self, one: Job, progress: Progress) -> Fetched:
        self.begun.append(one.name)
        if one.name.startswith("stubborn"):
            await self._ignore(progress)
            return fetched()
        if one.name.startswith("sleeps"):
            self.held.set()
            await self.hold.wait()
            async with progress.aside():
                self.asleep.set()
                await self.slept.wait()
            self.begun.append(f"{one.name} again")
        self.at_once += 1
        self.most = max(self.most, self.at_once)
        try:
            await (self.go_on.wait() if one.name == "first" else asyncio.sleep(0.001))
        finally:
            self.at_once -= 1
        return fetched()

    async def _ignore(self, progress: Progress) -> None:
        """Swallow each request to cancel until the Run was given up, then sleep as if nothing had been."""
        while "others" not in self.begun:
            try:
                await self.slept.wait()
            except asyncio.CancelledError:
                continue
        async with progress.aside():
            self.asleep.set()
            await self.go_on.wait()


async def test_who_comes_back_goes_before_those_that_are_yet_to_begin() -> None:
    """Its deadline runs already: where many wait, a second attempt would else come too late each time."""
    stage = Stage()
    sleeping = stage.begin(job("sleeps"))
    await stage.asleep.wait()
    others = stage.begin(job("first"), *(job(f"later{number}") for number in range(3)))
    await asyncio.sleep(0)
    stage.slept.set()
    await asyncio.sleep(0)
    stage.go_on.set()
    assert set(await asyncio.gather(*sleeping, *others)) == {Outcome.SUCCEEDED}
    assert stage.begun == ["sleeps", "first", "sleeps again", "later0", "later1", "later2"]
    assert stage.most == 1


@pytest.mark.parametrize("coming_back", [False, True])
@pytest.mark.parametrize("end", ["deadline", "removed", "drained"])
async def test_a_run_that_ends_aside_leaves_neither_a_place_more_nor_less(end: str, coming_back: bool) -> None:
    """Whether it sleeps, or waits for its place by then; whatever ends it."""
    stage = Stage()
    sleeping = stage.begin(job("sleeps", "50ms" if end == "deadline" else "20s"))
    await stage.asleep.wait()
    others = stage.begin(job("first"), *(job(f"later{number}") for number in range(3)))
    await asyncio.sleep(0)
    if coming_back:
        stage.slept.set()
    if end == "removed":
        assert await stage.runner.cancel(["sleeps"]) == []
    elif end == "drained":
        sleeping[0].cancel()
    (outcome,) = await asyncio.gather(*sleeping)
    assert outcome is (Outcome.DEADLINE_EXCEEDED if end == "deadline" else Outcome.CANCELLED)
    stage.go_on.set()
    assert set(await asyncio.gather(*others)) == {Outcome.SUCCEEDED}
    assert stage.most == 1
    stage.slept.set()
    assert await asyncio.wait_for(stage.begin(job("sleeps_too"))[0], 5) is Outcome.SUCCEEDED


@pytest.mark.parametrize("when", ["sleeping", "coming back", "later"])
async def test_nobody_waits_at_the_end_for_a_run_that_waits_itself(when: str) -> None:
    """Sleep is no work: what is under way has the grace, but only for as long as it is."""
    stage = Stage()
    if when == "later":
        stage.hold.clear()
    (sleeping,) = stage.begin(job("sleeps"))
    await (stage.held if when == "later" else stage.asleep).wait()
    others = stage.begin(job("first")) if when == "coming back" else []
    await asyncio.sleep(0)
    if when == "coming back":
        stage.slept.set()
        await asyncio.sleep(0)
    drain = asyncio.create_task(stage.runner.drain(60.0))
    await asyncio.sleep(0)
    assert not drain.done()
    stage.hold.set()
    done, _ = await asyncio.wait({sleeping}, timeout=5)  # not wait_for, which would cancel it itself
    assert [task.result() for task in done] == [Outcome.CANCELLED]
    stage.go_on.set()
    assert [await one for one in others] == [Outcome.SUCCEEDED] * len(others)
    await asyncio.wait_for(drain, 5)


async def test_a_run_that_was_given_up_has_no_place_to_leave() -> None:
    """What it does after that is nobody's business: others have had its place since."""
    stage = Stage()
    backstop = asyncio.create_task(stage.runner.backstop())
    (stubborn,) = stage.begin(job("stubborn", "20ms"))
    assert await asyncio.wait_for(stage.begin(job("others"))[0], GIVE_UP_AFTER + 5) is Outcome.SUCCEEDED
    first, *later = stage.begin(job("first"), *(job(f"later{number}") for number in range(3)))
    await stage.asleep.wait()
    backstop.cancel()
    stage.go_on.set()
    assert set(await asyncio.gather(first, *later)) == {Outcome.SUCCEEDED}
    assert stage.most == 1
    assert await stubborn is None


async def test_a_place_that_is_given_to_one_who_leaves_goes_on() -> None:
    """Both in one turn of the loop."""
    places = Places(1)
    await places.take()
    leaving, staying = (asyncio.create_task(places.take()) for _ in range(2))
    await asyncio.sleep(0)
    places.give()
    leaving.cancel()
    await asyncio.wait_for(staying, 5)
    places.give()
    await asyncio.wait_for(places.take(), 5)
