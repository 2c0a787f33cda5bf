"""Who is told what, and how often: once each, together with what happens beside it, and when it is over."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from fetchd.alerts.happenings import PREFIX
from fetchd.alerts.options import AlertOptions, Maintenance
from fetchd.alerts.posts import MOST, Posts, try_notifiers
from fetchd.alerts.words import lasted
from fetchd.body import Body
from fetchd.errors import Reason, StoreError
from fetchd.notifiers.message import Message, NotifyError
from fetchd.run import Fetched, Outcome, Report, Run
from fetchd.secret import Redactor
from fetchd.store.memory import MemoryStore
from fetchd.watch import Result
from tests.alerted import FAR, START, Desk, Kept, job

FILE = {"sinks": [{"kind": "file"}]}


async def test_a_job_is_told_of_after_its_count_and_when_it_is_over() -> None:
    """Two failures in a row are weather; the third is told, once, and so is its end."""
    desk = await Desk([job()]).open()
    desk.fail(times=2)
    await desk.after(300)
    assert desk.titles == []
    desk.fail(message="the server said 503")
    await desk.after(300)
    desk.fail(times=5)
    await desk.after(300)
    assert desk.titles == ["rates is failing: http_5xx"]
    [message] = desk.notifiers["ops"].messages
    assert message.state == "problem"
    assert message.text == "3 in a row since 2026-03-02 12:00:00 UTC: the server said 503"
    desk.succeed()
    await desk.after(300)
    assert desk.titles[1:] == ["rates does well again"]
    assert desk.notifiers["ops"].messages[1].text == "after 15m, since 2026-03-02 12:00:00 UTC"


async def test_what_came_and_went_within_the_wait_is_not_told() -> None:
    """A blink is nothing that anybody should get up for."""
    desk = await Desk([job()]).open()
    desk.fail(times=3)
    await desk.after(5)
    desk.succeed()
    await desk.after(300)
    assert desk.titles == []


async def test_an_outage_is_one_message_and_its_end_another() -> None:
    """Three hundred jobs at one host fail and recover by turns, spread over their interval: two messages."""
    jobs = [job(f"j{number:03}") for number in range(300)]
    desk = await Desk(jobs).open()
    for turn in range(5):
        for number in range(60):
            for name in (f"j{number + 60 * part:03}" for part in range(5)):
                desk.fail(name, Reason.TIMEOUT_CONNECT if turn else Reason.HTTP_5XX)
            await desk.after(5)
    assert desk.titles == ["300 jobs are failing: timeout_connect (300)"]
    for number in range(60):
        for part in range(5):
            desk.succeed(f"j{number + 60 * part:03}")
        await desk.after(5)
    await desk.after(120)
    assert desk.titles[1:] == ["300 jobs do well again"]
    down, up = desk.notifiers["ops"].messages
    assert down.text.count("\n- ") == 9
    assert down.text.endswith("\nand 290 more")
    assert (len(down.jobs), down.more) == (50, 250)
    assert up.state == "recovered"


async def test_an_outage_has_many_reasons() -> None:
    """A host that is overwhelmed refuses some, lets others wait and answers a few: it is one message all the same."""
    reasons = (Reason.HTTP_5XX, *[Reason.TIMEOUT_READ] * 9)
    desk = await Desk([job(f"j{number}") for number in range(100)]).open()
    for turn in range(4):
        for number in range(100):
            desk.fail(f"j{number}", reasons[(number + turn) % 10])
            await desk.after(3)
    [title] = desk.titles
    assert title.startswith("100 jobs are failing: timeout_read (")


async def test_what_is_no_outage_is_told_by_itself() -> None:
    """That one address of a host is gone says nothing of the others."""
    desk = await Desk([job("a"), job("b"), job("c")]).open()
    desk.fail("a", Reason.HTTP_4XX, times=3)
    desk.fail("b", Reason.TIMEOUT_READ)
    desk.fail("c", Reason.UNEXPECTED)
    await desk.after(120)
    assert desk.titles == ["a is failing: http_4xx"]


async def test_reasons_are_counted_in_the_title() -> None:
    """The cause of an outage is read off the telephone's lock screen."""
    desk = await Desk([job(f"j{number}") for number in range(6)], AlertOptions(offline=False)).open()
    for number in range(6):
        desk.fail(f"j{number}", Reason.DNS if number < 2 else Reason.TIMEOUT_CONNECT, times=3)
    await desk.after(60)
    assert desk.titles == ["6 jobs are failing: timeout_connect (4), dns (2)"]


