"""When people are told that something is over: once it lasts, and also where it is over because it was taken away."""

from __future__ import annotations

from datetime import timedelta

import pytest
from structlog.testing import capture_logs

from fetchd.alerts.options import Maintenance
from fetchd.errors import Reason
from fetchd.notifiers.message import NotifyError
from fetchd.watch import Result
from tests.alerted import START, Desk, Kept, job

FILE = {"sinks": [{"kind": "file"}]}


class TestGone:
    """Whoever was told of a job is not left with it for ever once it is taken away."""

    SAID = "is no longer in the configuration"

    @pytest.mark.parametrize("how", ["reload", "restart"])
    @pytest.mark.parametrize("kind", ["failing", "overdue"])
    async def test_a_job_that_is_gone_is_told_to_be(self, how: str, kind: str) -> None:
        """By a reload or between two processes; also under another name, which begins without a history."""
        desk = Desk([job()])
        if kind == "overdue":
            desk.overdue["rates"] = START
        await desk.open()
        if kind == "failing":
            desk.fail(times=3)
        await desk.after(60)
        renamed = job("prices")
        with capture_logs() as logs:
            desk = await desk.again(jobs=[renamed]) if how == "restart" else await desk.reload(renamed)
            await desk.after(120)
        assert desk.titles[1:] == [f"rates {self.SAID}"]
        message = desk.notifiers["ops"].messages[1]
        assert message.state == "recovered"
        assert message.text == "that ends its trouble, since 2026-03-02 12:00:00 UTC"
        assert [(part["job"], part["kind"], part["change"], part["message"]) for part in message.jobs] == [
            ("rates", kind, "over", f"it {self.SAID}")
        ]
        assert [(line["event"], line["was"]) for line in logs if "was" in line] == [("job_removed", kind)]
        assert await desk.store.notes("alerts/told/") == {}
        desk.fail("prices", times=3)
        await desk.after(60)
        assert desk.titles[2:] == ["prices is failing: http_5xx"]

    async def test_many_are_one_message(self) -> None:
        """Beside those of other kinds."""
        desk = await Desk([job("a", **FILE), job("b"), job("c")]).open()
        for name in "abc":
            desk.fail(name, times=3)
        await desk.after(60)
        desk.deliver(Result.FAILED, "x", "a")
        await desk.after(120)
        desk.deliver(Result.FAILED, "x", "a")
        await desk.reload(job("c"))
        desk.succeed("c")
        await desk.after(120)
        assert desk.titles[-1] == f"2 jobs {self.SAID.replace('is', 'are')}; c does well again"

    async def test_who_was_told_nothing_is_told_nothing(self) -> None:
        """Neither of a job that had not failed often enough, nor of one that is back before anybody could be told."""
        desk = await Desk([job("a", "https://a.test/"), job("b", alerts={"recovery": False}), job("c")]).open()
        desk.fail("a", times=2)
        desk.fail("b", times=3)
        desk.fail("c", times=3)
        await desk.after(60)
        await desk.reload(job("d"))
        await desk.reload(job("c"))
        await desk.after(120)
        assert desk.titles == ["2 jobs are failing: http_5xx (2)"]
        desk = await desk.again()
        await desk.after(120)
        assert len(desk.titles) == 1

    async def test_one_that_was_offline_is_not_told_of_by_name(self) -> None:
        """Nobody was."""
        jobs = [job(name, f"https://{name}.test/") for name in "ab"]
        desk = await Desk(jobs).open()
        for name in "ab":
            desk.fail(name, Reason.DNS, times=3)
        await desk.after(60)
        await desk.reload(jobs[1])
        await desk.after(120)
        assert len(desk.titles) == 1

    async def test_it_waits_for_the_end_of_maintenance(self) -> None:
        """As each recovery does."""
        window = Maintenance(start=START + timedelta(minutes=5), end=START + timedelta(minutes=10))
        desk = await Desk([job()], maintenance=[window]).open()
        desk.fail(times=3)
        await desk.after(310)
        await desk.reload()
        await desk.after(280)
        assert len(desk.titles) == 1
        await desk.after(60)
        assert desk.titles[1:] == [f"rates {self.SAID}"]

    @pytest.mark.parametrize("gone", [False, True])
    @pytest.mark.parametrize("restart", [False, True])
    async def test_the_end_is_told_to_those_who_know(self, gone: bool, restart: bool) -> None:
        """Whoever is to be told by now: a new one would learn only that what it never heard of is over."""
        notifiers = {"ops": Kept(), "chat": Kept(), "pager": Kept()}
        desk = await Desk([job(alerts={"notify": ["chat"]})], notifiers=notifiers).open()
        desk.fail(times=3)
        await desk.after(60)
        desk = await desk.reload(job(alerts={"notify": ["pager"]}))
        if restart:
            desk = await desk.again()
        if gone:
            await desk.reload()
        desk.succeed()
        await desk.after(120)
        end = f"rates {self.SAID}" if gone else "rates does well again"
        assert notifiers["chat"].titles == ["rates is failing: http_5xx", end]
        assert notifiers["pager"].titles == notifiers["ops"].titles == []

    async def test_who_is_reminded_knows(self) -> None:
        """One that has become the receiver meanwhile."""
        notifiers = {"chat": Kept(), "pager": Kept()}
        desk = await Desk([job(alerts={"notify": ["chat"]})], notifiers=notifiers).open()
        desk.fail(times=3)
        await desk.after(60)
        await desk.reload(job(alerts={"notify": ["pager"], "reminder": "5m"}))
        await desk.after(300)
        assert notifiers["pager"].titles == ["rates is still failing: http_5xx"]
        desk.succeed()
        await desk.after(120)
        assert notifiers["chat"].titles[1:] == notifiers["pager"].titles[1:] == ["rates does well again"]

    @pytest.mark.parametrize("restart", [False, True])
    async def test_where_none_of_those_who_know_is_left_others_are_told(self, restart: bool) -> None:
        """Of what is still so: a message that waits for a notifier which is replaced, because it fails, is given up."""
        chat, pager = Kept(), Kept()
        chat.error = NotifyError("no such channel")
        desk = await Desk([job("a"), job("b"), job("c")], notifiers={"chat": chat}).open()
        for name in "abc":
            desk.fail(name, times=3)
        await desk.after(60)
        desk.succeed("b")
        desk.notifiers = {"pager": pager}
        jobs = [job("a"), job("b")]
        desk = await desk.again(jobs=jobs) if restart else await desk.reload(*jobs)
        await desk.after(120)
        assert pager.titles == ["a is failing: http_5xx"]
        desk.succeed("a")
        await desk.after(120)
        assert pager.titles[1:] == ["a does well again"]
        assert await desk.store.notes("alerts/told/") == {}


class TestComingAndGoing:
    """What fails and recovers, time and again, is told as failing, and not each time."""

    @pytest.mark.parametrize(("after", "every"), [(1, 60), (1, 300), (3, 60)])
    async def test_a_few_messages_are_enough(self, after: int, every: int) -> None:
        """It is told as mended when it has lasted; each time would be a message a minute."""
        desk = await Desk([job(alerts={"after": after})]).open()
        for _ in range(3600 // every):
            for _ in range(after):
                desk.fail()
                await desk.after(every)
            desk.succeed()
            await desk.after(every)
        failing = "rates is failing: http_5xx"
        assert desk.titles == [failing, "rates does well again", failing]
        await desk.after(700)
        assert desk.titles[3:] == ["rates does well again"]

    async def test_what_comes_again_much_later_is_told_as_ever(self) -> None:
        """Two outages in a day have nothing to do with one another."""
        desk = await Desk([job()]).open()
        for _ in range(2):
            desk.fail(times=3)
            await desk.after(60)
            desk.succeed()
            await desk.after(60)
            await desk.after(3600, step=60)
        assert desk.titles == ["rates is failing: http_5xx", "rates does well again"] * 2
