"""A process of its own for tests that lower its limits, change its environment or measure its memory.

``python -m tests.fetch.child`` reads a plan as JSON from stdin and writes, as JSON, how each fetch of it has ended.
"""

from __future__ import annotations

import asyncio
import gc
import importlib
import json
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from fetchd.fetch.context import Context
from tests.fetch.room import ending, fetching, job
from tests.upstream import ROOT

NEVER: Final = 60.0

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

    Of the ``plan``: ``descriptors`` and ``address_space`` are the most that the process may have, beyond what it has
    once it is warm; with ``collector`` false garbage is left where it is; ``ca_file`` is trusted.
    """
    given = json.dumps({"jobs": jobs, **plan}).encode()
    merged = {**os.environ, **(environment or {})}
    command = [sys.executable, "-W", "error", "-m", "tests.fetch.child"]
    done = subprocess.run(command, cwd=ROOT, env=merged, input=given, capture_output=True, timeout=NEVER, check=False)
    assert done.returncode == 0, done.stderr.decode()
    assert not done.stderr, done.stderr.decode()
    endings: list[dict[str, Any]] = json.loads(done.stdout)
    return endings


def memory(name: str) -> int:
    """Return ``VmHWM``, ``VmRSS`` or ``VmSize`` of this process, in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))


def _lower(plan: Mapping[str, Any]) -> None:
    if "descriptors" in plan:
        most = len(os.listdir("/proc/self/fd")) - 1 + plan["descriptors"]  # listing them takes one
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    if "address_space" in plan:
        most = memory("VmSize") + plan["address_space"]
        resource.setrlimit(resource.RLIMIT_AS, (most, most))


async def _fetch_all(plan: Mapping[str, Any], folder: Path) -> list[dict[str, Any]]:
    ca_file = Path(plan["ca_file"]) if "ca_file" in plan else None
    endings = []
    async with fetching(folder, ca_file=ca_file) as fetcher:
        for url in plan.get("warm", ()):
            await ending(fetcher, job(url, max_body="4MiB"), deadline=NEVER)
        gc.collect()
        if not plan.get("collector", True):
            gc.disable()
        _lower(plan)
        for keys in plan["jobs"]:
            keys = dict(keys)
            _asked[:] = keys.pop("gets", ())
            before = memory("VmRSS")
            end = await ending(fetcher, job(**keys), deadline=NEVER)
            grown = {"peak": memory("VmHWM") - before, "kept": memory("VmRSS") - before}
            said = {"why": end.why, "message": str(end.error or ""), "size": end.progress.bytes}
            endings.append(said | grown | {"content": end.content[:4096].decode("latin-1")})
    return endings


def main() -> None:
    """Carry out the plan."""
    plan = json.load(sys.stdin)
    with tempfile.TemporaryDirectory() as folder:
        sys.stdout.write(json.dumps(asyncio.run(_fetch_all(plan, Path(folder)))))


if __name__ == "__main__":
    importlib.import_module("tests.fetch.child").main()  # the module that the jobs name, not a second one beside it
