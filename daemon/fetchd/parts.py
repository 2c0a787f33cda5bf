"""What a running daemon is made of, built from the store up."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import Final

import structlog

from fetchd.board import Board, Known, Sources
from fetchd.board.standing import RECENT
from fetchd.clock import Clock, SystemClock
from fetchd.config import Config, limits_of, values_of
from fetchd.config.source import Reading, Source
from fetchd.control.server import listening
from fetchd.control.verbs import Inside, Verbs
from fetchd.engine import Engine, open_engine
from fetchd.fetch.tls import unverified
from fetchd.health import Health
from fetchd.heap import give_back, settle
from fetchd.job import Job
from fetchd.log import Log
from fetchd.metrics import Metrics
from fetchd.notices import Notices
from fetchd.reload.changes import Verdict, Why
from fetchd.reload.force import Follow, Force
from fetchd.reload.reloader import Reloader
from fetchd.scheduler import Scheduler, say_missed
from fetchd.secret import Redactor
from fetchd.signals import Hangups
from fetchd.stall import Heartbeat
from fetchd.store import Store
from fetchd.store.letters import dead_letters
from fetchd.store.sqlite import SqliteStore
from fetchd.systemd import Notifier
from fetchd.watch import Watchers

log = structlog.get_logger()

_UNVERIFIED: Final = "any server is believed: everybody on the way can read and change all"


@dataclass(frozen=True, slots=True)
class Launch:
    """What the command line has opened before there is a loop: the configuration, the log, an ear for SIGHUP."""

    source: Source
    reading: Reading
    log: Log
    redact: Redactor
    hangups: Hangups


@dataclass(frozen=True, slots=True)
class Watching:
    """Who is told what happens: the board that shows it, the metrics that count it, the notices that go out."""

    board: Board
    metrics: Metrics
    notices: Notices
    refused: dict[bool, str] = field(default_factory=dict)
    """Why the file, and why new secrets, were not taken."""

    def watchers(self) -> Watchers:
        """Return all of them as one, in the order in which they are told."""
        return Watchers([self.board, self.metrics, *self.notices.watchers])

    def stepped(self) -> None:
        """The wall's clock was stepped."""
        self.board.clock_stepped()
        self.metrics.clock_steps += 1
        self.notices.alerts.daemon("clock", "the clock was stepped", lasting=False)

    def reloaded(self, verdict: Verdict, jobs: dict[str, Job]) -> None:
        """A reload has come to its end; ``jobs`` are those in force.

        Secrets that were taken anew say nothing of a file that was refused.
        """
        if verdict.why is not Why.SECRETS:
            self.refused.clear()
        self.refused[verdict.why is Why.SECRETS] = "" if verdict.applied else "\n".join(verdict.lines())
        error = "\n".join(filter(None, self.refused.values()))
        self.board.reloaded(verdict.generation, error, jobs if verdict.applied else None)
        if error:
            self.notices.alerts.daemon("config", f"the configuration was not taken: {error}")
        else:
            self.notices.alerts.daemon_ok("config")


@dataclass(frozen=True, slots=True)
class Parts:
    """What a running daemon is made of."""

    engine: Engine
    store: SqliteStore
    scheduler: Scheduler
    heartbeat: Heartbeat
    watching: Watching
    health: Health
    reloader: Reloader
    notifier: Notifier


async def build(
    stack: AsyncExitStack, launch: Launch, store: SqliteStore, notifier: Notifier, *, stalled: bool
) -> Parts:
    """Build everything that runs, up to the page and the control socket; ``stack`` closes it.

    ``stalled`` says that the process before this one was ended because its loop stood still.

    Raises:
        StateError: a folder cannot be made, or an address cannot be listened on.
        StoreError: what is kept cannot be read.
    """
    config, clock = launch.reading.config, SystemClock()
    known = await Known.load(store)
    sources = Sources(
        store.recall,
        lambda: scheduler.next_slots(),
        lambda: (store.changed, scheduler.changed),
        known,
        launch.redact,
        lambda jobs: engine.fetcher.held_until(jobs),
    )
    board = Board(config.jobs, config.path, sources, clock)
    board.recall(await store.recent(RECENT))
    watching = _watching(config, store, board, clock, launch.redact)
    watchers = watching.watchers()
    engine = await stack.enter_async_context(open_engine(config, store, watcher=watchers, told=launch.redact.note))
    board.before = await watching.notices.open(config, engine.resources, stalled=stalled)

    def missed(job: Job, count: int) -> None:
        say_missed(job, count)
        watchers.missed(job.name, count)

    scheduler = Scheduler(engine.runs.run, engine.runner.skip, clock, missed, watching.stepped)
    heartbeat = Heartbeat(
        config.daemon.state_dir,
        lambda: notifier.watchdog() if health.scheduling() else None,
        stall_timeout=config.daemon.stall_timeout,
    )
    health = Health(
        late=scheduler.late,
        lag=lambda: heartbeat.lag,
        stuck=lambda: engine.runner.stuck,
        unwritable=lambda: store.unwritable,
    )
    for kind, condition in health.conditions.items():
        watching.notices.alerts.watch(kind, condition)
    reloader = _reloader(launch, engine, store, scheduler, notifier, watching)
    runs, lift, hurry = engine.runs, engine.fetcher.lift, engine.outbox.hurry
    inside = Inside(engine.roster, runs, engine.runner, store, board, health, reloader, lift, hurry)
    await stack.enter_async_context(listening(config.daemon.state_dir, Verbs(inside).table(), launch.redact))
    parts = Parts(engine, store, scheduler, heartbeat, watching, health, reloader, notifier)
    if config.daemon.listen:
        await _open_page(stack, launch, parts)
    return parts


