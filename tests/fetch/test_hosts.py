"""Turns at a host: how many at once, how far apart, in which order, and none while it wants none."""

from __future__ import annotations

import asyncio
import random
from contextlib import ExitStack
from itertools import pairwise
from typing import Any

import httpx
import pytest

from fetchd.fetch.exchange import Exchange, Limits
from fetchd.fetch.failures import HostHeldError
from fetchd.fetch.holds import REMEMBERED_AT_MOST
from fetchd.fetch.hosts import Hosts
from fetchd.fetch.turns import HostLimits, Turn
from fetchd.run import Progress
from tests.fetch.room import job
from tests.fetch.timing import Timing

NAME = "api.test"


class Polite:
    """Hosts under a clock that the test moves. ``starts`` are the names of exchanges and when they began."""

    def __init__(self, **limits: Any) -> None:
        self.timing = Timing()
        self.hosts = Hosts({NAME: HostLimits(**limits)}, self.timing.clock, self.timing.later)
        self.starts: list[tuple[str, float]] = []
        self.refused: list[str] = []

    @property
    def order(self) -> list[str]:
        """Who has started, in order."""
        return [who for who, _ in self.starts]

    def run_turn(self) -> Turn:
        """Return a turn for a Run."""
        turn = self.hosts.turn(NAME)
        assert turn is not None
        return turn

    async def exchange(self, who: str, takes: float = 0.0, turn: Turn | None = None, name: str = NAME) -> None:
        """Have an exchange that takes so many seconds."""
        exchange = Exchange(Limits.of(job("http://unused.test")), Progress())
        exchange.turn = turn
        with ExitStack() as held:
            try:
                await self.hosts.start(name, exchange, held)
            except HostHeldError:
                self.refused.append(who)
                return
            self.starts.append((who, self.timing.now))
            await self.timing.sleep(takes)

    async def run(self, who: str, takes: float = 0.0, elsewhere: float = 0.0) -> None:
        """Have a Run of one exchange, that waits so many seconds elsewhere between its turn and its start."""
        turn = self.run_turn()
        try:
            await turn.taken()
            await self.timing.sleep(elsewhere)
            await self.exchange(who, takes, turn)
        finally:
            turn.release()


def together(*coroutines: Any) -> list[asyncio.Task[None]]:
    """Begin all of them, in order."""
    return [asyncio.create_task(coroutine) for coroutine in coroutines]


@pytest.mark.parametrize("kind", ["exchange", "run"])
async def test_places(kind: str) -> None:
    """No more at one time than the host bears, and first come, first served."""
    polite = Polite(max_concurrent=2)
    tasks = together(*(getattr(polite, kind)(str(number), 1.0) for number in range(6)))
    await polite.timing.advance(10)
    assert polite.starts == [("0", 0), ("1", 0), ("2", 1), ("3", 1), ("4", 2), ("5", 2)]
    await asyncio.gather(*tasks)


@pytest.mark.parametrize("kind", ["exchange", "run"])
async def test_spacing(kind: str) -> None:
    """From start to start, however long each takes, and without a drift of its own."""
    polite = Polite(min_spacing=0.25)
    tasks = together(*(getattr(polite, kind)(str(number), 3.0) for number in range(50)))
    await polite.timing.advance(60)
    assert polite.starts == [(str(number), number * 0.25) for number in range(50)]
    await asyncio.gather(*tasks)


async def test_spacing_is_not_saved_up() -> None:
    """A host that was left alone for an hour is not asked twice at once."""
    polite = Polite(min_spacing=1.0)
    first = together(polite.exchange("first"))
    await polite.timing.advance(3600)
    tasks = together(*(polite.run(str(number)) for number in range(3)))
    await polite.timing.advance(10)
    assert [when - 3600 for _, when in polite.starts[1:]] == [0, 1, 2]
    await asyncio.gather(*first, *tasks)


