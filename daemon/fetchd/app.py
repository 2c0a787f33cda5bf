"""The composition root: what the daemon is made of, and the order in which it starts and stops."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Callable, Coroutine, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from datetime import UTC, datetime
from typing import Any, Final

import structlog

from fetchd import __version__
from fetchd.board.survey import survey
from fetchd.child import kill_all
from fetchd.config import Config, ignored_environment
from fetchd.errors import FetchdError, InstanceError, StoreError
from fetchd.health import Stage
from fetchd.heap import give_back, settle
from fetchd.instance import Instance, hold
from fetchd.job import ENVIRONMENT
from fetchd.parts import Launch, Parts, build, say_unverified
from fetchd.scheduler import missed_slot
from fetchd.shorten import count_of
from fetchd.signals import Signals, hear
from fetchd.stall import last_stall
from fetchd.store import Store
from fetchd.store.schema import set_aside
from fetchd.store.sqlite import SqliteStore, open_sqlite_store
from fetchd.systemd import Notifier

log = structlog.get_logger()

EXIT_FAILED: Final = 70
"""sysexits.h: internal error. The supervisor starts a new process, which is what can help."""
TIDY_EVERY: Final = 60.0
TELL_MANAGER_EVERY: Final = 5.0
LOCK_LOOK_EVERY: Final = 5.0
NOTICES_LAST: Final = 1.0
"""Seconds that the last messages and pings have."""
LEAVE_WITHIN: Final = 2.0
"""Seconds that code which ignores its cancellation has to let go of the process once everything else is closed."""


async def serve(launch: Launch, environment: Mapping[str, str], *, new_state: bool = False) -> int:
    """Run the daemon until it is told to stop; return the exit status.

    With ``new_state`` what is kept is set aside first.

    Raises:
        InstanceError: another process holds the state directory.
        StateError: the state directory cannot be used.
        StoreError: what it keeps cannot be used.
    """
    config = launch.reading.config
    state_dir = config.daemon.state_dir
    notifier = Notifier.from_environment(environment)
    code = 0
    async with AsyncExitStack() as stack:
        signals = stack.enter_context(hear(launch.hangups, kill_all))
        stack.callback(notifier.close)
        instance = stack.enter_context(hold(state_dir))
        _say_start(config, environment)
        if new_state and (aside := set_aside(state_dir, datetime.now(UTC))):
            log.warning("state_set_aside", path=str(aside))
        store = await stack.enter_async_context(open_store(config, launch.redact))
        if stall := last_stall(state_dir):  # not before there is a store, which keeps that over starts that fail
            log.error(
                "loop_stalled", state="replaced", message="the previous process was ended for a stall", stack=stall
            )
        parts = await build(stack, launch, store, notifier, stalled=stall is not None)
        try:
            async with asyncio.TaskGroup() as watches:
                tasks = [watches.create_task(watch) for watch in _watches(parts, instance, signals)]
                parts.scheduler.start(config.jobs.values(), _missed(config, store))
                settle()
                _say_ready(parts)
                await signals.stop.wait()
                await _drain(parts)
                for task in tasks:
                    task.cancel()
        except* FetchdError as group:
            log.critical("daemon_failed", message="; ".join(map(str, group.exceptions)))
            code = EXIT_FAILED
        except* Exception as group:
            log.critical("daemon_failed", exc_info=group)
            code = EXIT_FAILED
    log.info("daemon_stopped", exit_status=code)
    leave_soon(code)
    return code


def _watches(parts: Parts, instance: Instance, signals: Signals) -> list[Coroutine[Any, Any, None]]:
    """Return what goes on for as long as the daemon runs; if one of them fails, the process ends."""
    return [
        parts.heartbeat.run(),
        parts.scheduler.guard(),
        parts.engine.runner.backstop(),
        parts.engine.outbox.run(),
        parts.reloader.run(signals.reload),
        parts.watching.board.run(),
        *parts.watching.notices.runs(parts.health.problems),
        _tell_manager(parts),
        _tidy(parts.store),
        _keep(instance),
    ]


async def _drain(parts: Parts) -> None:
    """Stop in order: no new Runs and tries, then those under way end by themselves, then they are cut off."""
    runner, outbox = parts.engine.runner, parts.engine.outbox
    grace = parts.reloader.config.daemon.shutdown_grace
    end = time.monotonic() + grace
    parts.health.stage = Stage.STOPPING
    parts.notifier.stopping()
    log.info("daemon_stopping", in_flight=runner.in_flight, grace_s=grace)
    parts.scheduler.pause()
    outbox.pause()
    await parts.reloader.close()
    await runner.drain(max(0.0, end - time.monotonic()))
    await outbox.drain(max(0.0, end - time.monotonic()))
    await parts.scheduler.close()
    await parts.watching.notices.drain(NOTICES_LAST)
    if runner.in_flight:
        log.warning("runs_left_behind", count=runner.in_flight)


def open_store(config: Config, redact: Callable[[str], str]) -> AbstractAsyncContextManager[SqliteStore]:
    """Return what keeps the state, to be entered; ``redact`` takes secrets out of what it is told."""
    history = config.daemon.history
    return open_sqlite_store(config.daemon.state_dir, history=history, failures=history, redact=redact)


async def _keep(instance: Instance) -> None:
    """Watch over the lock: once something has removed its file, a second daemon can run on the same state.

    Raises:
        InstanceError: the lock file is not the one that was locked.
    """
    while True:
        if not instance.still_ours():
            raise InstanceError("the lock file was removed or replaced: another fetchd may use the same state by now")
        await asyncio.sleep(LOCK_LOOK_EVERY)


async def _tell_manager(parts: Parts) -> None:
    """Tell the service manager how things are, in the line that it shows."""
    board, health = parts.watching.board, parts.health
    while parts.notifier.heard:
        await asyncio.sleep(TELL_MANAGER_EVERY)
        jobs = (await survey(board)).in_short()
        verdict = health.verdict()
        refused = ["the new configuration was refused"] if board.reload.error else []
        if health.stage is Stage.RUNNING:
            parts.notifier.status("; ".join([*verdict.problems, jobs, *refused, *verdict.warnings]))


async def _tidy(store: Store) -> None:
    """Tidy the store, and memory, now and then; what the store cannot do it leaves for the next time."""
    while True:
        await asyncio.sleep(TIDY_EVERY)
        give_back()
        try:
            await store.tidy()
        except StoreError as error:
            log.error("store_failing", message=str(error))


def _missed(config: Config, store: Store) -> dict[str, datetime]:
    """Return the slots that passed while the daemon was down, of the jobs that want to catch up."""
    now = datetime.now(UTC)
    slots = {name: missed_slot(job, store.recall(name).last_slot, now) for name, job in config.jobs.items()}
    return {name: slot for name, slot in slots.items() if slot is not None}


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
    obeyed = any(job.proxy.reveal() == ENVIRONMENT for job in config.jobs.values())
    if not obeyed and (names := ignored_environment(environment)):
        log.warning("environment_ignored", variables=names, message="proxies are taken from the configuration alone")
    say_unverified(config.jobs.values())


def _say_ready(parts: Parts) -> None:
    jobs, due = len(parts.engine.roster.jobs), parts.scheduler.next_slot()
    parts.health.stage = Stage.RUNNING
    parts.notifier.ready(count_of(jobs, "job"))
    log.info("daemon_ready", jobs=jobs, next_slot=due.isoformat(timespec="milliseconds") if due else None)


def leave_soon(code: int) -> None:
    """End the process even if a thread, or a task that ignores its cancellation, would hold it for ever."""
    timer = threading.Timer(LEAVE_WITHIN, os._exit, (code,))
    timer.daemon = True
    timer.start()
