"""The peer of the throughput benchmark, a process of its own: an httpx client over aiohttp, and a loop. Nothing else.

No schedule, no deadline, no limits, no log: what is left is what the fetch itself costs.
"""

from __future__ import annotations

import asyncio
import sys
import time

import httpx
from httpx_aiohttp import AiohttpTransport


async def fetch(client: httpx.AsyncClient, url: str) -> int:
    """Return the length of the body, read piece by piece."""
    length = 0
    async with client.stream("GET", url) as response:
        response.raise_for_status()
        async for piece in response.aiter_bytes():
            length += len(piece)
    return length


async def run(url: str, rate: float) -> None:
    """Begin ``rate`` fetches each second, evenly spaced, for ever; print at each hundred how many, and when."""
    count = 0
    loop = asyncio.get_running_loop()
    async with httpx.AsyncClient(transport=AiohttpTransport(limits=httpx.Limits(max_connections=1000))) as client:
        tasks: set[asyncio.Task[int]] = set()

        def ended(task: asyncio.Task[int]) -> None:
            nonlocal count
            tasks.discard(task)
            count += bool(task.result())
            if count % 100 == 0:
                print(count, time.time(), flush=True)

        start = loop.time()
        for number in range(10**9):
            if (wait := start + number / rate - loop.time()) > 0:
                await asyncio.sleep(wait)
            task = loop.create_task(fetch(client, url))
            tasks.add(task)
            task.add_done_callback(ended)


if __name__ == "__main__":
    asyncio.run(run(sys.argv[1], float(sys.argv[2])))
