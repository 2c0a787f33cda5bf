"""A host that wants to be left alone: fifty jobs, one Retry-After, and whoever else there is to be fetched meanwhile.

``python -m benchmarks.politeness`` runs the real daemon against a host that answers 429 with ``Retry-After: 5``, twice,
before it serves, and beside it against another host that serves all the time. It fails if a request came before its
time, or if a slot of the other host's jobs was left out.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from benchmarks.measure import running, table

LIMITED: Final = "127.0.0.1"
OTHER: Final = "127.0.0.2"
JOBS: Final = 50
OTHERS: Final = 10
TIMES: Final = 2
"""How often the host asks to be left alone before it serves."""
TOGETHER: Final = 0.2
"""Seconds within which requests are on their way before the first answer can have been read."""
AFTERWARDS: Final = 5.0
"""Seconds that are watched once the host serves."""


@dataclass(slots=True)
class Host:
    """A host that asks ``times`` to be left alone for so many ``seconds``, and what came: seconds since the asking."""

    seconds: int
    times: int = TIMES
    asked: list[float] = field(default_factory=list)
    """When it asked."""
    early: list[float] = field(default_factory=list)
    together: int = 0
    """Requests that were on their way when it asked."""
    served: list[float] = field(default_factory=list)

    def answer(self, now: float) -> bool:
        """Take note of a request, and return whether it is served."""
        passed = now - self.asked[-1] if self.asked else float(self.seconds)
        if passed < self.seconds:
            if passed < TOGETHER:
                self.together += 1
            else:
                self.early.append(passed)
            return False
        if len(self.asked) < self.times:
            self.asked.append(now)
            return False
        self.served.append(passed)
        return True


@contextmanager
def serving(host: Host) -> Iterator[int]:
    """Serve as ``host`` and, at the same port of another address, as one that serves all the time; give the port."""
    loop, ready, ports = asyncio.new_event_loop(), threading.Event(), list[int]()
    over = asyncio.Event()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.closing(writer), contextlib.suppress(OSError, EOFError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                limited = f"\r\nHost: {LIMITED}:".encode() in head
                good = host.answer(time.monotonic()) if limited else True
                status = "200 OK" if good else f"429 Slow Down\r\nRetry-After: {host.seconds}"
                writer.write(f"HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n".encode())
                await writer.drain()

    async def serve() -> None:
        limited = await asyncio.start_server(talk, LIMITED, 0, backlog=JOBS)
        ports.append(limited.sockets[0].getsockname()[1])
        async with limited, await asyncio.start_server(talk, OTHER, ports[0]):
            ready.set()
            await over.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),), daemon=True)
    thread.start()
    if not ready.wait(10):
        raise SystemExit(f"cannot serve at {LIMITED} and {OTHER}")
    try:
        yield ports[0]
    finally:
        loop.call_soon_threadsafe(over.set)
        thread.join(5)


def config(port: int) -> str:
    """Return the jobs: of the limited host some that begin in each second, and some that have the time to wait."""
    jobs = [_job(f"limited{number}", LIMITED, port, "1s" if number % 2 else "10s") for number in range(JOBS)]
    return "\n\n".join([*jobs, *(_job(f"other{number}", OTHER, port, "500ms") for number in range(OTHERS))])


def _job(name: str, host: str, port: int, every: str) -> str:
    return f'[jobs.{name}]\nurl = "http://{host}:{port}/{name}"\ninterval = "{every}"\ndeadline = "{every}"'


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it, print what came, and return 1 if that is not as it should be."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.politeness", description=__doc__.splitlines()[0])
    parser.add_argument("--retry-after", type=int, default=5, metavar="SECONDS", help="what the host names (5)")
    host = Host(parser.parse_args(arguments).retry_after)
    with tempfile.TemporaryDirectory() as folder, serving(host) as port:
        with running(Path(folder) / "daemon", config(port)) as daemon:
            end = time.monotonic() + 2 + 2 * TIMES * host.seconds
            while not host.served and time.monotonic() < end:
                time.sleep(0.05)
            time.sleep(AFTERWARDS)
        tally = daemon.tally()
    others = [tally.job(f"other{number}") for number in range(OTHERS)]
    skipped = sum(job.skipped + job.failed for job in others)
    rows = [
        ("times that the host asked to be left alone", len(host.asked)),
        ("requests before their time", len(host.early)),
        ("requests on their way when it asked", host.together),
        ("first request after it, in s", f"{min(host.served):.3f}" if host.served else "none"),
        ("requests served then", len(host.served)),
        ("runs of the other host's jobs", sum(job.runs for job in others)),
        ("of its slots, failed or left out", skipped),
        ("the latest of its runs, in ms after its slot", f"{1000 * max(job.latest for job in others):.1f}"),
    ]
    print(table((f"{JOBS} jobs, Retry-After: {host.seconds}", ""), rows))
    return int(bool(host.early or skipped or not host.served))


if __name__ == "__main__":
    sys.exit(main())