async def test_a_recovery_does_not_wait_for_ever() -> None:
    """One job of the host that does not recover, or does not run, holds the others up for a while only."""
    desk = await Desk([job("a"), job("b")]).open()
    desk.fail("a", times=3)
    desk.fail("b", times=3)
    await desk.after(60)
    desk.succeed("a")
    await desk.after(300)
    assert len(desk.titles) == 1
    desk.fail("b")  # it has been run: that is all there is
    await desk.after(60)
    assert desk.titles[1:] == ["a does well again"]


async def test_reminders_keep_their_rhythm() -> None:
    """What is still so is told again, no sooner than was asked for, and restarts do not begin the time anew."""
    desk = await Desk([job(alerts={"reminder": "1h"})]).open()
    desk.fail(times=3)
    await desk.after(1800, step=30)
    desk = await desk.again()
    await desk.after(1700, step=30)
    assert len(desk.titles) == 1
    await desk.after(200, step=10)
    assert desk.titles[1:] == ["rates is still failing: http_5xx"]
    await desk.after(3500, step=30)
    assert len(desk.titles) == 2


async def test_a_clock_that_was_set_back_does_not_end_reminders() -> None:
    """Else nobody would be reminded before it has caught up; an hour more or less does not matter."""
    desk = await Desk([job(alerts={"reminder": "4h"})]).open()
    desk.clock.step(400 * 86400)
    desk.fail(times=3)
    await desk.after(60)
    desk.clock.step(-400 * 86400)
    await desk.after(120)
    assert desk.titles == ["rates is failing: http_5xx", "rates is still failing: http_5xx"]
    desk.clock.step(-3600)
    await desk.after(600)
    desk.clock.step(7200)
    await desk.after(600)
    assert len(desk.titles) == 2


async def test_a_restart_tells_nothing_twice_and_recoveries_still() -> None:
    """People know what an earlier process has told them; the end of it happens to come to a later one."""
    desk = await Desk([job("a"), job("b"), job("c")]).open()
    for name in ("a", "b"):
        desk.fail(name, times=3)
    await desk.after(60)
    assert len(desk.titles) == 1
    desk.succeed("b")  # and the process dies before it can tell
    desk.fail("c", times=3, message="why")
    desk = await desk.again()
    desk.fail("a")
    await desk.after(120)
    assert desk.titles[1:] == ["c is failing: http_5xx; b does well again"]
    desk = await desk.again()
    desk.succeed("a")
    desk.succeed("c")
    await desk.after(120)
    assert desk.titles[2:] == ["2 jobs do well again"]
    assert await desk.store.notes("alerts/told/") == {}


async def test_an_outage_that_outlives_a_restart_is_one_message() -> None:
    """What the process has not told before it ended is told as if it had gone on, whatever was cut off in between."""
    jobs = [job(f"j{number:03}") for number in range(300)]
    desk = await Desk(jobs).open()
    for turn in range(3):
        for one in jobs:
            if turn < 2 or one.name < "j100":
                desk.fail(one.name)
    for one in jobs:
        desk.store.finish(Report(Run("r2", one.name, START), Outcome.CANCELLED, message="the daemon stopped"))
    desk.overdue = {one.name: START for one in jobs[100:]}
    await (await desk.again()).after(300)
    assert desk.titles == ["300 jobs are failing: http_5xx (300)"]


@pytest.mark.parametrize(
    ("alerts", "titles"),
    [
        ({"after": 1}, ["rates is failing: http_5xx", "rates does well again"]),
        ({"after": 0}, ["rates is overdue", "rates does well again"]),
        ({"after": 0, "overdue": False}, []),
        ({"overdue": False}, ["rates is failing: http_5xx", "rates does well again"]),
        ({"recovery": False}, ["rates is failing: http_5xx"]),
        ({"notify": []}, []),
        ({"notify": ["ops"]}, ["rates is failing: http_5xx", "rates does well again"]),
        ({"notify": ["boss"]}, []),
    ],
)
async def test_a_job_says_what_is_told(alerts: dict[str, Any], titles: list[str]) -> None:
    """The job's own keys decide; one that is known to fail is overdue in the end, which is no news."""
    desk = await Desk([job(alerts=alerts)], notifiers={"ops": Kept(), "boss": Kept()}).open()
    desk.overdue["rates"] = START + timedelta(seconds=300)
    desk.fail(times=3)
    desk.alerts.replace(desk.config, desk.boxes)
    await desk.after(900)
    desk.overdue.clear()
    desk.succeed()
    await desk.after(900)
    assert desk.titles == titles


