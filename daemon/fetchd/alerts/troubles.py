"""What is wrong, what people know of it, and what is therefore to be told. Decisions without I/O.

Each trouble is a level, not an event: it is on or off, and people have been told of it or not. What is to be told is
the difference. So nothing is told twice, whatever restarts in between; what came and went unseen is not told at all;
and whatever was told is in the end told to be over.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from typing import Final

from fetchd.errors import Reason

DAEMON: Final = ""
"""Stands where a job's name would: what is wrong with the daemon itself."""
FAILING: Final = "failing"
OVERDUE: Final = "overdue"
OFFLINE: Final = "offline"
SINK: Final = "sink:"
"""Begins the kinds of trouble that a job has with one of its sinks, by name."""
_BY_OUTAGE: Final = (
    *(Reason.TLS, Reason.TIMEOUT_READ, Reason.TIMEOUT_WRITE),
    *(Reason.PROTOCOL, Reason.HTTP_429, Reason.HTTP_5XX),
)
NO_CONTACT: Final = frozenset({str(Reason.DNS), str(Reason.CONNECT), str(Reason.TIMEOUT_CONNECT)})
"""The reasons that a machine without a network would have for each of its failures."""
OUTAGE: Final = NO_CONTACT | {str(reason) for reason in _BY_OUTAGE}
"""The reasons with which the jobs of one host fail, some with this one, some with that, while it is in trouble."""
DOWN_FOR: Final = 60.0
"""Seconds for which a sink takes nothing before people are told: the first tries come fast, and restarts are short."""
RECOVERY_WAIT: Final = 600.0
"""The longest, in seconds, that a recovery waits: for jobs of the same host that have not been run since, and to last,
where the one before it did not.
"""
RELAPSE_WITHIN: Final = 3600.0
"""Seconds within which what comes again is taken to come and go: people would be told of each time."""

Key = tuple[str, str]
"""A job's name, or `DAEMON`, and the kind of trouble."""


@dataclass(slots=True)
class Trouble:
    """One thing that is wrong with one job, or was. Instants without a date are of the monotonic clock.

    ``count`` are the failures in a row; ``told`` is when people were last told, None if they do not know; ``hushed``
    says that they know it as part of the machine being offline; ``fresh`` that it was seen since that was over; ``ran``
    is when it was last seen to be so or not, and ``until`` when it was over, as far as that is known. ``to`` are those
    who were told, by their names, and are to be told of its end; None if that is not known. ``gone`` says that there is
    no such job, or sink, any more; ``relapsed`` that people have been told before, and not long ago, that it is over.
    """

    since: datetime
    on: bool = True
    reason: str = ""
    message: str = ""
    count: int = 0
    told: datetime | None = None
    hushed: bool = False
    fresh: bool = True
    ran: float = float("-inf")
    until: datetime | None = None
    to: tuple[str, ...] | None = None
    gone: bool = False
    relapsed: bool = False


class Change(StrEnum):
    """What is told of a trouble."""

    NEW = "new"
    STILL = "still"
    OVER = "over"
    ONCE = "once"


@dataclass(frozen=True, slots=True)
class News:
    """One thing to be told; ``host`` is where the job fetches from, empty if that is not known.

    ``to`` and ``gone`` are as those of `Trouble`.
    """

    job: str
    kind: str
    change: Change
    since: datetime
    reason: str = ""
    message: str = ""
    count: int = 0
    host: str = ""
    until: datetime | None = None
    to: tuple[str, ...] | None = None
    gone: bool = False

    @property
    def key(self) -> Key:
        """Return which trouble it is about."""
        return self.job, self.kind


@dataclass(frozen=True, slots=True)
class Policy:
    """When people are told of one job, or of the daemon; ``quiet`` while it is paused or in maintenance."""

    after: int = 1
    overdue: bool = True
    recovery: bool = True
    reminder: float = 14400.0
    host: str = ""
    quiet: bool = False


