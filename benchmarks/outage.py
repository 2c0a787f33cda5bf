"""The outage, replayed: an upstream stops answering while a script is launched every second, beside the daemon.

``python -m benchmarks.outage`` launches 60 real processes against an upstream that hangs, for a minute, and writes
the chart. The peers are what people write when they have been bitten once: a timeout, or a lock.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks.chart import draw
from benchmarks.measure import Daemon, Memory, mebibytes, memory_of, running, table
from fetchd.demo.processes import upstream
from fetchd.demo.tally import JobTally

REFUSED: Final = 75
WARM: Final = 10
"""Seconds after which the daemon's memory counts as settled."""
CHART: Final = Path(__file__).parents[1] / "docs" / "outage.svg"


@dataclass(frozen=True, slots=True)
class Peer:
    """What is launched each second: how it fetches, and the upstream that it meets."""

    words: str
    mode: str
    script: str
    prefix: tuple[str, ...] = ()

    def command(self, url: str, folder: Path) -> list[str]:
        """Return the command, as cron would start it."""
        prefix = [word.format(lock=folder / "lock") for word in self.prefix]
        return [*prefix, sys.executable, "-c", f"import requests; {self.script.format(url=f'{url}/{self.mode}')}"]


PEERS: Final = {
    "plain": Peer("cron + requests.get(url)", "hang", "requests.get({url!r})"),
    "timeout": Peer("cron + requests.get(url, timeout=5)", "drip", "requests.get({url!r}, timeout=5)"),
    "flock": Peer(
        "cron + flock -n + requests.get(url)",
        "hang",
        "requests.get({url!r})",
        ("flock", "--nonblock", "--no-fork", "--conflict-exit-code", str(REFUSED), "{lock}"),
    ),
}


@dataclass(frozen=True, slots=True)
class Sample:
    """How things stand at one second."""

    second: float
    launched: int
    alive: int
    scripts: Memory
    daemon: Memory


class Launches:
    """The scripts that were launched, and those of them that are still alive."""

    def __init__(self, command: Sequence[str]) -> None:
        self._command = command
        self._all: list[subprocess.Popen[bytes]] = []

    def launch(self) -> None:
        """Start one more, whatever has become of the others: that is what cron does."""
        self._all.append(
            subprocess.Popen(
                self._command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
        )

    def alive(self) -> list[int]:
        """Return the ids of those that have not ended."""
        return [process.pid for process in self._all if process.poll() is None]

    def ended(self, *, refused: bool) -> int:
        """Return how many have ended, either because the lock was held or otherwise."""
        return sum(process.poll() is not None and (process.returncode == REFUSED) is refused for process in self._all)

    def kill(self) -> None:
        """End all of them."""
        for process in self._all:
            process.kill()
        for process in self._all:
            process.wait()


@contextmanager
def launching(command: Sequence[str]) -> Iterator[Launches]:
    """Give launches of ``command``; none of them outlives the block."""
    launches = Launches(command)
    try:
        yield launches
    finally:
        launches.kill()


def replay(peer: Peer, count: int) -> tuple[list[Sample], JobTally, tuple[int, int]]:
    """Launch ``count`` scripts, one a second, beside a daemon with the same job; all of it is gone on return.

    Returns:
        What was measured each second, what the daemon's job did, how many scripts ended and were refused.
    """
    with tempfile.TemporaryDirectory(prefix="outage-") as name, upstream() as (_, url):
        folder = Path(name)
        job = f'[jobs.rates]\nurl = "{url}/{peer.mode}"\ninterval = "1s"\ndeadline = "800ms"\nretries = 0\n'
        with running(folder / "daemon", job) as daemon, launching(peer.command(url, folder)) as launches:
            samples = list(_sampled(launches, daemon, count))
            ended = launches.ended(refused=False), launches.ended(refused=True)
        return samples, daemon.tally().job("rates"), ended


def _sampled(launches: Launches, daemon: Daemon, count: int) -> Iterator[Sample]:
    start = time.monotonic()
    yield Sample(0.0, 0, 0, Memory(), memory_of([daemon.pid]))
    for number in range(1, count + 1):
        launches.launch()
        # Just before the next launch: the script has imported what it needs by then.
        time.sleep(max(0.0, start + number - time.monotonic() - 0.1))
        alive = launches.alive()
        yield Sample(float(number), number, len(alive), memory_of(alive), memory_of([daemon.pid]))
        time.sleep(max(0.0, start + number - time.monotonic()))


def report(peer: Peer, samples: Sequence[Sample], job: JobTally, ended: tuple[int, int]) -> str:
    """Return what was measured, as a table with its ratios."""
    last = samples[-1]
    settled = [sample.daemon.rss for sample in samples if sample.second >= WARM] or [last.daemon.rss]
    reasons = ", ".join(f"{count} x {reason}" for reason, count in job.reasons.items())
    rows = [
        ("launched / slots run", last.launched, job.runs),
        ("ended", ended[0], f"{job.runs} ({reasons})"),
        ("refused: the lock was held", ended[1], "-"),
        ("processes after the last one", last.alive, 1),
        ("memory, PSS", mebibytes(last.scripts.pss), mebibytes(last.daemon.pss)),
        ("memory, RSS", mebibytes(last.scripts.rss), mebibytes(last.daemon.rss)),
        (f"RSS from second {WARM} on", "-", f"{mebibytes(min(settled))} to {mebibytes(max(settled))}"),
    ]
    text = table((f"{last.second:.0f} s, upstream: {peer.mode}", peer.words, "fetchd"), rows)
    if last.alive > 1:
        text += (
            f"\n\n{last.alive} processes to 1; {last.scripts.pss / last.daemon.rss:.0f} times the memory"
            f" (their PSS over the daemon's RSS; PSS to PSS {last.scripts.pss / last.daemon.pss:.0f},"
            f" RSS to RSS {last.scripts.rss / last.daemon.rss:.0f});"
            f" {mebibytes(last.scripts.pss / last.alive)} PSS for each stuck script"
        )
    return text


def main(arguments: Sequence[str] | None = None) -> None:
    """Replay, print, draw."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.outage", description=__doc__)
    parser.add_argument("--launches", type=int, default=60, metavar="N", help="how many, one a second (60)")
    parser.add_argument("--peer", choices=[*PEERS, "all"], default="plain", help="what is launched (plain)")
    parser.add_argument("--svg", type=Path, default=CHART, metavar="FILE", help="where the chart of plain goes")
    given = parser.parse_args(arguments)
    if not 1 <= given.launches <= 300:
        parser.error("--launches: between 1 and 300, for each is a process that stays")
    for name in PEERS if given.peer == "all" else [given.peer]:
        samples, job, ended = replay(PEERS[name], given.launches)
        print(report(PEERS[name], samples, job, ended), end="\n\n", flush=True)
        if name == "plain":
            scripts = [(sample.second, sample.scripts.pss, sample.alive) for sample in samples]
            given.svg.write_text(draw(scripts, [(sample.second, sample.daemon.rss, 1) for sample in samples]))
            print(f"{given.svg} is drawn\n")


if __name__ == "__main__":
    main()
