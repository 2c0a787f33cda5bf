"""What the daemon knows of itself."""

from __future__ import annotations

import tracemalloc
from datetime import timedelta
from pathlib import Path

from fetchd.board import Board, Known, Look, Sources, State
from fetchd.board.samples import KEPT, Samples, Usage, usage
from fetchd.board.standing import RECENT
from fetchd.board.survey import survey
from fetchd.body import Body
from fetchd.clock import FakeClock
from fetchd.errors import Reason
from fetchd.run import Delivery, Fetched, Outcome, Report, Run
from fetchd.secret import Secret
from fetchd.store import Memory
from fetchd.store.sqlite import open_sqlite_store
from fetchd.watch import Result
from tests.web.made import NOW, House, job


def made(*names: str) -> House:
    return House({name: job(name) for name in names})


def look(house: House, name: str = "a") -> Look:
    standing = house.board.standing(name)
    assert standing is not None
    return house.board.look(standing, house.clock.now(), house.slots.get(name))


def delivery(name: str, sink: str) -> Delivery:
    fetched = Fetched(200, "http://upstream.test/", "text/plain", {}, Body.of(b"x"))
    return Delivery(f"1-{sink}", name, "1", NOW, sink, fetched)


def test_a_job_goes_from_new_to_well_to_failing_and_back() -> None:
    """One word says how a job is, and a success ends the count of failures."""
    house = made("a")
    assert look(house).state is State.NEW
    house.ran("a")
    assert look(house).state is State.WELL
    house.failed("a")
    house.failed("a")
    assert (look(house).state, look(house).failures) == (State.FAILING, 2)
    house.ran("a", Outcome.UNCHANGED)
    assert (look(house).state, look(house).failures) == (State.WELL, 0)


def test_a_delivery_that_fails_is_a_failure_too() -> None:
    """The store's own count is about the fetch alone; whoever looks at the page wants the result delivered."""
    house = made("a")
    house.ran("a", Outcome.DELIVERY_FAILED, reason=Reason.SINK)
    assert look(house).state is State.FAILING


def test_a_cancelled_run_says_nothing_of_the_job() -> None:
    """A restart must not turn every job red."""
    house = made("a")
    house.ran("a")
    house.ran("a", Outcome.CANCELLED, reason=Reason.SHUTDOWN)
    assert look(house).state is State.WELL


def test_a_silent_job_is_overdue_and_a_paused_one_is_not() -> None:
    """Nothing failed, nothing ran: the silence itself is shown, unless it is wanted."""
    house = made("a")
    house.ran("a")
    house.clock.advance(600)
    assert (look(house).state, look(house).overdue) == (State.OVERDUE, True)
    house.store.pause("a", True)
    assert (look(house).state, look(house).overdue, look(house).next_slot) == (State.PAUSED, False, None)


def test_a_resumed_job_is_not_overdue_for_the_time_it_was_paused() -> None:
    """Resuming shall not raise an alarm of its own."""
    house = made("a")
    house.ran("a")
    house.store.pause("a", True)
    house.clock.advance(86400)
    house.store.pause("a", False)
    house.board.resumed("a")
    assert not look(house).overdue
    house.clock.advance(600)
    assert look(house).overdue


def test_what_is_still_fresh_is_no_silence() -> None:
    """A job that is told to come back in an hour does what it should; without a word of that it is silent again."""
    house = made("a")
    house.ran("a")
    for _ in range(60):
        house.clock.advance(60)
        house.board.skipped("a", house.clock.now(), Reason.FRESH)
        assert not look(house).overdue
    house.clock.advance(24 * 3600)
    house.board.skipped("a", house.clock.now(), Reason.RETRY_AFTER)
    assert look(house).overdue
    house.board.skipped("gone", house.clock.now(), Reason.FRESH)


