"""What durability costs: Runs that keep their result, beside the same Runs with a store that forgets.

One process, one loop: the real fetcher on a real upstream on loopback, the real runner and outbox, one sink that takes
everything at once. The two stores are measured in turn; figures are medians, and the ratio is of the same run.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import itertools
import os
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Final

import structlog

from benchmarks.measure import mebibytes, memory_of, table
from fetchd.body import MemoryBudget
from fetchd.clock import SystemClock
from fetchd.demo.processes import upstream
from fetchd.extract.reader import Reader
from fetchd.fetch.client import ClientOptions, open_transport
from fetchd.fetch.fetcher import Fetcher
from fetchd.fetch.spool import Spool
from fetchd.harvest import Harvest
from fetchd.job import Job
from fetchd.outbox import Outbox
from fetchd.run import Delivery
from fetchd.runner import Runner
from fetchd.store import Store
from fetchd.store.memory import MemoryStore
from fetchd.store.sqlite import open_sqlite_store
from fetchd.targets import Target
from fetchd.worker import Workers

JOBS: Final = 50


class _Taking:
    """A sink that takes everything at once."""

    async def deliver(self, delivery: Delivery) -> None:
        """Take it."""

    async def aclose(self) -> None:
        """Nothing is held."""


@asynccontextmanager
async def runner_over(store: Store, folder: Path) -> AsyncIterator[Runner]:
    """Give a runner whose outbox works beside it."""
    async with open_transport(ClientOptions()) as transport:
        workers, clock = Workers(), SystemClock()
        spool = Spool(folder, 2**20, MemoryBudget(2**28))
        harvest = Harvest(Fetcher(transport, spool, workers), Reader(workers, spool), spool, clock)
        sinks = {f"job-{number}": {"sink": Target(_Taking(), 5.0)} for number in range(JOBS)}
        outbox = Outbox(store, sinks, clock)
        serving = asyncio.create_task(outbox.run())
        try:
            yield Runner(harvest, outbox, store, clock, max_concurrent=JOBS)
        finally:
            serving.cancel()
            await asyncio.gather(serving, return_exceptions=True)
            await workers.aclose()


async def many(runner: Runner, url: str, runs: int) -> tuple[float, float]:
    """Make so many Runs, as many at a time as there are jobs; return Runs per second, and CPU seconds for each."""
    jobs = [Job.model_validate({"name": f"job-{number}", "url": url, "retries": 0}) for number in range(JOBS)]
    turns = itertools.count()

    async def one(job: Job) -> None:
        while next(turns) < runs:
            await asyncio.create_task(runner.run(job, datetime.now(UTC)))

    began, cpu = time.monotonic(), time.process_time()
    await asyncio.gather(*(one(job) for job in jobs))
    return runs / (time.monotonic() - began), (time.process_time() - cpu) / runs


async def rounds(url: str, runs: int, count: int) -> None:
    """Measure both stores in turn and print what came of it."""
    figures: dict[str, list[tuple[float, float]]] = {"forgets": [], "keeps": []}
    for _ in range(count):
        for name, kept in figures.items():
            with tempfile.TemporaryDirectory(prefix="durable-") as folder:
                path = Path(folder)
                async with AsyncExitStack() as stack:
                    opened = aclosing(MemoryStore()) if name == "forgets" else open_sqlite_store(path)
                    store: Store = await stack.enter_async_context(opened)
                    runner = await stack.enter_async_context(runner_over(store, path))
                    await many(runner, url, runs // 10)
                    kept.append(await many(runner, url, runs))
    rate = {name: median(rate for rate, _ in kept) for name, kept in figures.items()}
    cpu = {name: median(cpu for _, cpu in kept) for name, kept in figures.items()}
    rows = [(name, f"{rate[name]:,.0f}", f"{cpu[name] * 1000:.3f} ms") for name in figures]
    print(table(("store", "runs per second", "CPU per run"), rows))
    print(f"\ndurable runs at {rate['keeps'] / rate['forgets']:.0%} of the rate without the store\n")


async def slope(url: str, runs: int) -> None:
    """Make so many durable Runs and print how the process's memory went."""
    rows = []
    with tempfile.TemporaryDirectory(prefix="durable-") as folder:
        path = Path(folder)
        async with open_sqlite_store(path) as store, runner_over(store, path) as runner:
            for done in range(0, runs + 1, max(1, runs // 10)):
                if done:
                    await many(runner, url, max(1, runs // 10))
                    await store.tidy()
                gc.collect()
                rows.append((f"{done:,}", mebibytes(memory_of([os.getpid()]).rss)))
    print(table(("durable runs", "RSS"), rows))


def main() -> None:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.durable", description=__doc__)
    parser.add_argument("--runs", type=int, default=5_000, help="runs in each round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--slope", type=int, default=0, metavar="RUNS", help="memory over so many durable runs instead")
    options = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    with upstream() as (_, base):
        url = f"{base}/ok"
        asyncio.run(slope(url, options.slope) if options.slope else rounds(url, options.runs, options.rounds))


if __name__ == "__main__":
    main()
