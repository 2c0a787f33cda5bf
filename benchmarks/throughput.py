"""What the daemon costs: CPU for each fetch, lateness, memory; each a real process on this machine.

Parts: ``fetch`` 1,000 jobs each second, beside a bare client loop at the same rate; ``minute`` 10,000 jobs each
minute; ``idle`` memory at rest; ``slope`` memory over many runs against upstreams that misbehave. All of them take
five minutes.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from statistics import linear_regression, median, quantiles
from typing import Final

from benchmarks.measure import Daemon, cpu_of, mebibytes, memory_of, running, table
from fetchd.demo.processes import upstream

Row = tuple[str, str]
"""What was measured, and the figure."""

HOSTILE: Final = ("hang", "drip/0.05", "flood", "missing", "ok")
WARM_UP: Final = 5.0
CPUS: Final = sorted(os.sched_getaffinity(0))


@dataclass(frozen=True, slots=True)
class Size:
    """How much of each part: jobs, seconds, runs."""

    each_second: int
    window: float
    rounds: int
    each_minute: int
    settle: float
    runs: int


@dataclass(frozen=True, slots=True)
class Window:
    """What the daemon's log says of a stretch of time: runs that ended, those that were good, lateness in seconds."""

    seconds: float
    good: int
    lateness: list[float]

    @classmethod
    def of(cls, log: Path, start: float, end: float) -> Window:
        """Return what ``log`` says of the time from ``start`` to ``end``, in seconds since 1970."""
        good, lateness = 0, []
        with log.open() as lines:
            for said in map(json.loads, lines):
                if said["event"] == "run_finished" and start <= datetime.fromisoformat(said["ts"]).timestamp() < end:
                    good += said["reason"] is None
                    lateness.append(said["lateness_s"])
        return cls(end - start, good, lateness)

    def __add__(self, other: Window) -> Window:
        return Window(self.seconds + other.seconds, self.good + other.good, self.lateness + other.lateness)

    @property
    def rate(self) -> float:
        """Return the good runs for each second."""
        return self.good / self.seconds

    def late(self) -> str:
        """Return the lateness that half of the runs, and all but one in a hundred, stayed below."""
        points = quantiles(self.lateness, n=100)
        return f"{points[49] * 1000:.1f} ms / {points[98] * 1000:.1f} ms"


def fetch(size: Size) -> Iterator[Row]:
    """Compare the CPU for each fetch with that of a bare client loop in the same place, in turns."""
    bare: list[float] = []
    ours: list[float] = []
    window = Window(0.0, 0, [])
    with upstream() as (server, url), tempfile.TemporaryDirectory(prefix="throughput-") as name:
        pin(server.pid, last=True)
        for number in range(size.rounds):
            folder = Path(name, str(number))
            folder.mkdir()
            bare.append(_bare(f"{url}/ok", size, folder / "bare"))
            with running(folder / "daemon", jobs(size.each_second, "1s", [f"{url}/ok"])) as daemon:
                pin(daemon.pid)
                time.sleep(WARM_UP)
                start, before = time.time(), cpu_of(daemon.pid)
                time.sleep(size.window)
                end, used = time.time(), cpu_of(daemon.pid) - before
                memory = memory_of([daemon.pid])
                found = Window.of(daemon.log, start, end)
            ours.append(used / found.good * 1000)
            window += found
    yield f"{size.each_second:,} jobs every second: achieved", f"{window.rate:,.1f} fetches/s"
    yield "lateness, p50 / p99", window.late()
    yield "CPU for each fetch, fetchd: schedule, deadline, limits, log line included", _milliseconds(ours)
    yield "CPU for each fetch, bare httpx over aiohttp at the same rate", _milliseconds(bare)
    yield "fetchd to bare", f"{median(ours) / median(bare):.2f}"
    yield f"RSS with {size.each_second:,} jobs every second", mebibytes(memory.rss)


def _milliseconds(rounds: Sequence[float]) -> str:
    return f"{median(rounds):.3f} ms ({min(rounds):.3f} to {max(rounds):.3f})"


def _bare(url: str, size: Size, counted: Path) -> float:
    """Return the milliseconds of CPU for each fetch of the bare loop."""
    with counted.open("wb") as stdout:
        command = [sys.executable, "-m", "benchmarks.bare", url, str(size.each_second)]
        process = subprocess.Popen(command, stdout=stdout, cwd=Path(__file__).parents[1])
        try:
            pin(process.pid)
            time.sleep(WARM_UP)
            if process.poll() is not None:
                raise SystemExit("the bare loop has ended: is httpx-aiohttp there? it is in requirements/dev.txt")
            start, before = time.time(), cpu_of(process.pid)
            time.sleep(size.window)
            end, used = time.time(), cpu_of(process.pid) - before
        finally:
            process.kill()
            process.wait()
    told = [tuple(map(float, line.split())) for line in counted.read_text().splitlines()]
    within = [(count, at) for count, at in told if start <= at < end]
    rate = (within[-1][0] - within[0][0]) / (within[-1][1] - within[0][1])
    return used / (rate * (end - start)) * 1000