async def test_what_is_known_survives_a_restart(tmp_path: Path) -> None:
    """A job that never succeeds becomes overdue although the daemon is started anew again and again."""
    jobs, clock = {"a": job("a", overdue_after="1h")}, FakeClock(NOW)

    async def started(minutes: int) -> bool:
        clock.advance(60 * minutes)
        async with open_sqlite_store(tmp_path) as store:
            board = Board(jobs, tmp_path, Sources(store.recall, dict, tuple, await Known.load(store)), clock)
            standing = board.standing("a")
            assert standing is not None
            return board.look(standing, clock.now(), None).overdue

    assert [await started(minutes) for minutes in (0, 40, 40)] == [False, False, True]


async def test_failures_survive_a_restart(tmp_path: Path) -> None:
    """After a restart a failing job is not shown as well before it has run."""
    async with open_sqlite_store(tmp_path) as store:
        run = Run("1", "a", NOW)
        for _ in range(2):
            store.finish(Report(run, Outcome.FETCH_FAILED, Reason.DNS, started=NOW))
    async with open_sqlite_store(tmp_path) as store:
        board = Board(
            {"a": job("a")}, tmp_path, Sources(store.recall, dict, tuple, await Known.load(store)), FakeClock(NOW)
        )
        standing = board.standing("a")
        assert standing is not None
        found = board.look(standing, NOW, None)
        assert (found.state, found.failures, standing.failing_since) == (State.FAILING, 2, NOW)


def test_the_runs_of_earlier_processes_are_shown() -> None:
    """After a restart the page goes on where it was: the last Run, the chart, and how often it has failed."""
    before = made("a", "b")
    reports: list[Report] = []
    outcomes = [Outcome.SUCCEEDED, Outcome.FETCH_FAILED, Outcome.DELIVERY_FAILED, Outcome.CANCELLED]
    for number, outcome in enumerate(outcomes):
        run = Run(f"r{number}", "a", NOW + timedelta(minutes=number))
        reports.append(Report(run, outcome, message=f"of {number}", started=run.slot, duration=number))
    house = made("a", "b")
    house.board.recall([*reports, Report(Run("x", "gone", NOW), Outcome.SUCCEEDED)])
    standing = house.board.standing("a")
    assert standing is not None
    assert standing.last is not None
    assert standing.last_failure is not None
    assert (standing.last.outcome, standing.last_failure.message) == (Outcome.CANCELLED, "of 2")
    assert standing.recent.runs() == [(outcome, float(number)) for number, outcome in enumerate(outcomes)]
    assert (look(house).state, look(house).failures) == (State.FAILING, 2)
    assert standing.runs is None
    assert look(house, "b") == look(before, "b")


def test_what_the_store_counted_beyond_the_last_runs_counts() -> None:
    """Of a thousand failures the last thirty are known one by one."""
    house = House({"a": job("a")}, remembered={"a": Memory(failures=1000, failing_since=NOW)})
    report = Report(Run("r", "a", NOW), Outcome.FETCH_FAILED, started=NOW)
    house.board.recall([report])
    assert look(house).failures == 1000


def test_the_last_runs_are_remembered_and_no_more() -> None:
    """A job that runs each second for a year takes no more memory than after a minute."""
    house = made("a")
    for number in range(RECENT + 5):
        house.ran("a", Outcome.UNCHANGED if number % 2 else Outcome.SUCCEEDED)
    standing = house.board.standing("a")
    assert standing is not None
    runs = standing.recent.runs()
    assert len(runs) == RECENT
    assert runs[-1] == (Outcome.SUCCEEDED, 1.0)
    assert standing.runs == {Outcome.SUCCEEDED: 18, Outcome.UNCHANGED: 17}


def test_what_is_left_out_is_counted_by_reason() -> None:
    """A page that shows no Run must say why there is none."""
    house = made("a")
    for reason in (Reason.OVERLAP, Reason.OVERLAP, Reason.BACKLOG):
        house.board.skipped("a", NOW, reason)
    house.board.missed("a", 3)
    standing = house.board.standing("a")
    assert standing is not None
    assert (standing.skipped, standing.missed) == ({Reason.OVERLAP: 2, Reason.BACKLOG: 1}, 3)


