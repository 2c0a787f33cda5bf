"""The tour on a terminal: drawn anew as the log's lines come."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Final

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from fetchd.demo.stage import INTERVAL, SCENES, Scene, Stage
from fetchd.demo.summary import mebibytes
from fetchd.demo.tally import JobTally, Tally

_INDENT: Final = " " * 10
_WIDTH: Final = 78


@contextmanager
def drawn(seconds: float) -> Iterator[Callable[[Stage, Tally, float], None]]:
    """Give what draws how things stand, so many seconds after the daemon was ready; what it drew last stays."""
    with Live(console=Console(highlight=False), auto_refresh=False) as live:
        first: list[int] = []

        def draw(stage: Stage, tally: Tally, passed: float) -> None:
            memory = stage.memory
            first.append(memory)
            del first[1:]
            lines = [
                Text.assemble(("fetchd demo  ", "bold"), f"{passed:.0f} s, {max(0.0, seconds - passed):.0f} s to go"),
                _daemon(memory, first[0], stage.commands),
                Text(),
                *_jobs(tally, datetime.now(UTC)),
            ]
            live.update(Group(*(_on_one_line(line) for line in lines)), refresh=True)

        yield draw


def _daemon(memory: int, first: int, commands: int) -> Text:
    text = Text.assemble("the daemon   ", ("1 process", "bold green"), ", ", (mebibytes(memory), "bold green"))
    text.append(f" now, {mebibytes(first)} at its start")
    # It comes and goes too fast to be seen, but when it is, one process would be a lie.
    return text.append(f"; a command of its sinks: {commands}" if commands else "", "dim")


def _jobs(tally: Tally, now: datetime) -> Iterator[Text]:
    yield Text(
        f"{'job':<10}{'its upstream':<29}{'runs':>5}{'good':>6}{'failed':>8}{'skipped':>9}{'per second':>11}", "bold"
    )
    yield Text("─" * _WIDTH, "dim")
    for scene in SCENES:
        job = tally.job(scene.job)
        yield Text.assemble(
            (f"{scene.job:<10}", "bold"),
            f"{scene.words:<29}{job.runs:>5}{job.good:>6}{job.failed:>8}{job.skipped:>9}",
            _rate(job, tally.due(scene.job, now, INTERVAL)),
        )
        yield _last(scene, job)


def _last(scene: Scene, job: JobTally) -> Text:
    """Return the last outcome in words, red where it is not what this upstream should lead to."""
    last = job.last
    text = Text(_INDENT)
    if last is None:
        return text.append("not yet", "dim")
    colour = ("yellow" if scene.ends else "green") if last.reason == scene.ends else "red"
    text.append(f"{last.reason or last.outcome} after {last.duration * 1000:.0f} ms", colour)
    return text.append(f": {last.message}" if last.message else "", "dim")


def _rate(job: JobTally, due: int) -> tuple[str, str]:
    if due <= 1 and not job.runs:
        return "-".rjust(11), "dim"
    # The run of the slot that came due last may still be under way.
    kept = min(1.0, job.runs / max(1, due - 1))
    return f"{kept / INTERVAL:.2f} of {1 / INTERVAL:.0f}".rjust(11), "green" if kept > 0.9 or due <= 1 else "red"


def _on_one_line(text: Text) -> Text:
    text.no_wrap, text.overflow = True, "ellipsis"
    return text