async def test_both_limits() -> None:
    """Whichever is the stricter one at the moment."""
    polite = Polite(max_concurrent=1, min_spacing=1.0)
    tasks = together(polite.run("a", 3.0), polite.run("b", 0.5), polite.run("c", 0.5))
    await polite.timing.advance(10)
    assert polite.starts == [("a", 0), ("b", 3), ("c", 4)]
    await asyncio.gather(*tasks)


@pytest.mark.parametrize(
    "limits", [{"max_concurrent": 1}, {"min_spacing": 1.0}, {"max_concurrent": 1, "min_spacing": 1.0}]
)
@pytest.mark.parametrize("kind", ["exchange", "run"])
async def test_who_leaves_gives_the_turn_on(limits: dict[str, Any], kind: str) -> None:
    """A Run that is cancelled while it waits must not hold up those behind it."""
    polite = Polite(**limits)
    tasks = together(*(getattr(polite, kind)(str(number), 1.0) for number in range(6)))
    await polite.timing.settle()
    for task in (tasks[1], tasks[2], tasks[4]):
        task.cancel()
    await polite.timing.advance(10)
    assert polite.starts == [("0", 0), ("3", 1), ("5", 2)]
    assert [task.cancelled() for task in tasks] == [False, True, True, False, True, False]


async def test_who_leaves_with_a_turn_gives_it_back_whole() -> None:
    """It has asked nothing: the next one need not wait as if it had."""
    polite = Polite(min_spacing=10.0)
    turn = polite.run_turn()
    await turn.taken()
    tasks = together(polite.run("next"))
    await polite.timing.settle()
    assert polite.starts == []
    turn.release()
    turn.release()
    await polite.timing.settle()
    assert polite.starts == [("next", 0)]
    await asyncio.gather(*tasks)


async def test_cancelled_in_the_moment_of_the_turn() -> None:
    """Given and cancelled within one turn of the loop: it goes on to the next one."""
    polite = Polite(max_concurrent=1)
    first = polite.run_turn()
    await first.taken()
    tasks = together(polite.run("second"), polite.run("third"))
    await polite.timing.settle()
    first.release()
    tasks[0].cancel()
    await polite.timing.settle()
    assert polite.order == ["third"]


async def test_a_run_waits_once() -> None:
    """Its exchange begins with the turn that it has waited for already; the next ones wait for their own."""
    polite = Polite(max_concurrent=1, min_spacing=5.0)
    turn = polite.run_turn()
    await turn.taken()
    await polite.timing.advance(1)
    tasks = together(polite.exchange("first", 1.0, turn), polite.exchange("other", 1.0))
    await polite.timing.advance(2)
    assert polite.starts == [("first", 1)]
    tasks += together(polite.exchange("second", 0.0, turn))
    await polite.timing.advance(20)
    assert polite.starts == [("first", 1), ("other", 6), ("second", 11)]
    turn.release()
    await asyncio.gather(*tasks)


async def test_runs_that_have_begun_go_first() -> None:
    """The second page of one Run does not queue behind fifty Runs that are yet to begin: its deadline runs."""
    polite = Polite(max_concurrent=1)
    tasks = together(polite.run("a", 1.0), *(polite.run(str(number), 1.0) for number in range(5)))
    await polite.timing.settle()
    tasks += together(polite.exchange("page", 1.0))
    await polite.timing.advance(10)
    assert polite.order == ["a", "page", "0", "1", "2", "3", "4"]
    await asyncio.gather(*tasks)


async def test_a_place_that_is_not_used_is_lent() -> None:
    """A Run with a turn may wait for the very Run whose next page waits for a place."""
    polite = Polite(max_concurrent=1)
    turn = polite.run_turn()
    await turn.taken()
    tasks = together(polite.exchange("page", 1.0))
    await polite.timing.settle()
    assert polite.order == ["page"]
    tasks += together(polite.exchange("first", 1.0, turn))
    await polite.timing.advance(5)
    assert polite.starts == [("page", 0), ("first", 1)]
    turn.release()
    await asyncio.gather(*tasks)
    await assert_whole(polite, 1)