def minute(size: Size) -> Iterator[Row]:
    """Look at very many jobs, each of them once a minute."""
    with started(size.each_minute, "1m", ["ok"]) as daemon:
        time.sleep(2)
        start, before = time.time(), cpu_of(daemon.pid)
        time.sleep(60)
        end, used = time.time(), cpu_of(daemon.pid) - before
        memory = memory_of([daemon.pid])
        window = Window.of(daemon.log, start, end)
    yield f"{size.each_minute:,} jobs each minute: achieved", f"{window.good:,} fetches in {window.seconds:.0f} s"
    yield "lateness, p50 / p99", window.late()
    yield "CPU", f"{used / window.seconds * 100:.0f} % of a core"
    yield f"RSS with {size.each_minute:,} jobs", mebibytes(memory.rss)


def idle(size: Size) -> Iterator[Row]:
    """Look at the memory of daemons that have little to do."""
    with started(1, "1h", ["ok"]) as alone, started(1000, "1m", ["ok"]) as many:
        time.sleep(size.settle)
        yield f"RSS with 1 job each hour, after {size.settle:.0f} s", mebibytes(memory_of([alone.pid]).rss)
        yield f"RSS with 1,000 jobs each minute, after {size.settle:.0f} s", mebibytes(memory_of([many.pid]).rss)


def slope(size: Size) -> Iterator[Row]:
    """Follow the memory over many runs against everything that the demo's upstream can do."""
    count, interval = 200, 0.5
    policy = 'deadline = "250ms"\ntimeout = "200ms"\nmax_body = "64KiB"\nretries = 0\n'
    with started(count, "500ms", HOSTILE, policy) as daemon:
        samples: list[tuple[float, int]] = []
        start = time.time()
        end = start + size.runs * interval / count
        while (now := time.time()) < end:
            samples.append((now - start, memory_of([daemon.pid]).rss))
            time.sleep(min(1.0, max(0.0, end - now)))
        window = Window.of(daemon.log, start, end)
    runs = len(window.lateness)
    warm = samples[len(samples) // 2 :]  # until then each job fills the history that it is allowed
    gain = linear_regression(*zip(*warm, strict=True)).slope * (end - start) / runs
    yield f"{runs:,} runs in {end - start:.0f} s, {runs - window.good:,} of them failed", "by design"
    yield "RSS at half time", mebibytes(warm[0][1])
    yield "RSS at the end", mebibytes(warm[-1][1])
    yield "slope of RSS from half time on", f"{gain * 1000 / 1024:+.1f} KiB for 1,000 runs"


PARTS: Final[dict[str, Callable[[Size], Iterator[Row]]]] = {
    "fetch": fetch,
    "minute": minute,
    "idle": idle,
    "slope": slope,
}


@contextmanager
def started(count: int, interval: str, modes: Sequence[str], policy: str = "") -> Iterator[Daemon]:
    """Give a daemon with ``count`` jobs, spread over the ``modes`` of an upstream of its own."""
    with upstream() as (_, url), tempfile.TemporaryDirectory(prefix="throughput-") as name:
        urls = [f"{url}/{mode}" for mode in modes]
        with running(Path(name) / "daemon", jobs(count, interval, urls, policy)) as daemon:
            yield daemon


def jobs(count: int, interval: str, urls: Sequence[str], policy: str = "") -> str:
    """Return the configuration of ``count`` jobs that take turns with ``urls``."""
    tables = (f'[jobs.job-{number}]\nurl = "{urls[number % len(urls)]}"\n' for number in range(count))
    return f'[defaults]\ninterval = "{interval}"\n{policy}\n' + "\n".join(tables)


def pin(pid: int, *, last: bool = False) -> None:
    """Keep the process, with its threads, on the first core, or on the last; where there is one there is no choice."""
    for task in os.listdir(f"/proc/{pid}/task"):
        os.sched_setaffinity(int(task), {CPUS[-1 if last else 0]})


def measured(names: Iterable[str], size: Size) -> str:
    """Return the figures of the parts, as a table."""
    rows: list[tuple[str, str, str]] = []
    for name in names:
        print(f"measuring {name} ...", file=sys.stderr)
        rows += [(name, *row) for row in PARTS[name](size)]
    return table(("part", "measured", "figure"), rows)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.throughput", description=__doc__)
    parser.add_argument(
        "parts", nargs="*", choices=[*PARTS, "all"], default="all", metavar="PART", help="all by default"
    )
    parser.add_argument("--each-second", type=int, default=1000, metavar="N", help="jobs of fetch (1000)")
    parser.add_argument("--window", type=float, default=10.0, metavar="SECONDS", help="of each round of fetch (10)")
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="of fetch (3)")
    parser.add_argument("--each-minute", type=int, default=10_000, metavar="N", help="jobs of minute (10000)")
    parser.add_argument("--settle", type=float, default=60.0, metavar="SECONDS", help="that idle waits (60)")
    parser.add_argument("--runs", type=int, default=30_000, metavar="N", help="of slope (30000)")
    given = parser.parse_args(arguments)
    size = Size(given.each_second, given.window, given.rounds, given.each_minute, given.settle, given.runs)
    print(f"CPython {sys.version.split()[0]}, {os.cpu_count()} cores\n")
    print(measured(PARTS if "all" in given.parts else given.parts, size))


if __name__ == "__main__":
    main()