def say_unverified(jobs: Iterable[Job]) -> None:
    """Warn of each job that would take any server for its own."""
    for name in unverified(jobs):
        log.warning("tls_unverified", job=name, message=_UNVERIFIED)


def _watching(config: Config, store: SqliteStore, board: Board, clock: Clock, redact: Redactor) -> Watching:
    notices = Notices(store, clock, board.overdue.since, redact)
    notices.alerts.watch("store", lambda: store.unwritable)
    metrics = Metrics()
    metrics.replace(config.jobs.values())
    metrics.notifications, metrics.pings = notices.posts.counts, notices.pings.counts
    return Watching(board, metrics, notices)


def _reloader(
    launch: Launch, engine: Engine, store: Store, scheduler: Scheduler, notifier: Notifier, watching: Watching
) -> Reloader:
    force = Force(engine.roster, scheduler, engine.runner.cancel, _followers(launch.log, engine, watching))

    def tell(verdict: Verdict) -> None:
        engine.outbox.hurry({*verdict.changes.added, *verdict.changes.changed})
        for name in verdict.changes.changed:
            store.forgive(name)  # whoever has mended it wants to see that at its next slot
        watching.reloaded(verdict, reloader.config.jobs)

    reloader = Reloader(launch.source, launch.reading, force, notifier, [tell])
    return reloader


def _followers(opened: Log, engine: Engine, watching: Watching) -> list[Follow]:
    """Return who goes by another configuration besides the jobs, each as soon as it is in force."""
    renewing: set[asyncio.Task[None]] = set()

    def renew(_config: Config) -> None:
        task = asyncio.create_task(engine.renew(), name="renew connections")
        renewing.add(task)
        task.add_done_callback(renewing.discard)

    return [
        lambda config: opened.set_level(config.log.level),
        lambda config: engine.hosts.replace(limits_of(config.hosts)),
        lambda config: watching.metrics.replace(config.jobs.values()),
        lambda config: say_unverified(config.jobs.values()),
        lambda config: engine.forget(config.jobs),
        watching.notices.replace,
        renew,
        lambda _config: settle(),
        lambda _config: give_back(),
    ]


async def _open_page(stack: AsyncExitStack, launch: Launch, parts: Parts) -> None:
    """Serve the page, the API and the metrics. Imported here: megabytes that a daemon without a page does not need."""
    from fetchd.metrics.exposition import Exposition, Readings
    from fetchd.web import Sources as Shown
    from fetchd.web import serve_page

    store, engine, board = parts.store, parts.engine, parts.watching.board
    daemon = parts.reloader.config.daemon

    def overdue(name: str) -> bool:
        job = engine.roster.jobs.get(name)
        return job is not None and board.overdue.is_overdue(job, store.recall(name), board.now())

    exposition = Exposition(
        parts.watching.metrics,
        Readings(
            recall=store.recall,
            failures=board.failures,
            overdue=overdue,
            pending=engine.outbox.owed,
            in_flight=lambda: engine.runner.in_flight,
            stuck=lambda: len(engine.runner.stuck),
            in_flight_bytes=lambda: engine.budget.used,
            loop_lag=lambda: parts.heartbeat.lag,
            lines_dropped=lambda: launch.log.dropped,
            store_writable=lambda: not store.unwritable,
            reload=lambda: (not board.reload.error, board.reload.at.timestamp()),
        ),
    )
    letters = partial(dead_letters, daemon.state_dir)
    shown = Shown(store.history, store.lanes, letters, values_of, launch.redact, exposition.render)
    await stack.enter_async_context(serve_page(board, parts.health, shown, listen=daemon.listen))