async def test_runs_that_were_held_up_elsewhere_do_not_start_together() -> None:
    """The machine was busy for a while; the host must not be asked by all of them at once for that."""
    polite = Polite(min_spacing=1.0)
    tasks = together(*(polite.run(str(number), elsewhere=10.0 - number) for number in range(5)))
    await polite.timing.advance(30)
    times = sorted(when for _, when in polite.starts)
    assert len(times) == 5
    assert all(later - earlier >= 1.0 for earlier, later in pairwise(times))
    await asyncio.gather(*tasks)


async def test_a_run_that_is_given_up_gives_its_place_back() -> None:
    """Its exchange may hang on for ever; it counts once, whoever gives it back first."""
    polite = Polite(max_concurrent=1)
    turn = polite.run_turn()
    await turn.taken()
    tasks = together(polite.exchange("stuck", 100.0, turn), polite.run("next", 1.0))
    await polite.timing.advance(5)
    turn.release()
    await polite.timing.advance(200)
    assert polite.starts == [("stuck", 0), ("next", 5)]
    await asyncio.gather(*tasks)
    await assert_whole(polite, 1)


async def test_a_host_that_wants_no_request() -> None:
    """Those who wait are told at once, Runs and exchanges; later ones too, until the time is over."""
    polite = Polite(max_concurrent=1)
    tasks = together(polite.exchange("busy", 2.0), polite.exchange("waiting"), polite.run("run"))
    await polite.timing.advance(1)
    polite.hosts.hold(NAME, 5.0)
    await polite.timing.settle()
    assert (polite.order, polite.refused) == (["busy"], ["waiting", "run"])
    await polite.timing.advance(4.5)
    tasks += together(polite.exchange("early"))
    await polite.timing.advance(0.5)
    tasks += together(polite.exchange("in time"))
    await polite.timing.settle()
    assert polite.starts == [("busy", 0), ("in time", 6)]
    assert polite.refused == ["waiting", "run", "early"]
    await asyncio.gather(*tasks)
    await assert_whole(polite, 1)


async def test_a_turn_whose_host_is_held_meanwhile() -> None:
    """Between the turn and the exchange another job was told to stay away."""
    polite = Polite(max_concurrent=1, min_spacing=1.0)
    turn = polite.run_turn()
    await turn.taken()
    polite.hosts.hold(NAME, 5.0)
    await polite.exchange("late", turn=turn)
    turn.release()
    assert (polite.order, polite.refused) == ([], ["late"])
    await polite.timing.advance(5)
    await assert_whole(polite, 1)


def test_the_longest_time_holds() -> None:
    """Fifty jobs are each told a time; the last answer is not the only one that counts."""
    polite = Polite()
    for seconds in (3.0, 5.0, 1.0, 0.0, -1.0):
        polite.hosts.hold(NAME, seconds)
    assert polite.hosts.left(NAME) == 5.0
    polite.timing.clock.advance(4)
    assert polite.hosts.left(NAME) == 1.0
    polite.timing.clock.advance(4)
    assert polite.hosts.left(NAME) == 0.0


def test_what_the_refusal_says() -> None:
    """Which host, and until when."""
    polite = Polite()
    polite.hosts.hold(NAME, 90.0)
    error = polite.hosts.refusal(NAME)
    assert str(error) == "api.test asked for no request before 2026-01-01T00:01:30+00:00"
    assert (error.reason, error.transient, error.retry_after) == ("http_429", True, 90.0)