async def test_silence_is_told() -> None:
    """A job that does not even fail: no slots, a scheduler that forgot it, a machine that slept."""
    desk = Desk([job()])
    desk.overdue["rates"] = START + timedelta(seconds=100)
    await desk.open()
    await desk.after(90)
    assert desk.titles == []
    with capture_logs() as logs:
        await desk.after(60)
    assert desk.titles == ["rates is overdue"]
    assert [line["event"] for line in logs] == ["job_overdue", "alert_sent"]
    assert "no success so far" in desk.notifiers["ops"].messages[0].text
    desk.overdue.clear()
    with capture_logs() as logs:
        desk.succeed()
        await desk.after(120)
    assert desk.titles[1:] == ["rates does well again"]
    assert [line["event"] for line in logs] == ["job_recovered", "alert_sent"]


async def test_silence_is_told_after_the_clock_was_set_back() -> None:
    """A machine that starts with a wrong year must not be blind until that year comes."""
    desk = await Desk([job()]).open()
    desk.clock.step(400 * 86400)
    desk.succeed()
    desk.overdue["rates"] = desk.clock.now() + timedelta(hours=1)
    await desk.after(30)
    desk.clock.step(-400 * 86400)
    await desk.after(30)
    desk.succeed()
    desk.overdue["rates"] = desk.clock.now() + timedelta(seconds=100)
    await desk.after(90)
    assert desk.titles == []
    await desk.after(90)
    assert desk.titles == ["rates is overdue"]


async def test_silence_is_told_that_was_put_off_by_a_clock_ahead() -> None:
    """When it was to be looked at again was told by that clock too."""
    desk = await Desk([job()]).open()
    desk.clock.step(400 * 86400)
    desk.overdue["rates"] = desk.clock.now() + timedelta(hours=1)
    await desk.after(30)
    desk.clock.step(-400 * 86400)
    desk.overdue["rates"] = START + timedelta(seconds=100)
    await desk.after(150)
    assert desk.titles == ["rates is overdue"]


async def test_nobody_is_told_of_a_paused_job() -> None:
    """Who has paused it knows."""
    desk = await Desk([job(alerts={"reminder": "1m"})]).open()
    desk.fail(times=3)
    desk.store.pause("rates", True)
    await desk.after(600)
    assert desk.titles == []


class TestMaintenance:
    """Planned outages wake nobody."""

    WINDOW = Maintenance(jobs=("ra*",), start=START, end=START + timedelta(hours=1))

    async def test_what_is_over_with_it_is_not_told(self) -> None:
        """It went as planned."""
        desk = await Desk([job(), job("other")], maintenance=[self.WINDOW]).open()
        desk.fail(times=9)
        desk.fail("other", times=3)
        await desk.after(1800, step=20)
        assert desk.titles == ["other is failing: http_5xx"]
        desk.succeed()
        await desk.after(3000, step=20)
        assert len(desk.titles) == 1

    async def test_what_outlives_it_is_told_then(self) -> None:
        """It did not go as planned."""
        desk = await Desk([job()], maintenance=[self.WINDOW]).open()
        desk.fail(times=9)
        await desk.after(3590, step=10)
        assert desk.titles == []
        await desk.after(60)
        assert desk.titles == ["rates is failing: http_5xx"]

    async def test_a_recovery_within_it_is_told_afterwards(self) -> None:
        """People believe what they were told last."""
        late = Maintenance(start=START + timedelta(minutes=5), end=START + timedelta(minutes=10))
        desk = await Desk([job()], maintenance=[late]).open()
        desk.fail(times=3)
        await desk.after(310)
        desk.succeed()
        await desk.after(280)
        assert len(desk.titles) == 1
        await desk.after(60)
        assert desk.titles[1:] == ["rates does well again"]

    def test_it_comes_again_by_cron(self) -> None:
        """In its own time zone, for its own time."""
        weekly = Maintenance.model_validate(
            {"cron": "0 3 * * sun", "duration": "2h", "timezone": "Europe/Prague"}, strict=True
        )
        sunday = START.replace(day=8, hour=2)  # three o'clock in Prague
        assert weekly.active(sunday)
        assert weekly.active(sunday + timedelta(minutes=119))
        assert not weekly.active(sunday + timedelta(minutes=120))
        assert not weekly.active(sunday - timedelta(seconds=1))
        assert not weekly.active(sunday + timedelta(days=1))


