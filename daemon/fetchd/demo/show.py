"""The tour: the real daemon on upstreams that misbehave, watched from outside while it runs."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from types import FrameType
from typing import Final

import click

from fetchd.demo.stage import INTERVAL, SCENES, Stage, staged
from fetchd.demo.summary import Show, mebibytes, summary
from fetchd.demo.tally import Tally, faults

START: Final = 20.0
"""Seconds that the daemon may take to get ready."""
DRAWN_EVERY: Final = 0.25
SAID_EVERY: Final = 5.0

Draw = Callable[[Stage, Tally, float], None]
"""Shows how things stand, so many seconds after the daemon was ready."""


def show(seconds: float) -> int:
    """Run the tour for ``seconds``; return the exit status: 0 if the daemon did all that it promises, else 1.

    Raises:
        DemoError: the upstream did not start.
    """
    tally = Tally()
    click.echo("Starting the daemon and an upstream that misbehaves, all on this machine.")
    click.echo("Each job is due every second; at most 0.6 s without an answer, 0.9 s in all.")
    with _asked_to_stop() as asked, staged() as stage:
        if not _until_ready(stage, tally, asked):
            if asked():
                return 128 + signal.SIGINT
            click.echo("\n".join(["The daemon did not start:", *tally.troubles]), err=True)
            return 1
        click.echo(f"Its status page, for as long as it runs: {tally.page}\n")
        began, memory_first = time.monotonic(), stage.memory
        memory_last = _watch(stage, tally, seconds, asked)
        shown = Show(time.monotonic() - began, memory_first, memory_last, _stop(stage, tally))
        until = tally.stopping_at or datetime.now(UTC)
        wrong = list(faults(tally, {scene.job: scene.ends for scene in SCENES}, until, INTERVAL))
        if shown.status != 0:
            wrong += ["the daemon did not stop in order", *tally.troubles]
        click.echo(summary(shown, tally, until, stage.out, wrong))
        return 1 if wrong else 0


def _until_ready(stage: Stage, tally: Tally, asked: Callable[[], bool]) -> bool:
    end = time.monotonic() + START
    while tally.ready_at is None and time.monotonic() < end and not asked():
        lines = stage.lines(DRAWN_EVERY)
        if lines is None:
            return False
        for line in lines:
            tally.add(line)
    return tally.ready_at is not None


def _watch(stage: Stage, tally: Tally, seconds: float, asked: Callable[[], bool]) -> int:
    """Show how the daemon does until time is up, or it ends, or somebody asks; return its last resident bytes."""
    began = time.monotonic()
    memory = stage.memory
    with ExitStack() as stack:
        draw, every = stack.enter_context(_drawing(seconds)), DRAWN_EVERY
        while (passed := time.monotonic() - began) < seconds and not asked():
            draw(stage, tally, passed)
            lines = stage.lines(min(every, seconds - passed))
            if lines is None:
                break
            memory = stage.memory or memory
            for line in lines:
                tally.add(line)
        draw(stage, tally, min(passed, seconds))
    return memory


def _stop(stage: Stage, tally: Tally) -> int | None:
    """Stop the daemon in order and take in its last words; return its exit status, None if it does not end."""
    stage.ask_to_stop()
    end = time.monotonic() + START
    while (lines := stage.lines(DRAWN_EVERY)) is not None and time.monotonic() < end:
        for line in lines:
            tally.add(line)
    return stage.status()


@contextmanager
def _asked_to_stop() -> Iterator[Callable[[], bool]]:
    """Turn the signals that would end this process into a question: what was started ends first, and in order."""
    asked: list[int] = []

    def note(number: int, _frame: FrameType | None) -> None:
        asked.append(number)

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        yield lambda: bool(asked)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _drawing(seconds: float) -> Iterator[Draw]:
    """Give what draws on a terminal, or says a line now and then elsewhere."""
    if sys.stdout.isatty() and os.environ.get("TERM", "dumb") != "dumb":
        from fetchd.demo.table import drawn

        with drawn(seconds) as draw:
            yield draw
        click.echo()
        return
    yield _saying(seconds)
    click.echo()


def _saying(seconds: float) -> Draw:
    due = [min(SAID_EVERY, seconds / 2)]

    def say(stage: Stage, tally: Tally, passed: float) -> None:
        if passed < due[0]:
            return
        due[0] += SAID_EVERY
        jobs = [tally.job(scene.job) for scene in SCENES]
        good, failed = sum(job.good for job in jobs), sum(job.failed for job in jobs)
        command = " and a command of its sinks" if stage.commands else ""
        click.echo(
            f"{passed:4.0f} s  {good} runs succeeded, {failed} ended with their reason, "
            f"{sum(job.skipped for job in jobs)} skipped; 1 process{command}, {mebibytes(stage.memory)}"
        )

    return say
