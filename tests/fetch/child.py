"""A process of its own for tests that lower its limits, change its environment or measure its memory.

``python -m tests.fetch.child`` reads a plan as JSON from stdin and writes, as JSON, how each fetch of it has ended.
"""

from __future__ import annotations

import asyncio
import ctypes
import gc
import importlib
import json
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any, Final

from fetchd.fetch.context import Context
from fetchd.fetch.fetcher import Fetcher
from fetchd.fetch.resolver import Names
from tests.fetch.room import ending, fetching, job

NEVER: Final = 60.0
ROOT: Final = Path(__file__).parents[2]

_asked: list[str] = []


async def get_all(context: Context) -> None:
    """Get what the plan names, each with nothing but ``client.get``, and keep nothing."""
    assert context.client is not None
    for url in _asked:
        await context.client.get(url)


def run(
    jobs: Sequence[Mapping[str, Any]], environment: Mapping[str, str] | None = None, **plan: Any
) -> list[dict[str, Any]]:
    """Fetch ``jobs`` one after the other in a process of its own, and return how each has ended.

    Of the ``plan``: once the process has fetched the URLs of ``warm`` it gets no further ``descriptors`` if that is
    false, ``address_space`` bytes at the most, and no ``collector`` of garbage if that is false. ``ca_file`` is
    trusted and ``nameservers`` are asked.
    """
    given = json.dumps({"jobs": jobs, **plan}).encode()
    merged = {**os.environ, **(environment or {})}
    command = [sys.executable, "-W", "error", "-m", "tests.fetch.child"]
    done = subprocess.run(command, cwd=ROOT, env=merged, input=given, capture_output=True, timeout=NEVER, check=False)
    assert done.returncode == 0, done.stderr.decode()
    assert not done.stderr, done.stderr.decode()
    endings: list[dict[str, Any]] = json.loads(done.stdout)
    return endings


def _trimmed() -> int:
    """Return the resident bytes without what the allocator keeps of memory that is free already."""
    ctypes.CDLL(None).malloc_trim(0)
    return memory("VmRSS")


def memory(name: str) -> int:
    """Return ``VmHWM``, ``VmRSS`` or ``VmSize`` of this process, in bytes."""
    lines = os.pread(_status(), 2**16, 0).decode().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))


@cache
def _status() -> int:
    """Return a descriptor that stays open: there may be no other later on."""
    return os.open("/proc/self/status", os.O_RDONLY)


@contextmanager
def _lowered(plan: Mapping[str, Any]) -> Iterator[None]:
    """Hold what happens inside to the limits of the plan."""
    with ExitStack() as stack:
        if "address_space" in plan:
            _limit(stack, resource.RLIMIT_AS, memory("VmSize") + plan["address_space"])
        if not plan.get("descriptors", True):
            _limit(stack, resource.RLIMIT_NOFILE, os.dup(0) + 1)
            with suppress(OSError):
                while True:
                    stack.callback(os.close, os.dup(0))
        yield


def _limit(stack: ExitStack, what: int, most: int) -> None:
    before = resource.getrlimit(what)
    resource.setrlimit(what, (most, before[1]))
    stack.callback(resource.setrlimit, what, before)


async def _fetch_all(plan: Mapping[str, Any], folder: Path) -> list[dict[str, Any]]:
    ca_file = Path(plan["ca_file"]) if "ca_file" in plan else None
    names = Names(nameservers=tuple(plan.get("nameservers", ())))
    async with fetching(folder, ca_file=ca_file, names=names) as fetcher:
        for url in plan.get("warm", ()):
            await ending(fetcher, job(url, max_body="4MiB"), deadline=NEVER)
        gc.collect()
        if not plan.get("collector", True):
            gc.disable()
        memory("VmRSS")
        with _lowered(plan):
            return [await _measured(fetcher, dict(keys)) for keys in plan["jobs"]]


async def _measured(fetcher: Fetcher, keys: dict[str, Any]) -> dict[str, Any]:
    _asked[:] = keys.pop("gets", ())
    held = _trimmed()
    before = memory("VmRSS")
    end = await ending(fetcher, job(**keys), deadline=NEVER)
    return {
        "why": end.why,
        "message": str(end.error or ""),
        "size": end.progress.bytes,
        "content": end.content[:4096].decode("latin-1"),
        "peak": memory("VmHWM") - before,
        "kept": _trimmed() - held,
    }


def main() -> None:
    """Carry out the plan."""
    plan = json.load(sys.stdin)
    with tempfile.TemporaryDirectory() as folder:
        sys.stdout.write(json.dumps(asyncio.run(_fetch_all(plan, Path(folder)))))


if __name__ == "__main__":
    importlib.import_module("tests.fetch.child").main()  # the module that the jobs name, not a second one beside it