class TestOffline:
    """A machine without a network has one trouble, not three hundred."""

    JOBS = (job("a", "https://a.test/"), job("b", "https://b.test/"), job("local", "http://127.0.0.1:1/"))

    async def test_it_is_said_once_and_its_end_once(self) -> None:
        """And jobs whose turn comes later add nothing."""
        late = job("c", "https://c.test/")
        desk = await Desk([*self.JOBS, late]).open()
        desk.fail("a", Reason.DNS, times=3)
        desk.fail("b", Reason.TIMEOUT_CONNECT, times=3)
        desk.succeed("local")
        await desk.after(120)
        desk.fail("c", Reason.CONNECT, times=3)
        await desk.after(600)
        [title] = desk.titles
        begin = "this machine seems to be offline: 2 jobs cannot reach their 2 hosts: "
        assert title in {begin + "dns (1), timeout_connect (1)", begin + "timeout_connect (1), dns (1)"}
        for name in ("a", "b", "c"):
            desk.succeed(name)
        await desk.after(600)
        assert desk.titles[1:] == ["this machine is online again"]

    async def test_few_jobs_are_enough_to_tell(self) -> None:
        """The first that reaches its count is not told by itself: others begin to fail as it does, and none is well."""
        jobs = [job(f"j{number}", f"https://h{number}.test/") for number in range(5)]
        desk = await Desk(jobs).open()
        for one in jobs:
            desk.succeed(one.name)
            await desk.after(60)
        for _ in range(4):
            for one in jobs:
                desk.fail(one.name, Reason.DNS)
                await desk.after(60)
        assert desk.titles == ["this machine seems to be offline: 5 jobs cannot reach their 5 hosts: dns (5)"]
        for one in jobs:
            desk.succeed(one.name)
            await desk.after(60)
        await desk.after(600)
        assert desk.titles[1:] == ["this machine is online again"]

    async def test_one_host_that_is_gone_is_no_network_that_is(self) -> None:
        """Others have been reached since; that one of them has just failed, too, tells nothing."""
        jobs = [job("a", "https://a.test/"), job("b", "https://b.test/")]
        desk = await Desk(jobs).open()
        for _ in range(3):
            desk.fail("a", Reason.DNS)
            desk.succeed("b")
            await desk.after(60)
            desk.fail("b", Reason.CONNECT)
        await desk.after(60)
        assert desk.titles == ["a is failing: dns"]

    async def test_what_still_fails_afterwards_is_told(self) -> None:
        """Also after a restart in between."""
        desk = await Desk(self.JOBS).open()
        desk.fail("a", Reason.DNS, times=3)
        desk.fail("b", Reason.DNS, times=3)
        await desk.after(60)
        desk = await desk.again()
        desk.succeed("a")
        await desk.after(120)
        assert desk.titles[1:] == ["this machine is online again"]
        desk.fail("b", Reason.DNS)
        await desk.after(120)
        assert desk.titles[2:] == ["b is failing: dns"]

    @pytest.mark.parametrize("why", ["one host", "another reason", "a success", "an answer", "not wanted"])
    async def test_where_it_cannot_be_told_jobs_are(self, why: str) -> None:
        """A wrong "offline" would hide an outage."""
        jobs = [job("a", "https://a.test/"), job("b", "https://a.test/x" if why == "one host" else "https://b.test/")]
        jobs.append(job("c", "https://c.test/"))
        desk = await Desk(jobs, AlertOptions(offline=why != "not wanted")).open()
        desk.fail("a", Reason.DNS, times=3)
        desk.fail("b", Reason.TIMEOUT_READ if why == "another reason" else Reason.DNS, times=3)
        if why == "a success":
            desk.succeed("c")
        if why == "an answer":
            desk.fail("c", Reason.HTTP_5XX, status=503)
        await desk.after(60)
        [title] = desk.titles
        assert title.startswith("2 jobs are failing: ")