@pytest.mark.parametrize(
    ("limited", "url", "name"),
    [
        ("", "https://api.test/", "api.test"),
        ("", "https://api.test:8443/", "api.test:8443"),
        ("", "http://[::1]:8080/", "[::1]:8080"),
        ("other.test", "https://api.test/", "api.test"),
        ("api.test", "https://api.test/", "api.test"),
        ("api.test", "https://api.test:8443/", "api.test"),
        ("api.test:8443", "https://api.test:8443/", "api.test:8443"),
        ("api.test:8443", "https://api.test/", "api.test"),
        ("api.test:443", "https://api.test/", "api.test:443"),
        ("api.test:443", "http://api.test/", "api.test"),
        ("[::1]:8080", "http://[::1]:8080/", "[::1]:8080"),
        ("::1", "http://[::1]:8080/", "::1"),
        ("münchen.test:81", "http://xn--mnchen-3ya.test:81/", "xn--mnchen-3ya.test:81"),
        ("api.test", "https://api.test./", "api.test"),
        ("api.test", "https://API.Test/", "api.test"),
        ("::1", "http://[0:0:0::0001]/", "::1"),
        ("", "http://[0:0:0::0001]:81/", "[::1]:81"),
    ],
)
def test_servers_at_several_ports_are_apart(limited: str, url: str, name: str) -> None:
    """What one service of a machine asks for is no word of its neighbours, unless limits name the whole host."""
    hosts = Hosts({limited: HostLimits(max_concurrent=1)} if limited else {}, Timing().clock)
    assert hosts.name(httpx.URL(url)) == name
    assert (hosts.turn(name) is not None) == (name == limited or limited.startswith("m"))


async def test_a_time_outlives_another_name() -> None:
    """Whoever has been told to ask less writes limits for the whole host: what one of its ports has asked holds on."""
    polite = Polite()
    polite.hosts.hold("api.test:8443", 60.0)
    polite.hosts.hold("other.test:8443", 60.0)
    polite.hosts.replace({"api.test": HostLimits(max_concurrent=1)})
    name = polite.hosts.name(httpx.URL("https://api.test:8443/"))
    assert (name, polite.hosts.left(name), polite.hosts.left("other.test:8443")) == ("api.test", 60.0, 60.0)


async def test_hosts_without_limits_any_more_are_let_go_of() -> None:
    """Once nobody is there and nothing holds: any number of reloads may each name other hosts."""
    polite = Polite(max_concurrent=1)
    url = httpx.URL("https://api.test:8443/")
    task = together(polite.exchange("there", 10.0))
    await polite.timing.settle()
    for passed, name in ((0, NAME), (10, NAME), (30, "api.test:8443")):
        await polite.timing.advance(passed)
        polite.hosts.replace({})
        assert polite.hosts.name(url) == name
        if passed == 0:
            polite.hosts.hold(NAME, 30.0)
    await asyncio.gather(*task)


async def test_hosts_without_limits_cost_nothing() -> None:
    """Nothing to wait for, nothing to give back, nothing kept."""
    hosts = Hosts({"idle.test": HostLimits()}, Timing().clock)
    with ExitStack() as held:
        for name in ("idle.test", "other.test"):
            await hosts.start(name, Exchange(Limits.of(job("http://unused.test")), Progress()), held)
            assert hosts.turn(name) is None
            assert hosts.left(name) == 0.0
    assert hosts.remembered == 0


async def test_hosts_that_have_named_a_time_are_forgotten_after_it() -> None:
    """Redirects may lead to any number of hosts, each of which may name a time."""
    polite = Polite(max_concurrent=1)
    for number in range(REMEMBERED_AT_MOST + 10):
        polite.hosts.hold(f"host{number}.test", 10.0 + number)
    assert polite.hosts.left("host0.test") == 0.0
    assert polite.hosts.left(f"host{REMEMBERED_AT_MOST}.test") > 0
    assert polite.hosts.remembered == REMEMBERED_AT_MOST
    polite.timing.clock.advance(3 * REMEMBERED_AT_MOST)
    await polite.exchange("again", name=f"host{REMEMBERED_AT_MOST}.test")
    assert (polite.order, polite.hosts.remembered) == (["again"], REMEMBERED_AT_MOST - 1)


async def test_hosts_without_limits_name_times_too() -> None:
    """It takes no table for a host to be left alone."""
    polite = Polite(max_concurrent=1)
    polite.hosts.hold("other.test", 5.0)
    assert polite.hosts.turn("other.test") is None
    await polite.exchange("early", name="other.test")
    polite.timing.clock.advance(5)
    await polite.exchange("in time", name="other.test")
    assert (polite.refused, polite.order) == (["early"], ["in time"])


