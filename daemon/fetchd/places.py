"""Places for the Runs that are under way at one time."""

from __future__ import annotations

import asyncio


class Places:
    """So many places. Who comes back to one goes before those that are yet to begin: its deadline runs already."""

    def __init__(self, count: int) -> None:
        self._free = count
        self._back: dict[asyncio.Future[None], None] = {}
        self._new: dict[asyncio.Future[None], None] = {}

    async def take(self, *, back: bool = False) -> None:
        """Take a place, waiting until there is one; ``back`` says that the Run had one before."""
        if self._free and not (self._back or self._new):
            self._free -= 1
            return
        queue = self._back if back else self._new
        ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        queue[ready] = None
        try:
            await ready
        except asyncio.CancelledError:
            queue.pop(ready, None)
            if not ready.cancelled():  # it was given in the same moment
                self.give()
            raise

    def give(self) -> None:
        """Give a place back."""
        self._free += 1
        for queue in (self._back, self._new):
            while self._free and queue:
                ready = next(iter(queue))
                del queue[ready]
                if not ready.done():
                    self._free -= 1
                    ready.set_result(None)