class TestSinks:
    """A result that reaches nobody is as good as none."""

    async def test_a_sink_that_takes_nothing_is_told(self) -> None:
        """After a minute, in which a receiver may be restarted; and when it takes deliveries again."""
        desk = await Desk([job(**FILE)]).open()
        for _ in range(6):
            desk.deliver(Result.FAILED, "disk full")
        await desk.after(50)
        assert desk.titles == []
        desk.deliver(Result.FAILED, "disk full")
        await desk.after(60)
        assert desk.titles == ["rates cannot deliver to file"]
        desk.fail(reason=Reason.SINK, times=3)  # which follows from it
        await desk.after(120)
        assert len(desk.titles) == 1
        desk.deliver(Result.DELIVERED)
        desk.succeed()
        await desk.after(120)
        assert desk.titles[1:] == ["rates delivers to file again"]

    async def test_dead_letters_are_counted_and_told_now_and_then(self) -> None:
        """Each is a loss; a hundred of them are one message."""
        desk = await Desk([job(**FILE, alerts={"reminder": "1h"})]).open()
        for _ in range(3):
            desk.deliver(Result.DEAD, "it said 400")
        await desk.after(60)
        desk.deliver(Result.DEAD, "it said 400")
        await desk.after(600)
        assert desk.titles == ["rates has given up 3 deliveries to file"]
        await desk.after(3600, step=60)
        assert desk.titles[1:] == ["rates has given up a delivery to file"]

    async def test_dead_letters_are_told_after_a_restart(self) -> None:
        """Those that nobody was told of before the process ended count as well."""
        desk = await Desk([job(**FILE)]).open()
        for _ in range(2):
            desk.deliver(Result.DEAD, "no such folder")
        desk = await desk.again()
        await desk.after(60)
        assert desk.titles == ["rates has given up 2 deliveries to file"]
        await (await desk.again(jobs=[job()])).after(60)
        assert await desk.store.notes(PREFIX) == {}

    async def test_a_sink_that_everything_was_given_up_for_does_not_deliver_again(self) -> None:
        """After a restart nothing is owed to it: that it takes anything nobody has seen."""
        desk = await Desk([job(**FILE)]).open()
        fetched = Fetched(200, "", "", {}, Body.of(b""))
        (owed,) = await desk.store.commit(Run("r1", "rates", START), fetched, ["file"], START)
        for _ in range(3):
            desk.deliver(Result.FAILED, "disk full")
        await desk.after(120)
        desk.store.buried(owed, 3, "disk full")
        desk = await desk.again()
        await desk.after(120)
        assert desk.titles == ["rates cannot deliver to file"]
        desk.store.delivered(owed)  # replayed, and taken
        desk = await desk.again()
        await desk.after(120)
        assert desk.titles[1:] == ["rates delivers to file again"]

    async def test_a_sink_that_is_gone_is_told_to_be(self) -> None:
        """Nobody can mend what there is no more; the job itself goes on."""
        desk = await Desk([job(**FILE, alerts={"after": 1})]).open()
        desk.deliver(Result.FAILED, "x")
        await desk.after(120)
        await desk.reload(job())
        await desk.after(120)
        assert desk.titles == ["rates cannot deliver to file", "rates no longer has the sink file"]
        assert await desk.store.notes("alerts/told/") == {}


class TestDaemon:
    """The daemon's own troubles."""

    async def test_what_lasts_is_told_with_its_end(self) -> None:
        """The disk is full, and then it is not."""
        desk = await Desk([job()], AlertOptions(reminder="1h")).open()
        desk.alerts.daemon("store", "the store cannot write: disk full")
        desk.alerts.daemon("store", "the store cannot write: disk full")
        await desk.after(600)
        assert desk.titles == ["the store cannot write: disk full"]
        desk.alerts.daemon_ok("store")
        desk.alerts.daemon_ok("config")
        await desk.after(600)
        assert desk.titles[1:] == ["over: the store cannot write: disk full"]

    async def test_what_it_is_asked_for_is_told(self) -> None:
        """The store says itself whether it can write."""
        desk = await Desk([job()]).open()
        wrong = [""]
        desk.alerts.watch("store", lambda: wrong[0])
        await desk.after(60)
        assert desk.titles == []
        wrong[0] = "disk full"
        await desk.after(120)
        wrong[0] = ""
        await desk.after(120)
        assert desk.titles == ["disk full", "over: disk full"]

    async def test_what_happened_is_told_and_counted(self) -> None:
        """A clock that is stepped each minute is not told each minute."""
        desk = await Desk([job()], AlertOptions(reminder="1h")).open()
        for _ in range(30):
            desk.alerts.daemon("clock", "the clock was stepped", lasting=False)
            await desk.after(60, step=20)
        assert desk.titles == ["the clock was stepped"]
        await desk.after(2400, step=60)
        assert desk.titles[1:] == ["the clock was stepped (29 times; this is the last one)"]

    async def test_it_says_how_long_it_was_down(self) -> None:
        """Nobody can tell while it is down; a short restart is nobody's business."""
        desk = await Desk([job()]).open()
        await desk.after(120)
        await desk.alerts.close(0.1)
        desk.clock.advance(200)
        desk = await desk.again()
        await desk.after(60)
        assert desk.titles == []
        desk.clock.advance(7200)
        desk = await desk.again()
        await desk.after(60)
        assert desk.titles == ["the daemon was down for 2h"]

    async def test_it_says_that_it_was_killed(self) -> None:
        """However soon it is back; one that is killed each minute says it no more often than people are reminded."""
        desk = await Desk([job()], AlertOptions(reminder="1h")).open()
        for _ in range(30):
            await desk.after(60, step=20)
            desk = await desk.again(killed=True)
        [title] = desk.titles
        assert title.startswith("the process before this one did not stop in order")
        await desk.after(2400, step=60)
        assert desk.titles[1:] == [f"{title} (29 times; this is the last one)"]

    async def test_starts_that_fail_are_no_further_kills(self) -> None:
        """Where its address is taken a service manager starts it every five seconds; it was killed and down once."""
        desk = await Desk([job()]).open()
        await desk.after(60)
        for _ in range(100):
            desk = await desk.again(killed=True)
            desk.clock.advance(5)
        desk = await desk.again(killed=True)
        await desk.after(60)
        [title] = desk.titles
        assert ("times" in title, title.endswith("; the daemon was down for 9m 15s")) == (False, True)

    async def test_starts_that_fail_do_not_forget_a_stall(self) -> None:
        """The stacks are read once, by the first of them; the one that succeeds tells of it, and no more than once."""
        desk = await Desk([job()]).open()
        await desk.after(60)
        await desk.alerts.load(desk.config, desk.boxes, stalled=True)
        for _ in range(3):
            desk = await desk.again(killed=True)
        await desk.after(120)
        [title] = desk.titles
        assert "stood still" in title
        desk = await desk.again(killed=True)
        await desk.after(120)
        assert "did not stop in order" in desk.titles[-1]

    @pytest.mark.parametrize("stalled", [False, True])
    async def test_what_became_of_the_process_before_is_one_thing(self, stalled: bool) -> None:
        """A loop that stood still is why the process was killed; after a stop in order there is nothing to tell."""
        desk = await Desk([job()]).open()
        await desk.after(60)
        assert await desk.alerts.load(desk.config, desk.boxes, stalled=stalled)
        await desk.after(60)
        [title] = desk.titles
        assert ("stood still" in title, "did not stop in order" in title) == (stalled, not stalled)
        await desk.alerts.close(0.1)
        assert await desk.alerts.load(desk.config, desk.boxes) == ""

    async def test_whom_it_tells_is_set_apart(self) -> None:
        """Those who run the machine need not be those who wait for results."""
        notifiers = {"ops": Kept(), "boss": Kept()}
        desk = await Desk([job(alerts={"notify": ["boss"]})], AlertOptions(notify=("ops",)), notifiers=notifiers).open()
        desk.alerts.daemon("config", "the configuration has findings")
        desk.fail(times=3)
        await desk.after(60)
        assert notifiers["ops"].titles == ["the configuration has findings"]
        assert notifiers["boss"].titles == ["rates is failing: http_5xx"]


