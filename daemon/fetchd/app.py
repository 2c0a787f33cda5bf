"""The composition root: what the daemon is made of, and the order in which it starts and stops."""

from __future__ import annotations

import asyncio
import os
import signal
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, aclosing, asynccontextmanager, contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Final

import structlog

from fetchd import __version__
from fetchd.body import MemoryBudget
from fetchd.child import kill_all
from fetchd.clock import SystemClock
from fetchd.config import Config, ignored_environment
from fetchd.errors import FetchdError, InstanceError, Reason, StateError, StoreError
from fetchd.fetch.client import ClientOptions, open_transport
from fetchd.fetch.fetcher import Fetcher
from fetchd.fetch.resolver import Names
from fetchd.fetch.spool import Spool
from fetchd.harvest import Harvest
from fetchd.instance import Instance, hold
from fetchd.job import Job
from fetchd.outbox import Outbox
from fetchd.run import Outcome, Report, Run
from fetchd.runner import Runner
from fetchd.scheduler import Scheduler, missed_slot
from fetchd.sinks import Outgoing, Resources
from fetchd.sinks.kinds import open_sink
from fetchd.stall import Heartbeat, last_stall
from fetchd.store import Store
from fetchd.store.memory import MemoryStore
from fetchd.store.schema import set_aside
from fetchd.store.sqlite import SqliteStore, open_sqlite_store
from fetchd.systemd import Notifier
from fetchd.targets import Sinks, Target
from fetchd.worker import Workers

log = structlog.get_logger()

EXIT_FAILED: Final = 70
"""sysexits.h: internal error. The supervisor starts a new process, which is what can help."""
TIDY_EVERY: Final = 60.0
LOCK_LOOK_EVERY: Final = 5.0
LEAVE_WITHIN: Final = 2.0
"""Seconds that code which ignores its cancellation has to let go of the process once everything else is closed."""


async def serve(config: Config, environment: Mapping[str, str], *, new_state: bool = False) -> int:
    """Run the daemon until it is told to stop; return the exit status.

    With ``new_state`` what is kept is set aside first.

    Raises:
        InstanceError: another process holds the state directory.
        StateError: the state directory cannot be used.
        StoreError: what it keeps cannot be used.
    """
    state_dir = config.daemon.state_dir
    clock = SystemClock()
    notifier = Notifier.from_environment(environment)
    code = 0
    async with AsyncExitStack() as stack:
        stop = stack.enter_context(_stop_signals())
        stack.callback(notifier.close)
        instance = stack.enter_context(hold(state_dir))
        _say_start(config, environment)
        if new_state and (aside := set_aside(state_dir, clock.now())):
            log.warning("state_set_aside", path=str(aside))
        store = await stack.enter_async_context(_durable(config))
        runner, outbox = await stack.enter_async_context(open_runner(config, store))
        scheduler = Scheduler(runner.run, runner.skip, clock)
        heartbeat = Heartbeat(state_dir, notifier.watchdog, stall_timeout=config.daemon.stall_timeout)
        watches = (heartbeat.run(), scheduler.guard(), runner.backstop(), outbox.run(), _tidy(store), _keep(instance))
        try:
            async with asyncio.TaskGroup() as watchers:
                tasks = [watchers.create_task(watch) for watch in watches]
                scheduler.start(config.jobs.values(), _missed(config, store))
                _say_ready(config, scheduler, notifier)
                await stop.wait()
                await _drain(config, notifier, scheduler, runner, outbox)
                for task in tasks:
                    task.cancel()
        except* FetchdError as group:
            log.critical("daemon_failed", message="; ".join(map(str, group.exceptions)))
            code = EXIT_FAILED
        except* Exception as group:
            log.critical("daemon_failed", exc_info=group)
            code = EXIT_FAILED
    log.info("daemon_stopped", exit_status=code)
    _leave_soon(code)
    return code


