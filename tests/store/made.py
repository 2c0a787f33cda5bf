"""Runs, results and reports, as stores are given them."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zlib import crc32

import pytest

from fetchd.body import Body
from fetchd.run import Delivery, Fetched, Outcome, Report, Run, Validators
from fetchd.store import Store

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


def a_run(number: int = 1, job: str = "rates") -> Run:
    """Return the Run of ``number``, which is different from all others of any job."""
    return Run(f"{number:011x}{crc32(job.encode()):08x}", job, NOW + timedelta(minutes=number))


def a_result(content: bytes | Path = b'{"rate": 1}', etag: str = '"1"', **values: Any) -> Fetched:
    """Return a result of ``content``, which may be a spool file."""
    body = Body.of(content) if isinstance(content, bytes) else Body(content, size=content.stat().st_size, sha256="s")
    whole = {
        "status": 200,
        "url": "https://upstream.test/v1/rates",
        "content_type": "application/json",
        "headers": {"etag": etag},
        "validators": Validators(etag, "Sun, 01 Mar 2026 12:00:00 GMT"),
        "timings": {"connect": 0.01, "body": 0.25},
    }
    return Fetched(**{**whole, **values}, body=body)  # type: ignore[arg-type]


def a_report(run: Run, outcome: Outcome = Outcome.SUCCEEDED, **values: Any) -> Report:
    """Return a report of ``run``."""
    return Report(**{"run": run, "outcome": outcome, "started": run.slot, "duration": 2.0, **values})


async def committed(store: Store, number: int = 1, job: str = "rates", *sinks: str, **values: Any) -> list[Delivery]:
    """Commit a result for ``sinks``, for a file if there are none, and return its deliveries."""
    result = a_result(values.pop("content", b"x" * 10), **values)
    return list(await store.commit(a_run(number, job), result, sinks or ("file",), NOW))


async def settled(store: Store) -> None:
    """Wait until all that the store was told is written, and what follows from it is done."""
    for _ in range(2):
        await store.lanes()


@contextmanager
def small_disk(folder: Path, size: str) -> Iterator[None]:
    """Mount a file system of ``size`` on ``folder``; skip the test where that is not permitted."""
    folder.mkdir(exist_ok=True)
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("mounting a small file system is not permitted here")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@asynccontextmanager
async def watched_loop(limit: float) -> AsyncIterator[None]:
    """Fail if the loop does not turn for ``limit`` seconds, besides those in which others had the core."""
    longest = 0.0

    async def beat() -> None:
        nonlocal longest
        last = own_time()
        while True:
            await asyncio.sleep(0.005)
            longest, last = max(longest, own_time() - last), own_time()

    task = asyncio.create_task(beat())
    try:
        yield
    finally:
        await asyncio.sleep(0.01)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
    assert longest < limit


def own_time() -> float:
    """Return seconds that go on while this thread runs or sleeps, and stand while it waits for a core."""
    _, waited, _ = Path("/proc/thread-self/schedstat").read_text().split()
    return time.monotonic() - int(waited) / 1e9