@dataclass(slots=True)
class Troubles:
    """All that is wrong, by job and kind."""

    by_key: dict[Key, Trouble] = field(default_factory=dict)
    _over: dict[Key, float] = field(default_factory=dict)
    """When people were told that it is over: of those that would be relapses if they came again."""

    def failed(self, key: Key, seen: Trouble) -> bool:
        """Note a failure as it is ``seen``; return whether it may be worth telling."""
        known = self.by_key.get(key)
        if known is None:
            self.by_key[key] = seen
            return True
        if known.on:
            known.count += 1
        else:
            known.on, known.since, known.count = True, seen.since, seen.count
        known.reason, known.message, known.ran, known.fresh = seen.reason, seen.message, seen.ran, True
        return known.told is None

    def ended(self, key: Key, until: datetime, ran: float) -> bool:
        """Note that a trouble is over; return whether that may be worth telling."""
        known = self.by_key.get(key)
        if known is None:
            return False
        if known.told is None:
            del self.by_key[key]
            return False
        if not known.on:
            return False
        known.on, known.until, known.ran = False, until, ran
        return True

    def told(self, news: News, now: datetime, monotonic: float, owed: Iterable[str]) -> Trouble | None:
        """Note that people have been told, and to whom its end is ``owed``.

        Return the trouble as they know it, None if it is over.
        """
        trouble = self.by_key.get(news.key)
        if trouble is None or news.change is Change.ONCE:
            return trouble
        self._over = {key: at for key, at in self._over.items() if monotonic - at < RELAPSE_WITHIN}
        if news.change is Change.OVER:
            if not news.gone:
                self._over[news.key] = monotonic
            del self.by_key[news.key]
            return None
        if news.change is Change.NEW:
            trouble.relapsed = news.key in self._over
        trouble.told = now
        trouble.to = tuple(dict.fromkeys((*(trouble.to or ()), *owed)))
        return trouble

    def decide(self, policy_of: Callable[[str], Policy], now: datetime, monotonic: float) -> list[News]:
        """Return all that is to be told now: what people do not know, what is over, and reminders."""
        policies = _Policies(policy_of)
        new = [key for key, trouble in self.by_key.items() if _is_new(key, trouble, policies[key[0]], now)]
        new += self._joining(new, policies)
        news = [self._news(key, Change.NEW, policies) for key in self._without_consequences(new)]
        waiting = self._waiting(policies)
        for key, trouble in self.by_key.items():
            policy = policies[key[0]]
            if trouble.told is None or policy.quiet:
                continue
            if trouble.gone:
                news.append(self._news(key, Change.OVER, policies))
            elif not trouble.on:
                beside = key[1] in {FAILING, OVERDUE} and trouble.ran > waiting.get(policy.host, trouble.ran)
                held = (beside or trouble.relapsed) and monotonic - trouble.ran < RECOVERY_WAIT
                if not held:
                    news.append(self._news(key, Change.OVER, policies))
            elif not trouble.hushed and abs((now - trouble.told).total_seconds()) >= policy.reminder:
                # Of a clock that was set far back people are reminded at once, not once it has caught up.
                news.append(self._news(key, Change.STILL, policies))
        return news

    def silent(self, beside: Iterable[News], policy_of: Callable[[str], Policy], since: datetime | None) -> list[News]:
        """Return the jobs of known hosts that fail for want of a contact, and began to ``since``, besides those.

        People would be told of each in time.
        """
        policies = _Policies(policy_of)
        keys = self._untold(policies, {one.key for one in beside})
        found = [self._news(key, Change.NEW, policies) for key in keys]
        return [one for one in found if one.reason in NO_CONTACT and (since is None or one.since > since)]

    def sort_out(self, is_there: Callable[[Key], bool], names: Collection[str]) -> list[Key]:
        """Note which troubles are of what is there no more, and return those of which nobody knows, or not by name.

        They are forgotten if they are gone, or over. ``names`` are the notifiers: where none is left of those who were
        told, nobody knows, and whoever is to be told by now is told.
        """
        unknown = []
        for key, trouble in list(self.by_key.items()):
            trouble.gone = not is_there(key)
            left = bool(names and trouble.to) and not any(name in names for name in trouble.to or ())
            if left:
                trouble.told = trouble.to = None
            elif not (trouble.gone and (trouble.told is None or trouble.hushed)):
                continue
            unknown.append(key)
            if trouble.gone or not trouble.on:
                del self.by_key[key]
        return unknown

    def unhush(self) -> list[Key]:
        """Let what was known as part of being offline be told by itself, once it is seen again; return which."""
        keys = [key for key, trouble in self.by_key.items() if trouble.hushed]
        for key in keys:
            trouble = self.by_key[key]
            trouble.hushed, trouble.told, trouble.to, trouble.fresh = False, None, None, False
            if not trouble.on:
                del self.by_key[key]
        return keys

    def _without_consequences(self, new: list[Key]) -> Iterator[Key]:
        """Yield those of ``new`` that do not follow from what is known, or is about to be.

        A job that fails is overdue in the end, and one whose sink takes nothing fails.
        """
        known = {key for key, trouble in self.by_key.items() if trouble.told is not None}.union(new)
        sinks = {job for job, kind in known if kind.startswith(SINK)}
        for job, kind in new:
            failing = (job, FAILING)
            if kind == OVERDUE and failing in known:
                continue
            if kind == FAILING and job in sinks and self.by_key[failing].reason == str(Reason.SINK):
                continue
            yield job, kind

    def _joining(self, new: list[Key], policies: Mapping[str, Policy]) -> Iterator[Key]:
        """Yield the jobs that fail at the same host, and for the same cause, as those that are to be told of.

        Each would reach its own count a little later: an outage is told at once, and in one message.
        """
        failing = [(job, kind) for job, kind in new if kind == FAILING]
        causes = {(policies[key[0]].host, _cause(self.by_key[key])) for key in failing}
        for key in self._untold(policies, beside=failing):
            if (policies[key[0]].host, _cause(self.by_key[key])) in causes:
                yield key

    def _untold(self, policies: Mapping[str, Policy], beside: Iterable[Key]) -> Iterator[Key]:
        """Yield the jobs of known hosts that fail, of which people would be told in time, besides those."""
        others = set(beside)
        for key, trouble in self.by_key.items():
            if key in others or key[1] != FAILING or not (trouble.on and trouble.told is None and trouble.fresh):
                continue
            policy = policies[key[0]]
            if policy.host and not policy.quiet and policy.after:
                yield key

    def _waiting(self, policies: Mapping[str, Policy]) -> dict[str, float]:
        """Return when, of the jobs of each host that are known to do badly, the one was run that waits the longest."""
        ran: dict[str, float] = {}
        bad: set[str] = set()
        for (job, kind), trouble in self.by_key.items():
            if kind in {FAILING, OVERDUE} and trouble.on:
                ran[job] = max(trouble.ran, ran.get(job, trouble.ran))
                if trouble.told is not None:
                    bad.add(job)
        oldest: dict[str, float] = {}
        for job in bad:
            policy = policies[job]
            if policy.host and not policy.quiet:
                oldest[policy.host] = min(ran[job], oldest.get(policy.host, ran[job]))
        return oldest

    def _news(self, key: Key, change: Change, policies: Mapping[str, Policy]) -> News:
        trouble = self.by_key[key]
        host = policies[key[0]].host
        news = News(*key, change, trouble.since, trouble.reason, trouble.message, trouble.count, host)
        if change is not Change.OVER:
            return news
        return replace(news, until=trouble.until, to=trouble.to, gone=trouble.gone)


