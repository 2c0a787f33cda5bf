"""Names to addresses, on the loop: no thread to hang in, one question at a time for each name, short memory."""

from __future__ import annotations

import asyncio
import socket
import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

from aiohttp import AsyncResolver
from aiohttp.abc import AbstractResolver, ResolveResult

REMEMBERED: Final = 1024
FOUND_FOR: Final = 10.0
MISSING_FOR: Final = 1.0

_Key = tuple[str, int, socket.AddressFamily]


@dataclass(frozen=True, slots=True)
class Names:
    """How names are resolved: by which servers (none: the system's), in seconds for each try, in how many tries."""

    nameservers: tuple[str, ...] = ()
    timeout: float = 2.0
    attempts: int = 2


class Resolver(AbstractResolver):
    """Asks c-ares, which neither blocks nor needs threads of ours, and remembers the answers for seconds."""

    def __init__(self, names: Names, ask: AbstractResolver | None = None) -> None:
        self._ask = ask or AsyncResolver(
            nameservers=list(names.nameservers) or None, timeout=names.timeout, tries=names.attempts
        )
        self._answers: OrderedDict[_Key, tuple[float, list[ResolveResult] | OSError]] = OrderedDict()
        self._asking: dict[_Key, asyncio.Task[list[ResolveResult]]] = {}

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Return the addresses of ``host``.

        Raises:
            OSError: it has none, or no server answered.
        """
        key = (host, port, family)
        if (answer := self._remembered(key)) is not None:
            if isinstance(answer, OSError):
                raise OSError(*answer.args)
            return answer
        task = self._asking.get(key)
        if task is None:
            task = asyncio.create_task(self._look_up(key), name=f"dns {host}")
            self._asking[key] = task
        return await asyncio.shield(task)

    async def close(self) -> None:
        """Give up every question."""
        tasks = list(self._asking.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._ask.close()

    def _remembered(self, key: _Key) -> list[ResolveResult] | OSError | None:
        found = self._answers.get(key)
        if found is None or found[0] < time.monotonic():
            return None
        return found[1]

    async def _look_up(self, key: _Key) -> list[ResolveResult]:
        try:
            addresses = await self._ask.resolve(*key)
        except OSError as error:
            self._remember(key, OSError(*error.args), MISSING_FOR)
            raise
        else:
            self._remember(key, addresses, FOUND_FOR)
            return addresses
        finally:
            del self._asking[key]

    def _remember(self, key: _Key, answer: list[ResolveResult] | OSError, seconds: float) -> None:
        self._answers[key] = (time.monotonic() + seconds, answer)
        self._answers.move_to_end(key)
        while len(self._answers) > REMEMBERED:
            self._answers.popitem(last=False)
