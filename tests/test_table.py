"""What is shown of all jobs is always what a look at each of them, one by one, would show."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

from fetchd.board import Board, Known, Look, Sources
from fetchd.board.survey import Survey, survey
from fetchd.board.table import LONG
from fetchd.clock import FakeClock
from fetchd.errors import Reason
from fetchd.run import Outcome, Report, Run
from fetchd.scheduler import Scheduler
from fetchd.store.sqlite import SqliteStore, open_sqlite_store
from fetchd.watch import Result
from fetchd.web.rows import Rows
from tests.store.made import a_result, settled
from tests.test_scheduler import Starts
from tests.web.made import House, job

NAMES = [f"job{number:03}" for number in range(2 * LONG + 7)]


class Daemon:
    """The parts that a look is made of: a real store, a real scheduler, and the board that asks them."""

    def __init__(self, store: SqliteStore, known: Known) -> None:
        self.clock = FakeClock(datetime.now(UTC))
        self.store = store
        starts = Starts()
        self.scheduler = Scheduler(starts.start, starts.skip, self.clock)
        self.held: dict[str, datetime] = {}
        self.jobs = {name: job(name, interval="1h") for name in NAMES}
        self.runs = 0
        sources = Sources(
            store.recall,
            self.scheduler.next_slots,
            lambda: (store.changed, self.scheduler.changed),
            known,
            held_until=lambda _jobs: dict(self.held),
        )
        self.board = Board(self.jobs, Path("c"), sources, self.clock)

    def each(self) -> dict[str, Look]:
        """Look at each job by itself."""
        found = {}
        for name in self.board.jobs():
            standing = self.board.standing(name)
            assert standing is not None
            found[name] = self.board.look(standing, self.clock.now(), self.scheduler.next_slots().get(name))
        return found

    def run(self, name: str) -> Run:
        """Return a further Run of a job."""
        self.runs += 1
        return Run(f"r{self.runs}", name, self.clock.now())

    async def begin(self, name: str) -> None:
        """Begin a Run."""
        run = self.run(name)
        self.board.started(run)
        await self.store.claim(run)

    async def end(self, name: str) -> None:
        """Let a Run end well, or not."""
        run = self.run(name)
        good = self.runs % 2
        report = Report(run, Outcome.SUCCEEDED if good else Outcome.FETCH_FAILED, None if good else Reason.DNS)
        self.store.finish(report)
        self.board.finished(report)

    async def leave_out(self, name: str) -> None:
        """Leave slots out."""
        self.board.skipped(name, self.clock.now(), Reason.FRESH)
        self.board.missed(name, 2)

    async def owe(self, name: str) -> None:
        """Owe a delivery that its sink does not take; every other one is given up."""
        run = self.run(name)
        (delivery,) = await self.store.commit(run, a_result(run.id.encode()), ["file"], run.slot)
        self.board.tried(delivery, Result.FAILED, "full")
        if self.runs % 2:
            self.store.buried(delivery, 1, "gone")

    async def pause(self, name: str) -> None:
        """Pause a job, or lift that."""
        self.store.pause(name, not self.store.recall(name).paused)

    async def resume(self, name: str) -> None:
        """Forgive a job what it did."""
        self.store.forgive(name)
        self.board.resumed(name)

    async def rearm(self, name: str) -> None:
        """Give a job another slot; the board is not told."""
        interval = "2h" if self.jobs[name].interval == 3600 else "1h"
        self.jobs[name] = job(name, interval=interval)
        self.scheduler.replace(self.jobs[name])

    async def hold(self, name: str) -> None:
        """Let a host want no requests for a while, or take them again; nobody is told."""
        self.held = {} if self.held else {name: self.clock.now() + timedelta(hours=1)}

    async def wait(self, _name: str) -> None:
        """Let so much time pass that some jobs are overdue."""
        self.clock.advance(5000)


ACTS = (
    Daemon.begin,
    Daemon.end,
    Daemon.leave_out,
    Daemon.owe,
    Daemon.pause,
    Daemon.resume,
    Daemon.rearm,
    Daemon.hold,
    Daemon.wait,
)


@asynccontextmanager
async def at_work(folder: Path) -> AsyncIterator[Daemon]:
    """Give a daemon whose jobs are armed."""
    async with open_sqlite_store(folder) as store:
        daemon = Daemon(store, await Known.load(store))
        daemon.scheduler.start(daemon.jobs.values())
        yield daemon
        await daemon.scheduler.close()


def summed(looks: dict[str, Look]) -> tuple[int, ...]:
    """Return the sums that a survey has."""
    alike = [[look.overdue, look.running, look.owed, look.dead] for look in looks.values()]
    return len(looks), *map(sum, zip(*alike, strict=True))


def same(found: Survey, daemon: Daemon) -> None:
    """See that a survey shows what is so."""
    each = daemon.each()
    looks = found.looks()
    assert looks == each
    assert list(looks) == sorted(each, key=lambda name: (each[name].rank, name))
    assert (found.total, found.overdue, found.running, found.owed, found.dead) == summed(each)
    assert +found.states == {state: sum(look.state is state for look in each.values()) for state in +found.states}
    assert found.next_slot == min((look.next_slot for look in each.values() if look.next_slot), default=None)


async def test_a_survey_shows_what_is_so_whatever_happened_before(tmp_path: Path) -> None:
    """Only what somebody tells of is looked at again: a job that is left out would be shown as it was, for ever."""
    chance = random.Random(7)
    async with at_work(tmp_path) as daemon:
        for _ in range(150):
            same(await survey(daemon.board), daemon)
            for _ in range(chance.randrange(4)):
                await chance.choice(ACTS)(daemon, chance.choice(NAMES))
            await settled(daemon.store)
        same(await survey(daemon.board), daemon)


async def test_a_reload_in_the_middle_of_a_survey_counts_at_once(tmp_path: Path) -> None:
    """Half of it would be of jobs that are there no more, and nobody knows since when they were to be run."""
    async with at_work(tmp_path) as daemon:
        half = asyncio.create_task(survey(daemon.board))
        await asyncio.sleep(0)  # the first stretches are looked at, the others are not
        kept = NAMES[::2]
        daemon.board.reloaded(2, jobs={name: daemon.jobs[name] for name in kept})
        assert sorted((await half).looks()) == kept


async def test_what_one_view_renders_is_not_kept_from_another() -> None:
    """Two people look at one time: what changed between their views is news to the first of them."""
    house = House({name: job(name) for name in NAMES})
    rows = Rows(lambda standing, look: f"{standing.job.name} {look.state};")
    first = asyncio.create_task(rows.of(await survey(house.board)))
    await asyncio.sleep(0)  # it has rendered the first rows
    house.failed(NAMES[0])
    await rows.of(await survey(house.board))
    seen = await first
    assert f"{NAMES[0]} not run yet;".encode() in b"".join(seen.pieces())
    news = (await rows.of(await survey(house.board))).newer(seen.stamp)
    assert f"{NAMES[0]} failing;".encode() in b"".join(news)
