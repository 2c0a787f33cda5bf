"""A process that commits as fast as it can, and says what it has committed, until it is killed."""

from __future__ import annotations

import asyncio
import itertools
import sys
from pathlib import Path

from fetchd.run import Run
from fetchd.store import Store
from fetchd.store.sqlite import open_sqlite_store
from tests.store.made import NOW, a_result

INLINE_UP_TO = 1000
JOBS = ("small", "large", "delivered")


def content(job: str, number: int) -> bytes:
    """Return the body of a result."""
    return f"{job} {number} ".encode() * (1000 if job == "large" else 1)


async def commit(store: Store, job: str) -> None:
    """Commit one result after the other; those of one job are delivered at once."""
    for number in itertools.count(1):
        run = Run(f"{job}-{number}", job, NOW)
        deliveries = await store.commit(run, a_result(content(job, number), etag=str(number)), ("file",), NOW)
        sys.stdout.write(f"{job} {number}\n")
        sys.stdout.flush()
        if job == "delivered":
            store.delivered(deliveries[0])


async def main(state: Path) -> None:
    """Commit for each job until somebody ends the process."""
    async with open_sqlite_store(state, inline_up_to=INLINE_UP_TO) as store:
        await asyncio.gather(*(commit(store, job) for job in JOBS))


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