async def run_once(config: Config, job: Job, sinks: Sinks | None = None) -> Report:
    """Run ``job`` now, with its deliveries, or with those of ``sinks`` in their place, and return how it ended.

    With ``sinks`` nothing is kept, and nothing that is kept counts.
    """
    slot = datetime.now(UTC)
    async with AsyncExitStack() as stack:
        store: Store = await stack.enter_async_context(_durable(config) if sinks is None else _forgetful())
        runner, outbox = await stack.enter_async_context(open_runner(config, store, sinks))
        await outbox.flush(job.name)  # there may be no daemon that does
        backstop = asyncio.create_task(runner.backstop())
        stack.callback(backstop.cancel)
        run = asyncio.create_task(runner.run(job, slot))
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, run.cancel)
        given_up = asyncio.create_task(runner.until_stuck())
        stack.callback(given_up.cancel)
        await asyncio.wait({run, backstop, given_up}, return_when=asyncio.FIRST_COMPLETED)
        report = run.result() if run.done() else None
        _leave_soon(1)
        return report or await _told_of(store, job, slot)


async def _told_of(store: Store, job: Job, slot: datetime) -> Report:
    """Return how a Run ended that has returned nothing: it is stuck, or there was none."""
    for report in await store.history(job.name, 1):
        if report.run.slot == slot:
            return report
    message = "as many deliveries are owed, or dead, as its backlog may hold"
    return Report(Run("", job.name, slot), Outcome.SKIPPED, Reason.BACKLOG, message)


def _durable(config: Config) -> AbstractAsyncContextManager[SqliteStore]:
    history = config.daemon.history
    return open_sqlite_store(config.daemon.state_dir, history=history, failures=history)


def _forgetful() -> AbstractAsyncContextManager[MemoryStore]:
    return aclosing(MemoryStore())


@asynccontextmanager
async def open_runner(config: Config, store: Store, sinks: Sinks | None = None) -> AsyncIterator[tuple[Runner, Outbox]]:
    """Open everything that Runs and deliveries need: folders, connections, workers and sinks."""
    daemon = config.daemon
    names = Names(tuple(config.dns.nameservers), config.dns.timeout, config.dns.attempts)
    limits = {name: host.max_concurrent for name, host in config.hosts.items() if host.max_concurrent}
    async with AsyncExitStack() as stack:
        # Without a lock on the state directory nothing in it is ours to use, or to tidy.
        folder = _spool_folder(daemon.state_dir) if sinks is None else stack.enter_context(_scratch_folder())
        spool = Spool(folder, daemon.spool_above, MemoryBudget(daemon.memory_budget))
        transport = await stack.enter_async_context(open_transport(ClientOptions(names, daemon.ca_file, limits)))
        workers = Workers(daemon.max_workers)
        stack.push_async_callback(workers.aclose)
        fetcher = Fetcher(transport, spool, workers)
        if sinks is None:
            sinks = await stack.enter_async_context(_open_sinks(config, fetcher, workers))
        clock = SystemClock()
        outbox = Outbox(store, sinks, clock)
        await outbox.load()
        yield Runner(Harvest(fetcher), outbox, store, clock, max_concurrent=daemon.max_concurrent_runs), outbox


@asynccontextmanager
async def _open_sinks(config: Config, fetcher: Fetcher, workers: Workers) -> AsyncIterator[Sinks]:
    async def send(outgoing: Outgoing) -> int:
        return await fetcher.send(outgoing.method, outgoing.url, outgoing.headers, outgoing.body, outgoing.timeouts)

    out = config.daemon.state_dir / "out"
    _make_folder(out)
    resources = Resources(out=out, send=send, workers=workers)
    opened: dict[str, dict[str, Target]] = {}
    async with AsyncExitStack() as stack:
        for job in config.jobs.values():
            for name, options in zip(job.sink_names(), job.sinks, strict=True):
                sink = open_sink(options, resources)
                stack.push_async_callback(sink.aclose)
                target = Target(sink, options.deadline or job.deadline, options.max_attempts, options.max_age)
                opened.setdefault(job.name, {})[name] = target
        yield opened