def test_a_sink_that_takes_nothing_is_told_until_it_does() -> None:
    """The error of a sink is shown as long as it counts."""
    house = made("a")
    standing = house.board.standing("a")
    assert standing is not None
    house.board.tried(delivery("a", "file"), Result.FAILED, "no space left")
    house.board.tried(delivery("a", "hook"), Result.DEAD, "gone")
    assert standing.sinks is not None
    assert [(name, told.error, told.dead) for name, told in standing.sinks.items()] == [
        ("file", "no space left", False),
        ("hook", "gone", True),
    ]
    house.board.tried(delivery("a", "file"), Result.DELIVERED, "")
    assert list(standing.sinks) == ["hook"]


def test_what_is_told_of_jobs_that_are_gone_is_left_alone() -> None:
    """A Run of a removed job ends after the reload; its owed deliveries are tried until they are purged."""
    house = made("a")
    run = Run("1", "gone", NOW)
    house.board.started(run)
    house.board.finished(Report(run, Outcome.SUCCEEDED, started=NOW))
    house.board.skipped("gone", NOW, Reason.OVERLAP)
    house.board.missed("gone", 1)
    house.board.tried(delivery("gone", "file"), Result.DEAD, "no such sink")
    house.board.resumed("gone")
    assert house.board.jobs() == ["a"]
    assert house.board.in_flight == 0


def test_what_began_while_the_clock_was_ahead_began_before_now() -> None:
    """Else its silence would not count for years, and the daemon would be up for less than no time."""
    house = made("a")
    house.clock.advance(60)
    house.clock.step(-400 * 86400)
    house.board.clock_stepped()
    assert house.clock.now() - house.board.started_at == timedelta(seconds=60)
    assert not look(house).overdue
    house.clock.advance(86400)
    assert look(house).overdue


def test_a_job_that_was_met_by_a_clock_ahead_is_met_anew() -> None:
    """Also by the next process, and kept so: no success of the job would put it right."""
    kept = {"known.a": (NOW + timedelta(days=400)).isoformat(), "known.b": NOW.isoformat()}
    notes: dict[str, str | None] = {}
    known = Known(notes.__setitem__, kept)
    known.meet(["a", "b"], NOW + timedelta(hours=1))
    assert (known.since("a"), known.since("b")) == (NOW + timedelta(hours=1), NOW)
    assert notes == {"known.a": (NOW + timedelta(hours=1)).isoformat()}


def test_a_reload_keeps_what_is_known_of_the_jobs_that_stay() -> None:
    """A changed header is no reason to forget that a job fails; a removed job is forgotten."""
    house = made("a", "b")
    house.failed("a")
    before = look(house)
    house.board.reloaded(2, jobs={"a": job("a", headers={"X": Secret("1")}), "c": job("c")})
    assert (house.board.jobs(), house.board.reload.generation) == (["a", "c"], 2)
    assert look(house).state is State.FAILING
    assert look(house) != before, "the page has to be rendered anew: what it shows may have changed"


def test_a_rejected_configuration_is_told_until_one_is_accepted() -> None:
    """The one before it counts, and says so."""
    house = made("a")
    house.board.reloaded(2, "config.toml:1: no")
    assert (house.board.reload.generation, house.board.reload.error) == (1, "config.toml:1: no")
    house.board.reloaded(2, "config.toml:1: no", jobs=house.jobs)
    assert (house.board.reload.generation, house.board.reload.error) == (2, "config.toml:1: no"), "of new secrets alone"
    house.board.reloaded(2, jobs=house.jobs)
    assert (house.board.reload.generation, house.board.reload.error) == (2, "")


def test_a_reload_without_changes_puts_nothing_new_in_force() -> None:
    """It is a reload all the same, for whoever waits for one."""
    house = made("a")
    house.clock.advance(60)
    house.board.reloaded(2, jobs=house.jobs)
    since = house.clock.now()
    house.clock.advance(60)
    house.board.reloaded(2, jobs=house.jobs)
    assert (house.board.reload.since, house.board.reload.at) == (since, house.clock.now())


