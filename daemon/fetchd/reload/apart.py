"""Work in a thread of its own, for what takes much memory and gives it back."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

T = TypeVar("T")


async def apart(act: Callable[[], T]) -> T:
    """Return what ``act`` returns, called in a thread that ends with it; a cancelled caller leaves it to itself.

    Of the threads that touch the disk another one would be taken each time, and with each the C library keeps memory
    apart: what one reload has freed, the next could not use. The memory of a thread that has ended is the next one's.

    Raises:
        Exception: whatever ``act`` raises.
    """
    await asyncio.sleep(0)  # who was cancelled before begins nothing
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()

    def settle(result: T | None, error: BaseException | None) -> None:
        if done.cancelled():
            return
        if error is not None:
            done.set_exception(error)
        else:
            done.set_result(result)  # type: ignore[arg-type]

    def work() -> None:
        result, error = None, None
        try:
            result = act()
        except BaseException as raised:
            error = raised
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(settle, result, error)

    # As a daemon thread: one that hangs in the import of a module must not hold the end of the process.
    threading.Thread(target=work, name="reload", daemon=True).start()
    return await done
