"""What a view of the status page costs the daemon, while its jobs are run each minute and while nothing happens.

``python -m benchmarks.views`` runs the real daemon until each job has a full chart, and looks at the page as people do:
with pauses, in which the caches of the processor are filled with other things. Figures are CPU of the loop's thread.
"""

from __future__ import annotations

import argparse
import re
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Final

from benchmarks.measure import Daemon, mebibytes, memory_of, running, table
from fetchd.board.standing import RECENT
from fetchd.demo.processes import upstream

AT_FIRST: Final = "5s"
"""How often each job is run until its chart is full."""
GAP: Final = 1.0
EVERY: Final = 3.0
"""Seconds between two views: of who reloads the page again and again, and of the page that renews itself."""
SETTLED: Final = 10.0
"""Seconds after a reload that are not measured."""
AFTERWARDS: Final = 0.005
"""Seconds that the end of a connection may take."""

_NEXT: Final = re.compile(rb'data-live="([^"]*)"')


@dataclass(frozen=True, slots=True)
class View:
    """Milliseconds of CPU that a view took, and the bytes that came."""

    cost: float
    size: int


class Viewer:
    """Looks at a daemon's page; what the loop's thread uses between two views is taken off what it uses within one."""

    def __init__(self, daemon: Daemon) -> None:
        self._clock = Path(f"/proc/{daemon.pid}/task/{daemon.pid}/schedstat")
        self._found = b""
        self._port = int(daemon.tally().page.rstrip("/").rpartition(":")[2])

    def pages(self, count: int) -> list[View]:
        """Load the page anew so many times."""
        return self._views(["/"] * count, GAP)

    def news(self, count: int) -> list[View]:
        """Ask so many times for what has changed, as the page in a browser does."""
        return self._views(self._follow(count), EVERY)[1:]

    def _follow(self, count: int) -> Iterator[str]:
        path = "/"
        for _ in range(count + 1):
            yield path
            found = _NEXT.search(self._found)
            path = found[1].decode() if found else "/live"

    def _views(self, paths: Iterator[str] | Sequence[str], gap: float) -> list[View]:
        views: list[tuple[float, float, int]] = []
        idle = passed = 0.0
        used, at = self._used(), time.monotonic()
        for path in paths:
            time.sleep(gap)
            before, began = self._used(), time.monotonic()
            idle, passed = idle + before - used, passed + began - at
            self._found = self._asked(path)
            time.sleep(AFTERWARDS)
            used, at = self._used(), time.monotonic()
            views.append((used - before, at - began, len(self._found)))
        return [View(cost - idle / passed * took, size) for cost, took, size in views]

    def _used(self) -> float:
        """Return the milliseconds that the loop's thread has run."""
        return int(self._clock.read_text().split()[0]) / 1e6

    def _asked(self, path: str) -> bytes:
        with closing(socket.create_connection(("127.0.0.1", self._port), 10)) as connection:
            connection.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            pieces = []
            while piece := connection.recv(2**18):
                pieces.append(piece)
        return b"".join(pieces)


def config(count: int, url: str, interval: str) -> str:
    """Return the jobs."""
    return "\n\n".join(
        f'[jobs.job-{number:04}]\nurl = "{url}/ok?{number}"\ninterval = "{interval}"\n'
        f'sinks = [{{kind = "file", path = "out/{number}.json"}}]'
        for number in range(count)
    )


def reload(daemon: Daemon, jobs: str) -> None:
    """Put other jobs in force."""
    file = daemon.log.with_name("fetchd.toml")
    head, _, _ = file.read_text().partition("[jobs.")
    file.write_text(head + jobs)
    subprocess.run([sys.executable, "-m", "fetchd", "reload", "-c", str(file)], check=True, stdout=subprocess.DEVNULL)


def row(name: str, views: Sequence[View]) -> tuple[str, ...]:
    """Return what was measured, for the table."""
    costs = sorted(view.cost for view in views)
    size = median(view.size for view in views)
    return name, f"{median(costs):.1f} ms", f"{costs[0]:.1f} to {costs[-1]:.1f} ms", f"{size / 1000:,.0f} kB"


def main() -> None:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.views", description=__doc__.splitlines()[0])
    parser.add_argument("--jobs", type=int, default=1000)
    parser.add_argument("--views", type=int, default=20, help="views of each kind")
    size = parser.parse_args()
    rows = []
    with (
        upstream() as (_, url),
        tempfile.TemporaryDirectory(prefix="views-") as folder,
        running(Path(folder) / "daemon", config(size.jobs, url, AT_FIRST)) as daemon,
    ):
        while sum(job.runs for job in daemon.tally().jobs.values()) < RECENT * size.jobs:
            time.sleep(5)
        viewer = Viewer(daemon)
        for interval, said in (("1m", "each job once a minute"), ("1d", "nothing happens")):
            reload(daemon, config(size.jobs, url, interval))
            time.sleep(SETTLED)
            rows.append(row(f"the page, {said}", viewer.pages(size.views)))
            rows.append(row(f"what has changed after {EVERY:.0f} s, {said}", viewer.news(size.views)))
        rows.append(("RSS", mebibytes(memory_of([daemon.pid]).rss), "", ""))
    print(table((f"{size.jobs:,} jobs", "CPU of a view", "from, to", "sent"), rows))


if __name__ == "__main__":
    main()