def test_a_job_with_other_times_is_not_overdue_by_them_at_once() -> None:
    """A daily job that is to run each minute from now on has not been silent for a day by that."""
    house = House({"a": job("a", interval="1d")})
    house.ran("a")
    house.clock.advance(3600)
    house.board.reloaded(2, jobs={"a": job("a", interval="1m")})
    assert not look(house).overdue
    house.clock.advance(600)
    assert look(house).overdue


def test_backing_off_is_shown_with_its_end() -> None:
    """A job that leaves slots out on purpose must not look as if it were forgotten."""
    jobs = {"a": job("a", backoff={"after": 1, "factor": 4.0})}
    memory = Memory(last_slot=NOW, failures=1, failing_since=NOW)
    sources = Sources(lambda name: memory, dict, tuple, Known(lambda name, value: None, {}))
    board = Board(jobs, Path("c"), sources, FakeClock(NOW))
    standing = board.standing("a")
    assert standing is not None
    assert board.look(standing, NOW, None).backing_off_until == NOW + timedelta(minutes=4)


def test_a_host_that_wants_no_request_is_shown_with_its_end() -> None:
    """Its slots are left out, for an hour maybe: somebody will ask why."""
    until = NOW + timedelta(minutes=50)
    sources = Sources(
        lambda name: Memory(), dict, tuple, Known(lambda name, value: None, {}), held_until=lambda jobs: {"a": until}
    )
    board = Board({"a": job("a")}, Path("c"), sources, FakeClock(NOW))
    standing = board.standing("a")
    assert standing is not None
    assert board.look(standing, NOW, NOW).held_until == until


async def test_a_survey_puts_first_what_somebody_should_see() -> None:
    """At three in the morning nobody scrolls; the sums are what the headline is made of."""
    house = made("z-well", "failing", "paused", "b-well", "silent")
    house.ran("silent")
    house.clock.advance(600)
    house.failed("failing")
    for name in ("z-well", "b-well"):
        house.ran(name)
    house.store.pause("paused", True)
    house.board.started(Run("1", "b-well", NOW))
    found = await survey(house.board)
    assert list(found.looks()) == ["failing", "silent", "b-well", "z-well", "paused"]
    assert (found.failing, found.overdue, found.paused, found.running) == (1, 2, 1, 1)


def test_samples_are_bounded() -> None:
    """A day is kept, however long the daemon runs."""
    samples = Samples()
    for number in range(KEPT + 10):
        samples.add(Usage(number * 1024, 7), 1)
    assert (len(samples), samples.resident[0], samples.resident[-1]) == (KEPT, 10, KEPT + 9)


def test_the_process_can_be_seen() -> None:
    """The figures come from the kernel: a descriptor more is one more."""
    before = usage()
    with open("/dev/null") as _:
        assert usage().descriptors == before.descriptors + 1
    assert 2**20 < before.resident < 2**34


def test_a_job_takes_little_memory() -> None:
    """A thousand jobs that all fail must fit into the megabytes that the daemon has."""
    names = [f"job-{number}" for number in range(200)]
    house = made(*names)

    def rounds(count: int) -> None:
        for _ in range(count):
            for name in names:
                run = Run(f"{name}-{house.clock.monotonic()}", name, house.clock.now())
                house.board.started(run)
                message = f"{name}: the server answered with status 503, after 3 attempts"
                house.board.finished(
                    Report(run, Outcome.FETCH_FAILED, Reason.HTTP_5XX, message, started=NOW, duration=0.25)
                )
                house.board.skipped(name, NOW, Reason.OVERLAP)

    tracemalloc.start()
    try:
        again = Board(
            house.jobs, Path("c"), Sources(house.store.recall, dict, tuple, Known(house.store.note, {})), house.clock
        )
        house.board = again
        rounds(RECENT + 5)
        for name in names:
            look(house, name)
        taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert taken / len(names) < 2048


def test_names_are_in_the_order_that_people_expect() -> None:
    """Who looks for job 2 looks before job 10."""
    house = House({name: job(name) for name in ("job-10", "job-2", "job-1")})
    (stretch,) = house.board.table.stretches()
    assert stretch.names == ["job-1", "job-2", "job-10"]
