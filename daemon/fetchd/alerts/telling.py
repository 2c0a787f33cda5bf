"""Watches what happens, and has people told: together what happens together, and each thing once."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from fetchd.alerts.happenings import Happenings
from fetchd.alerts.memory import ALIVE, NOT_FAILED, RUNS, became, forget, keep, recalled
from fetchd.alerts.posts import Box, Posts
from fetchd.alerts.rules import Rules, Told
from fetchd.alerts.said import say
from fetchd.alerts.troubles import (
    DAEMON,
    FAILING,
    NO_CONTACT,
    OFFLINE,
    OVERDUE,
    SINK,
    Change,
    Key,
    News,
    Policy,
    Trouble,
    Troubles,
    offline,
)
from fetchd.alerts.words import Redact, compose, reasons
from fetchd.clock import Clock
from fetchd.errors import Reason
from fetchd.job import Job
from fetchd.run import Delivery, Report, new_run_id
from fetchd.store import Memory, Store
from fetchd.watch import Result, Unwatched

TICK: Final = 1.0
LOOK_EVERY: Final = 10.0
"""Seconds between two looks at what is wrong where nothing happens: for reminders, and for ends of maintenance."""
OVERDUE_EVERY: Final = 30.0
"""Seconds between two looks at a job that is overdue, or paused."""
OVERDUE_AT_ONCE: Final = 100
"""Jobs that are looked at in one turn of the loop: a cron expression takes a moment to follow."""
ALIVE_EVERY: Final = 60.0

OverdueSince = Callable[[Job, Memory], datetime]
"""Returns the instant at which a job becomes, or became, overdue."""


@dataclass(frozen=True, slots=True)
class Teller:
    """Who speaks, and what is not to be said: this machine's name, and what takes secrets out of a text."""

    host: str
    redact: Redact


