"""One Run from the command line: with its deliveries, or with a look at what they would be."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, ExitStack, aclosing, contextmanager
from datetime import UTC, datetime
from typing import Final

import structlog

from fetchd.app import leave_soon, open_store
from fetchd.config import Config
from fetchd.engine import open_engine
from fetchd.errors import ConfigError, Finding, InstanceError, Reason
from fetchd.fetch.auth import OAuth2Auth
from fetchd.instance import hold
from fetchd.job import Job
from fetchd.log import printable
from fetchd.parts import say_unverified
from fetchd.run import Delivery, Outcome, Progress, Report, Run
from fetchd.runner import Runner
from fetchd.secret import Redactor
from fetchd.shorten import meant
from fetchd.store import Store
from fetchd.store.memory import MemoryStore
from fetchd.targets import Sinks, Target
from fetchd.told import lines_of

log = structlog.get_logger()

SHOWN: Final = 2000
_SEARCHED: Final = 16 * SHOWN
FOLLOW_EVERY: Final = 0.1

Show = Callable[[str], None]
Follow = Callable[[Progress], None]
Clean = Callable[[str], str]


async def once(
    config: Config, name: str, *, dry_run: bool, show: Show, redact: Redactor, follow: Follow | None = None
) -> int:
    """Run the job called ``name`` and show how it ended, without the secrets that ``redact`` knows and learns.

    Returns the exit status. ``follow`` is told time and again how far the Run has come.

    A dry run delivers nothing, and so needs no state of its own: it may be tried beside a running daemon. Only a new
    refresh token has to be kept, for the old one may be void.

    Raises:
        ConfigError: there is no such job.
        InstanceError: a daemon holds the state directory, so this might be a second Run of the job, or take a refresh
            token away from it.
    """
    job = _job(config, name)
    say_unverified([job])

    def clean(text: str) -> str:
        return printable(redact(text), keep="\n\t")

    def say(text: str) -> None:
        show(clean(text))

    with _held(config, job, dry_run=dry_run):
        report = await _run(config, job, redact, _previews(job, say, clean) if dry_run else None, follow)
    _tell(report, say)
    return 0 if report.outcome.good else 1


@contextmanager
def _held(config: Config, job: Job, *, dry_run: bool) -> Iterator[None]:
    """Hold the state directory, if a Run of ``job`` keeps anything there."""
    with ExitStack() as held:
        if not dry_run:
            remedy = f"if that is the daemon, `fetchd trigger {job.name}` has it do this"
            held.enter_context(hold(config.daemon.state_dir, remedy))
        elif _renews(job):
            try:
                held.enter_context(hold(config.daemon.state_dir))
            except InstanceError:
                message = f"{job.name} would take the refresh token away from the fetchd that runs: stop that one first"
                raise InstanceError(message) from None
        yield


def _renews(job: Job) -> bool:
    """Return whether a Run of ``job`` may be given another refresh token."""
    return isinstance(job.auth, OAuth2Auth) and job.auth.grant == "refresh_token"


async def _run(config: Config, job: Job, redact: Redactor, sinks: Sinks | None, follow: Follow | None) -> Report:
    """Run ``job`` now, with its deliveries, or with those of ``sinks`` in their place, and return how it ended.

    With ``sinks`` nothing is kept but refresh tokens, and nothing else that is kept counts.
    """
    slot = datetime.now(UTC)
    async with AsyncExitStack() as stack:
        store: Store = await stack.enter_async_context(
            open_store(config, redact) if sinks is None else aclosing(MemoryStore())
        )
        notes = None
        if sinks is not None and _renews(job):
            notes = await stack.enter_async_context(open_store(config, redact))
        opened = open_engine(config, store, sinks=sinks, told=redact.note, notes=notes)
        engine = await stack.enter_async_context(opened)
        runner = engine.runner
        await engine.outbox.flush(job.name)  # there may be no daemon that does
        backstop = asyncio.create_task(runner.backstop())
        stack.callback(backstop.cancel)
        run = asyncio.create_task(runner.run(job, slot, by_hand=True))
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, run.cancel)
        given_up = asyncio.create_task(runner.until_stuck())
        stack.callback(given_up.cancel)
        if follow is not None:
            following = asyncio.create_task(_follow(runner, job.name, follow))
            following.add_done_callback(_say_failure)
            stack.callback(following.cancel)
        await asyncio.wait({run, backstop, given_up}, return_when=asyncio.FIRST_COMPLETED)
        report = run.result() if run.done() else None
        leave_soon(1)
        return report or await _stuck(store, job, slot)


async def _follow(runner: Runner, name: str, follow: Follow) -> None:
    while True:
        if (progress := runner.progress(name)) is not None:
            follow(progress)
        await asyncio.sleep(FOLLOW_EVERY)


def _say_failure(following: asyncio.Task[None]) -> None:
    """A Run that cannot be shown goes on; but that is not how it should be."""
    if not following.cancelled() and (error := following.exception()) is not None:
        log.error("internal_error", exc_info=error)


async def _stuck(store: Store, job: Job, slot: datetime) -> Report:
    """Return how a Run is on record that does not end."""
    for report in await store.history(job.name, 1):
        if report.run.slot == slot:
            return report
    return Report(Run("", job.name, slot), Outcome.DEADLINE_EXCEEDED, Reason.STUCK, "its run does not end")


def _job(config: Config, name: str) -> Job:
    if name in config.jobs:
        return config.jobs[name]
    message = f"there is no such job; {meant(name, config.jobs)}"
    raise ConfigError([Finding(str(config.path), None, f"jobs.{name}", message)])


def _tell(report: Report, show: Show) -> None:
    for line in lines_of(report):
        show(line)


def _previews(job: Job, show: Show, clean: Clean) -> Sinks:
    """Return a sink that shows what the real ones would get; the result itself once."""
    names = job.sink_names()
    return {job.name: {"preview": Target(_Preview(names, show, clean), job.deadline)}}


class _Preview:
    """Shows a delivery instead of making it."""

    def __init__(self, names: tuple[str, ...], show: Show, clean: Clean) -> None:
        self._names = names
        self._show = show
        self._clean = clean

    async def deliver(self, delivery: Delivery) -> None:
        """Show the result, and where it would go."""
        fetched = delivery.fetched
        content = await fetched.body.read()
        # Cut after it is cleaned: a secret that lies on the cut would otherwise show its half.
        self._show(self._clean(content[:_SEARCHED].decode("utf-8", "replace"))[:SHOWN].removesuffix("\n"))
        if len(content) > SHOWN:
            self._show(f"... {len(content) - SHOWN} more bytes")
        self._show(f"\n{fetched.content_type or 'no content type'}; would go to: {', '.join(self._names) or 'no sink'}")

    async def aclose(self) -> None:
        """Nothing is held."""