class TestPosts:
    """Messages on their way."""

    async def test_one_that_is_not_taken_is_tried_again_over_restarts(self) -> None:
        """The network that is down for the jobs is down for the messages."""
        kept = Kept()
        desk = await Desk([job()], notifiers={"ops": kept}).open()
        kept.error = NotifyError("no network")
        desk.fail(times=3)
        with capture_logs() as logs:
            await desk.after(60)
        assert [line["attempts"] for line in logs if line["event"] == "alert_failed"] == [1, 2, 3, 4]
        desk = await desk.again()
        kept.error = None
        await desk.after(300)
        [message] = kept.messages
        assert message.title.endswith("rates is failing: http_5xx")
        assert "could not be before" not in message.text
        assert await desk.store.notes("alerts/queue/") == {}

    async def test_a_late_one_says_so(self) -> None:
        """Else old news would be taken for new."""
        kept = Kept()
        kept.error = NotifyError("no network")
        desk = await Desk([job()], notifiers={"ops": kept}).open()
        desk.fail(times=3)
        await desk.after(600)
        kept.error = None
        await desk.after(900)
        assert "This was to be told at 2026-03-02 12:00:15 UTC, and could not be before." in kept.messages[0].text

    @pytest.mark.parametrize("permanent", [True, False])
    async def test_one_is_given_up_in_the_end(self, permanent: bool) -> None:
        """Said as an error, for nobody else will; one that is refused as it is does not hold up the next."""
        kept = Kept()
        kept.error = NotifyError("it said 400", permanent=permanent)
        desk = await Desk([job()], AlertOptions(retry_for="10m"), notifiers={"ops": kept}).open()
        desk.fail(times=3)
        with capture_logs() as logs:
            await desk.after(1800, step=10)
        [dead] = [line for line in logs if line["event"] == "notification_dead"]
        assert (dead["log_level"], dead["notifier"], dead["message"]) == ("error", "ops", "it said 400")
        assert desk.posts.counts["ops", "dead"] == 1
        assert await desk.store.notes("alerts/queue/") == {}

    async def test_one_notifier_does_not_hold_up_another(self) -> None:
        """It is cut off at its deadline."""
        hung, well = Kept(), Kept()
        hung.hangs = True
        desk = await Desk([job()], notifiers={"hung": hung, "well": well}).open()
        desk.fail(times=3)
        with capture_logs() as logs:
            await desk.after(16)
        assert well.titles == ["rates is failing: http_5xx"]
        [failed] = [line for line in logs if line["event"] == "alert_failed"]
        assert (failed["notifier"], failed["message"]) == ("hung", "it was not taken within 0.05 s")

    async def test_nothing_is_sent_before_it_is_kept(self) -> None:
        """Who is killed in between would never tell that it is over; but a store that fails is itself to be told."""
        seen: list[str] = []

        class Order(MemoryStore):
            async def notes(self, prefix: str) -> Mapping[str, str]:
                seen.extend(["kept"] if "queue/ops" in prefix else [])
                return await super().notes(prefix)

        class Failing(MemoryStore):
            async def notes(self, prefix: str) -> Mapping[str, str]:
                raise StoreError("disk full")

        class Saying(Kept):
            async def notify(self, message: Message) -> None:
                seen.append("sent")

        for store in (Order(), Failing()):
            desk = await Desk([job()], store=store, notifiers={"ops": Saying()}).open()
            desk.fail(times=3)
            await desk.after(20)
        assert seen == ["kept", "sent", "sent"]

    async def test_what_waits_is_bounded(self) -> None:
        """What is dropped is counted in the next one; the newest is what counts."""
        desk = await Desk([job()]).open()
        for number in range(MOST + 7):
            desk.posts.put("ops", Message(str(number), START, "box", "info", f"m{number}", ""))
        await desk.posts.drain(1.0)
        messages = desk.notifiers["ops"].messages
        assert len(messages) == MOST
        assert messages[-1].id == str(MOST + 6)
        assert messages[0].dropped == 7
        assert messages[0].text == "7 messages before this one could not be told."

    async def test_those_for_a_notifier_that_is_gone_are_given_up(self) -> None:
        """And said to be."""
        kept = Kept()
        kept.error = NotifyError("x")
        desk = await Desk([job()], notifiers={"ops": kept}).open()
        desk.fail(times=3)
        await desk.after(30)
        desk.notifiers = {"other": Kept()}
        with capture_logs() as logs:
            desk.alerts.replace(desk.config, desk.boxes)
        assert [line["event"] for line in logs] == ["notification_dead"]
        assert await desk.store.notes("alerts/queue/") == {}

    async def test_it_sends_by_itself_and_wakes_at_once(self) -> None:
        """A message is not kept waiting for the next look."""
        kept = Kept()
        desk = await Desk([job()], notifiers={"ops": kept}).open()
        running = asyncio.create_task(desk.posts.run())
        await asyncio.sleep(0)
        desk.posts.put("ops", Message("1", START, "box", "info", "now", ""))
        async with asyncio.timeout(5):
            await kept.came.wait()
        running.cancel()
        assert desk.titles == ["now"]

    async def test_notes_of_another_version_are_no_obstacle(self) -> None:
        """A daemon that did not start over its own notes would be the worst of all alarms."""
        desk = Desk([job()])
        desk.store.note("alerts/queue/ops", '[{"version": 9}]')
        desk.store.note("alerts/told/rates/failing", "{}")
        desk.store.note("alerts/alive", "yesterday")
        with capture_logs() as logs:
            await desk.open()
        assert [line["event"] for line in logs] == ["notes_unreadable", "notes_unreadable"]

    async def test_a_test_says_who_was_reached(self) -> None:
        """Before it is needed."""
        bad = Kept()
        bad.error = NotifyError("answered 404")
        desk = Desk([job()], notifiers={"ops": Kept(), "bad": bad})
        assert await try_notifiers(desk.boxes, "box", START) == {"ops": "", "bad": "answered 404"}
        assert desk.titles == ["this is a test"]