async def _drain(config: Config, notifier: Notifier, scheduler: Scheduler, runner: Runner, outbox: Outbox) -> None:
    """Stop in order: no new Runs and tries, then those under way end by themselves, then they are cut off."""
    grace = config.daemon.shutdown_grace
    end = time.monotonic() + grace
    notifier.stopping()
    log.info("daemon_stopping", in_flight=runner.in_flight, grace_s=grace)
    scheduler.pause()
    outbox.pause()
    await runner.drain(grace)
    await outbox.drain(max(0.0, end - time.monotonic()))
    await scheduler.close()
    if runner.in_flight:
        log.warning("runs_left_behind", count=runner.in_flight)


async def _keep(instance: Instance) -> None:
    """Watch over the lock: once something has removed its file, a second daemon can run on the same state.

    Raises:
        InstanceError: the lock file is not the one that was locked.
    """
    while True:
        if not instance.still_ours():
            raise InstanceError("the lock file was removed or replaced: another fetchd may use the same state by now")
        await asyncio.sleep(LOCK_LOOK_EVERY)


async def _tidy(store: Store) -> None:
    """Tidy the store now and then; what it cannot do it leaves for the next time."""
    while True:
        await asyncio.sleep(TIDY_EVERY)
        try:
            await store.tidy()
        except StoreError as error:
            log.error("store_failing", message=str(error))


def _missed(config: Config, store: Store) -> dict[str, datetime]:
    """Return the slots that passed while the daemon was down, of the jobs that want to catch up."""
    now = datetime.now(UTC)
    slots = {name: missed_slot(job, store.recall(name).last_slot, now) for name, job in config.jobs.items()}
    return {name: slot for name, slot in slots.items() if slot is not None}


@contextmanager
def _stop_signals() -> Iterator[asyncio.Event]:
    """Turn the first SIGTERM or SIGINT into an event; the second one ends the process at once."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()

    def asked(number: signal.Signals) -> None:
        if stop.is_set():
            kill_all()  # what was started would live on, and overlap with the next start
            os._exit(128 + number)
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, asked, number)
    # Its default is to end the process without a word: a terminal that closes, an admin used to reloading by it.
    loop.add_signal_handler(signal.SIGHUP, partial(log.warning, "signal_ignored", signal="SIGHUP"))
    try:
        yield stop
    finally:
        # The handlers stay: between here and the end of the process a second signal still counts.
        stop.set()


def _say_start(config: Config, environment: Mapping[str, str]) -> None:
    daemon = config.daemon
    log.info(
        "daemon_started",
        version=__version__,
        pid=os.getpid(),
        config=str(config.path),
        state_dir=str(daemon.state_dir),
        jobs=len(config.jobs),
    )
    if dump := last_stall(daemon.state_dir):
        log.error("loop_stalled", state="replaced", message="the previous process was ended for a stall", stack=dump)
    if names := ignored_environment(environment):
        log.warning("environment_ignored", variables=names, message="proxies are taken from the configuration alone")


def _say_ready(config: Config, scheduler: Scheduler, notifier: Notifier) -> None:
    due = scheduler.next_slot()
    notifier.ready(f"{len(config.jobs)} jobs")
    log.info("daemon_ready", jobs=len(config.jobs), next_slot=due.isoformat(timespec="milliseconds") if due else None)


def _spool_folder(state_dir: Path) -> Path:
    """Return the folder for large bodies, without what a killed process left there."""
    folder = state_dir / "spool"
    _make_folder(folder)
    for left in folder.glob("body-*"):
        left.unlink(missing_ok=True)
    return folder


@contextmanager
def _scratch_folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="fetchd-") as folder:
        yield Path(folder)


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise StateError(f"cannot make {folder}: {error.strerror}") from None


def _leave_soon(code: int) -> None:
    """End the process even if a thread, or a task that ignores its cancellation, would hold it for ever."""
    timer = threading.Timer(LEAVE_WITHIN, os._exit, (code,))
    timer.daemon = True
    timer.start()