class Alerts(Unwatched):
    """Tells people of jobs, of sinks and of the daemon. What it is told itself costs its caller nothing to speak of."""

    def __init__(self, store: Store, clock: Clock, overdue_since: OverdueSince, posts: Posts, teller: Teller) -> None:
        self._conditions: dict[str, Callable[[], str]] = {}
        self._store = store
        self._clock = clock
        self._overdue_since = overdue_since
        self._posts = posts
        self._teller = teller
        self._rules = Rules()
        self._troubles = Troubles()
        self._happenings = Happenings(store, clock, teller.redact)
        self._looks: list[tuple[datetime, str]] = []
        self._looked = clock.now()
        self._contact: datetime | None = None
        self._poked = False
        self._look_at = self._alive_at = self._earliest = float("-inf")
        self._tell_at: float | None = None
        self._before: Sequence[tuple[str, str]] = ()

    async def load(self, told: Told, boxes: Mapping[str, Box], *, stalled: bool = False) -> str:
        """Learn what people know already; to be called once, before the first Run.

        ``stalled`` says that the process before this one was ended for its loop. Return what became of that process,
        in words; "" if it stopped in order and there is nothing to be told.
        """
        await self._posts.load()
        await self._happenings.load()
        self.replace(told, boxes)
        self._troubles.by_key = await recalled(self._store, self._rules.jobs)
        self._look_for_gone()
        self.daemon_ok("config")  # this process has one
        self._before = await became(self._store, self._clock.now(), self._rules.options.down_after, stalled=stalled)
        return "; ".join(words for _, words in self._before)

    def replace(self, told: Told, boxes: Mapping[str, Box]) -> None:
        """Go by this configuration from now on; ``boxes`` are its notifiers, open."""
        self._rules = Rules.of(told)
        self._posts.replace(boxes, told.alerts.retry_for)
        self._look_for_gone()
        self._look_at_all(self._clock.now())
        self._poked = True

    def watch(self, kind: str, condition: Callable[[], str]) -> None:
        """Ask ``condition``, time and again, what is wrong with the daemon, "" for nothing, and have people told."""
        self._conditions[kind] = condition

    def daemon(self, kind: str, message: str, *, lasting: bool = True) -> None:
        """Have people told of something wrong with the daemon: until `daemon_ok`, or, if not ``lasting``, that it was.

        What was, time and again, is told and counted no more often than people are reminded.
        """
        if lasting:
            seen = Trouble(self._clock.now(), message=message, count=1)
            self._poked = self._troubles.failed((DAEMON, kind), seen) or self._poked
        else:
            self._happened((DAEMON, kind), "", message)

    def daemon_ok(self, kind: str) -> None:
        """Have people told that it is over, if they know of it."""
        self._ended((DAEMON, kind))

    def finished(self, report: Report) -> None:
        """Take note of how a Run has ended."""
        name = report.run.job
        if name not in self._rules.jobs:
            return
        if (report.outcome.good or report.status is not None) and name in self._rules.remote:
            self._reached()
        if report.outcome.good:
            if self._troubles.by_key:
                self._ended((name, FAILING))
                self._ended((name, OVERDUE))
        elif report.outcome not in NOT_FAILED:
            since = report.started or self._clock.now()
            reason = str(report.reason or report.outcome)
            seen = Trouble(since, True, reason, report.message, 1, ran=self._clock.monotonic())
            self._poked = self._troubles.failed((name, FAILING), seen) or self._poked

    def tried(self, delivery: Delivery, result: Result, error: str) -> None:
        """Take note of what became of a delivery."""
        key = (delivery.job, SINK + delivery.sink)
        if delivery.job not in self._rules.jobs:
            return
        if result is Result.DELIVERED:
            if self._troubles.by_key:
                self._ended(key)
            return
        if result is Result.DEAD:
            self._happened(key, str(Reason.SINK), error)
        else:
            seen = Trouble(self._clock.now(), True, str(Reason.SINK), error, 1, ran=self._clock.monotonic())
            self._poked = self._troubles.failed(key, seen) or self._poked

    async def run(self, wait: Callable[[float], Awaitable[None]] = asyncio.sleep) -> None:
        """Tell what is to be told when it is time, until cancelled."""
        while True:
            self.tick()
            await wait(TICK)

    def tick(self) -> None:
        """Look at the clock, and at what has happened since the last time."""
        now, monotonic = self._clock.now(), self._clock.monotonic()
        for kind, words in self._before:  # not before the daemon runs: each start that fails would count it once more
            self.daemon(kind, words, lasting=False)
        self._before = ()
        self._look_for_overdue(now)
        self._look_at_daemon()
        if monotonic >= self._alive_at:
            if self._alive_at == float("-inf"):
                self._store.note(RUNS, now.isoformat())
            self._store.note(ALIVE, now.isoformat())
            self._alive_at = monotonic + min(ALIVE_EVERY, self._rules.options.down_after / 2)
        if self._tell_at is None:
            if not self._poked and monotonic < self._look_at:
                return
            self._poked, self._look_at = False, monotonic + LOOK_EVERY
            if self._news():
                self._tell_at = max(monotonic + self._rules.options.group_wait, self._earliest)
        elif monotonic >= self._tell_at:
            self._tell()

    async def close(self, grace: float) -> None:
        """Tell at once what waits to be told, and send for at most ``grace`` seconds; the rest is kept."""
        self._store.note(ALIVE, self._clock.now().isoformat())
        if self._poked or self._tell_at is not None:
            self._tell()
        self._store.note(RUNS, None)
        await self._posts.drain(grace)

    def _happened(self, key: Key, reason: str, message: str) -> None:
        self._happenings.happened(key, reason, message)
        self._poked = True

    def _ended(self, key: Key) -> bool:
        ended = self._troubles.ended(key, self._clock.now(), self._clock.monotonic())
        self._poked = self._poked or ended
        return ended

    def _reached(self) -> None:
        """Take note that a host far away has answered."""
        self._contact = self._clock.now()
        if self._troubles.by_key and self._ended((DAEMON, OFFLINE)):
            for key in self._troubles.unhush():
                forget(self._store, key)

    def _look_at_all(self, now: datetime) -> None:
        self._looked = now
        self._looks = [(now, name) for name in self._rules.jobs]  # all alike: a heap
        heapq.heapify(self._looks)

    def _look_for_overdue(self, now: datetime) -> None:
        if now < self._looked:  # the clock was set back: what was put off until then would wait for years
            self._look_at_all(now)
        self._looked = now
        for _ in range(OVERDUE_AT_ONCE):
            if not self._looks or self._looks[0][0] > now:
                return
            _, name = heapq.heappop(self._looks)
            job = self._rules.jobs.get(name)
            if job is not None:
                heapq.heappush(self._looks, (self._overdue(job, now), name))

    def _look_at_daemon(self) -> None:
        for kind, condition in self._conditions.items():
            if message := condition():
                self.daemon(kind, message)
            else:
                self.daemon_ok(kind)

    def _overdue(self, job: Job, now: datetime) -> datetime:
        """Note whether ``job`` is overdue, and return when to look again."""
        memory = self._store.recall(job.name)
        key = (job.name, OVERDUE)
        instant = self._overdue_since(job, memory)
        if memory.paused or instant > now:
            if self._is_over(key, memory):
                self._ended(key)
            soon = now + timedelta(seconds=OVERDUE_EVERY)
            # A success by a clock that was ahead: the next one puts the instant nearer, not off.
            ahead = memory.last_success is not None and memory.last_success > now
            return soon if memory.paused or ahead else max(instant, now + timedelta(seconds=TICK))
        if key not in self._troubles.by_key or not self._troubles.by_key[key].on:
            last = memory.last_success
            message = f"no success since {last:%Y-%m-%d %H:%M:%S} UTC" if last else "no success so far"
            self._troubles.failed(key, Trouble(instant, message=message, count=1))
            self._poked = True
        return now + timedelta(seconds=OVERDUE_EVERY)

    def _is_over(self, key: Key, memory: Memory) -> bool:
        """Return whether people may be told that a job does well again.

        One that was paused, or is to be run at other times, is not overdue by its clock; that it works nobody has seen.
        """
        trouble = self._troubles.by_key.get(key)
        if trouble is None or trouble.told is None:
            return True
        return memory.last_success is not None and memory.last_success >= trouble.since

    def _policy_at(self, now: datetime) -> Callable[[str], Policy]:
        return self._rules.at(now, lambda name: self._store.recall(name).paused)

    def _news(self) -> list[News]:
        """Return all that is to be told by now."""
        now = self._clock.now()
        policy_of = self._policy_at(now)
        return self._troubles.decide(policy_of, now, self._clock.monotonic()) + self._happenings.news(policy_of, now)

    def _tell(self) -> None:
        """Have people told what is to be told now; it may be nothing by now."""
        now, monotonic = self._clock.now(), self._clock.monotonic()
        self._tell_at, self._poked = None, False
        news = self._without_network(self._news(), now)
        if not news:
            return
        self._earliest = monotonic + self._rules.options.group_interval
        names = self._posts.names
        heard = [(one, self._rules.hear(one, names)) for one in news]
        for name in names:
            if own := [one for one, by in heard if name in by]:
                teller = self._teller
                message = compose(own, now, id=new_run_id(), host=teller.host, redact=teller.redact)
                self._posts.put(name, message)
        for one in news:
            self._note_told(one, now)

    def _without_network(self, news: list[News], now: datetime) -> list[News]:
        """Return ``news``, in which the machine being offline stands for all that would follow from it."""
        if not self._rules.options.offline:
            return news
        failing = [
            one for one in news if (one.kind, one.change) == (FAILING, Change.NEW) and one.job in self._rules.remote
        ]
        silent = [one for one in failing if one.reason in NO_CONTACT]
        known = self._troubles.by_key.get((DAEMON, OFFLINE))
        if known is None or not known.on:
            beside = self._troubles.silent(silent, self._policy_at(now), self._contact) if silent else []
            beside = [one for one in beside if one.job in self._rules.remote]
            if not offline([*failing, *beside], self._contact):
                return news
            silent += beside
            hosts = len({one.host for one in silent})
            message = f"this machine seems to be offline: {len(silent)} jobs cannot reach their {hosts} hosts: "
            since = min(one.since for one in silent)
            known = Trouble(since, message=message + reasons(silent), count=1)
            self._troubles.by_key[DAEMON, OFFLINE] = known
            news = [*news, News(DAEMON, OFFLINE, Change.NEW, since, message=known.message)]
        for one in silent:
            trouble = self._troubles.by_key[one.key]
            trouble.told, trouble.hushed = now, True
            keep(self._store, one.key, trouble, self._teller.redact)
        hushed = {one.key for one in silent}
        return [one for one in news if one.key not in hushed]

    def _note_told(self, news: News, now: datetime) -> None:
        say(news)
        if news.change is Change.ONCE:
            self._happenings.told(news.key, now)
            return
        owed = self._rules.owed(news, self._posts.names)
        trouble = self._troubles.told(news, now, self._clock.monotonic(), owed)
        if trouble is None:
            forget(self._store, news.key)
        else:
            keep(self._store, news.key, trouble, self._teller.redact)

    def _look_for_gone(self) -> None:
        """Have people told, or forget, what was wrong with jobs and sinks that there are no more."""
        for key in self._troubles.sort_out(self._rules.has, self._posts.names):
            forget(self._store, key)
        self._happenings.forget(self._rules.has)
        self._poked = True
