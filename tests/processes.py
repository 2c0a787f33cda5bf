"""Looks at real processes: whether they live, and what this one holds."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Callable
from pathlib import Path


async def until(condition: Callable[[], object], *, within: float = 20.0) -> None:
    """Wait for what another process does; a poll, for there is nothing to await."""
    end = time.monotonic() + within
    while not condition():
        assert time.monotonic() < end, "it did not come to be"
        await asyncio.sleep(0.005)


def alive(pid: int) -> bool:
    """Return whether the process runs; one that is dead but not yet reaped by its parent does not."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return status.rpartition(")")[2].split()[0] not in {"Z", "X"}


def children() -> list[int]:
    """Return the children of this process, zombies included."""
    pids: list[int] = []
    for task in Path("/proc/self/task").iterdir():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # a thread that has just ended
            pids += map(int, (task / "children").read_text().split())
    return pids


def births() -> Callable[[], set[int]]:
    """Return what tells the children that were born since; others may serve other tests."""
    before = set(children())
    return lambda: set(children()) - before


def descriptors() -> int:
    """Return how many file descriptors this process has open."""
    return len(os.listdir("/proc/self/fd"))