async def test_stopping_tells_what_waits() -> None:
    """The wait for more is over: there will be no more."""
    desk = await Desk([job()]).open()
    desk.fail(times=3)
    await desk.alerts.close(1.0)
    assert desk.titles == ["rates is failing: http_5xx"]
    desk = await desk.again()
    await desk.after(60)
    assert len(desk.titles) == 1


async def test_no_message_and_no_note_holds_a_secret() -> None:
    """Error texts repeat what an upstream has sent, and people forward messages."""
    desk = await Desk([job(**FILE)], redact=Redactor(["s3cret-canary"])).open()
    desk.fail(times=3, message=f"{'x' * 290} s3cret-canary said\x1b[31m \u202e no")
    desk.deliver(Result.DEAD, "s3cret-canary")
    desk.alerts.daemon("store", "s3cret-canary")
    kept = desk.notifiers["ops"]
    kept.error = NotifyError("x")
    await desk.after(60)
    notes = await desk.store.notes("alerts/")
    assert json.loads(notes["alerts/queue/ops"])
    assert "s3c" not in json.dumps(dict(notes))
    kept.error = None
    await desk.after(60)
    text = kept.messages[0].to_json().decode()
    assert "s3c" not in text
    assert "\x1b" not in kept.messages[0].plain()


@pytest.mark.parametrize(
    ("seconds", "words"), [(0, "0s"), (59, "59s"), (60, "1m"), (3661, "1h 1m"), (90000, "1d 1h"), (86400 * 3, "3d")]
)
def test_times_are_said_as_people_say_them(seconds: int, words: str) -> None:
    """Two units are enough."""
    assert lasted(START, START + timedelta(seconds=seconds)) == words


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("fail"), st.sampled_from("ab"), st.sampled_from([Reason.HTTP_5XX, Reason.DNS])),
        st.tuples(st.just("succeed"), st.sampled_from("ab")),
        st.tuples(st.just("overdue"), st.sampled_from("ab")),
        st.tuples(st.just("restart"), st.sampled_from(["a", "b", "another"])),
        st.tuples(st.just("reload"), st.sampled_from(["", "a", "b", "ab"])),
        st.tuples(st.just("wait"), st.sampled_from([5, 20, 90])),
    ),
    max_size=40,
)