async def test_limits_are_raised() -> None:
    """A reload lets those go on who may by now."""
    polite = Polite(max_concurrent=1)
    tasks = together(*(polite.run(str(number), 10.0) for number in range(4)))
    await polite.timing.advance(1)
    polite.hosts.replace({NAME: HostLimits(max_concurrent=3)})
    await polite.timing.advance(1)
    assert polite.starts == [("0", 0), ("1", 1), ("2", 1)]
    polite.hosts.replace({})
    await polite.timing.advance(30)
    assert polite.starts[3] == ("3", 2)
    await asyncio.gather(*tasks)


async def test_limits_are_lowered() -> None:
    """Who is there stays, and counts."""
    polite = Polite(max_concurrent=3)
    tasks = together(*(polite.run(str(number), 10.0 + number) for number in range(4)))
    await polite.timing.advance(1)
    polite.hosts.replace({NAME: HostLimits(max_concurrent=1)})
    await polite.timing.advance(30)
    assert polite.starts == [("0", 0), ("1", 0), ("2", 0), ("3", 12)]
    await asyncio.gather(*tasks)
    await assert_whole(polite, 1)


async def test_spacing_is_shortened() -> None:
    """Nobody waits out what was in the file before."""
    polite = Polite(min_spacing=3600.0)
    tasks = together(polite.run("a"), polite.run("b"))
    await polite.timing.advance(5)
    polite.hosts.replace({NAME: HostLimits(min_spacing=1.0)})
    await polite.timing.advance(5)
    assert polite.starts == [("a", 0), ("b", 6)]
    await asyncio.gather(*tasks)


async def test_a_reload_does_not_forget_a_named_time() -> None:
    """Nor does it take a table to keep one."""
    polite = Polite(max_concurrent=1)
    polite.hosts.hold(NAME, 60.0)
    polite.hosts.hold("other.test", 60.0)
    polite.hosts.replace({})
    assert polite.hosts.left(NAME) == 60.0
    polite.hosts.replace({NAME: HostLimits(max_concurrent=2), "other.test": HostLimits(max_concurrent=2)})
    assert polite.hosts.left(NAME) == polite.hosts.left("other.test") == 60.0


@pytest.mark.parametrize("seed", range(8))
async def test_everything_is_given_back(seed: int) -> None:
    """After a thousand Runs and exchanges, cut off at any moment, the host is as it was; its limits held throughout."""
    dice = random.Random(seed)
    polite = Polite(max_concurrent=3, min_spacing=0.125)
    tasks: list[asyncio.Task[None]] = []
    for number in range(120):
        kind = dice.choice([polite.run, polite.exchange])
        tasks += together(kind(str(number), dice.choice([0.0, 0.1, 1.0])))
        for _ in range(dice.randrange(6)):
            await asyncio.sleep(0)
        dice.choice(tasks).cancel()
        if dice.random() < 0.1:
            polite.hosts.hold(NAME, 0.5)
        if dice.random() < 0.5:
            await polite.timing.advance(dice.choice([0.05, 0.125, 0.5]))
    await polite.timing.advance(300)
    await asyncio.wait(tasks)
    times = [when for _, when in polite.starts]
    assert all(later - earlier >= 0.125 - 1e-6 for earlier, later in pairwise(times))
    assert len(times) > 10
    await assert_whole(polite, 3)


async def assert_whole(polite: Polite, places: int) -> None:
    """Have as many exchanges at once as there are places, and one more: a lost place would show, or one too many."""
    polite.starts.clear()
    await polite.timing.advance(100)
    tasks = together(*(polite.exchange(str(number), 10.0) for number in range(places + 1)))
    await polite.timing.advance(9)
    assert len(polite.starts) == places
    await polite.timing.advance(30)
    assert len(polite.starts) == places + 1
    await asyncio.gather(*tasks)