class _Policies(dict[str, Policy]):
    """The policy of each job, asked for once in each decision."""

    def __init__(self, ask: Callable[[str], Policy]) -> None:
        super().__init__()
        self._ask = ask

    def __missing__(self, job: str) -> Policy:
        policy = self[job] = self._ask(job)
        return policy


def _cause(trouble: Trouble) -> str:
    """Return what a failure comes from, as far as its reason tells; "" is trouble of the host as a whole."""
    return "" if trouble.reason in OUTAGE else trouble.reason


def _is_new(key: Key, trouble: Trouble, policy: Policy, now: datetime) -> bool:
    """Return whether people are to be told of ``trouble``, of which they do not know."""
    if not trouble.on or trouble.told is not None or policy.quiet:
        return False
    job, kind = key
    if job == DAEMON:
        return True
    if kind == OVERDUE:
        return policy.overdue
    if kind.startswith(SINK) and (now - trouble.since).total_seconds() < DOWN_FOR:
        return False
    return trouble.fresh and 0 < policy.after <= trouble.count


def offline(failing: list[News], contact: datetime | None) -> bool:
    """Return whether all that is to be told may come from this machine being offline.

    ``failing`` are the jobs to be told of, now or soon, each with its host; ``contact`` is when a host was last
    reached. It takes two hosts to tell: one alone may itself be down.
    """
    if len({one.host for one in failing}) < 2 or any(one.reason not in NO_CONTACT for one in failing):
        return False
    return contact is None or contact < min(one.since for one in failing)