@given(steps=STEPS)
def test_whatever_happens_nothing_is_told_twice_and_all_is_told_to_be_over(steps: list[tuple[Any, ...]]) -> None:
    """Over any course of failures, silences, successes, restarts, and jobs that are taken away and come back."""
    asyncio.run(_course(steps))


def _assert_each_once_and_over(messages: list[Message]) -> None:
    known: dict[tuple[str, str], bool] = {}
    for message in messages:
        for part in (*message.jobs, *message.daemon):
            key = (part.get("job", ""), part["kind"])
            if part["change"] == "over":
                over = {kind for job, kind in known if job == key[0] and known[job, kind]}
                assert over, message
                known.update(dict.fromkeys(((key[0], kind) for kind in over), False))
            else:
                assert part["change"] == "new"
                assert not known.get(key), message
                known[key] = True
    assert not any(known.values())


async def _course(steps: list[tuple[Any, ...]]) -> None:
    jobs = [job("a", "https://a.test/", alerts={"after": 2}), job("b", "https://b.test/")]
    desk = await Desk(jobs).open()
    for what, *how in steps:
        if what == "fail":
            desk.fail(how[0], how[1])
        elif what == "succeed":
            desk.overdue.pop(how[0], None)
            desk.succeed(how[0])
        elif what == "overdue":
            desk.overdue[how[0]] = desk.clock.now()
            desk.alerts.replace(desk.config, desk.boxes)
        elif what == "reload":
            await desk.reload(*(one for one in jobs if one.name in how[0]))
        elif what == "restart":
            desk.store.forgive(how[0])  # as a reload before it does
            desk = await desk.again()
        else:
            await desk.after(how[0])
    desk.overdue.clear()
    await desk.reload(*jobs)
    for name in "ab":
        desk.succeed(name)
    await desk.after(800, step=10)
    _assert_each_once_and_over(desk.notifiers["ops"].messages)
    assert await desk.store.notes("alerts/told/") == {}
    assert Posts(desk.store, desk.clock).names == ()


async def test_nobody_is_told_that_a_silent_job_does_well_unless_it_does() -> None:
    """Pausing it, or giving it other times, ends the silence by its clock; that it works nobody has seen."""
    desk = Desk([job()])
    desk.overdue["rates"] = START + timedelta(seconds=100)
    await desk.open()
    await desk.after(150)
    assert desk.titles == ["rates is overdue"]
    desk.store.pause("rates", True)
    await desk.after(60)
    desk.store.pause("rates", False)
    desk.overdue["rates"] = FAR
    await desk.after(300)
    desk = await desk.again()
    await desk.after(120)
    assert desk.titles == ["rates is overdue"]
    desk.succeed()
    await desk.after(120)
    assert desk.titles == ["rates is overdue", "rates does well again"]


@pytest.mark.parametrize("why", [Reason.HTTP_5XX, Reason.SINK])
async def test_nobody_is_told_over_a_restart_that_a_failing_job_does_well_unless_it_does(why: Reason) -> None:
    """A reload forgives it its failures, and those of its sinks never counted as such; neither is a success."""
    desk = await Desk([job(alerts={"after": 1})]).open()
    desk.succeed()
    await desk.after(60)
    desk.fail(reason=why, times=3)
    await desk.after(60)
    desk.store.forgive("rates")
    desk.fail(reason=why)
    desk = await desk.again()
    await desk.after(14400)
    assert desk.titles == [f"rates is failing: {why}", f"rates is still failing: {why}"]
    assert "3 in a row since" in desk.notifiers["ops"].messages[-1].text
    desk.succeed()
    desk = await desk.again()
    await desk.after(120)
    assert desk.titles[2:] == ["rates does well again"]
