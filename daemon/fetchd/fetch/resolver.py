"""Names to addresses, on the loop: no thread to hang in, one question at a time for each name, short memory."""

from __future__ import annotations

import asyncio
import socket
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from aiohttp import AsyncResolver
from aiohttp.abc import AbstractResolver, ResolveResult

REMEMBERED: Final = 1024
FOUND_FOR: Final = 10.0
MISSING_FOR: Final = 1.0

_Key = tuple[str, socket.AddressFamily]
_Answer = list[ResolveResult] | OSError


@dataclass(frozen=True, slots=True)
class Names:
    """How names are resolved: by which servers (none: the system's), in seconds for each try, in how many tries."""

    nameservers: tuple[str, ...] = ()
    timeout: float = 2.0
    attempts: int = 2


class Resolver(AbstractResolver):
    """Asks c-ares, which neither blocks nor needs threads of ours, and remembers the answers for seconds."""

    def __init__(
        self, names: Names, ask: AbstractResolver | None = None, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._ask = ask or AsyncResolver(
            nameservers=list(names.nameservers) or None, timeout=names.timeout, tries=names.attempts
        )
        self._now = now
        self._answers: OrderedDict[_Key, tuple[float, _Answer]] = OrderedDict()
        self._asking: dict[_Key, asyncio.Task[_Answer]] = {}

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Return the addresses of ``host``.

        Raises:
            OSError: it has none, or no server answered.
        """
        key = (host, family)
        answer = self._remembered(key)
        if answer is None:
            task = self._asking.get(key)
            if task is None:
                task = self._asking[key] = asyncio.create_task(self._look_up(key), name=f"dns {host}")
            answer = await asyncio.shield(task)  # others may wait for the same name
        if isinstance(answer, OSError):
            raise OSError(*answer.args)
        return [address | {"port": port} for address in answer]

    async def close(self) -> None:
        """Give up every question."""
        tasks = list(self._asking.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._ask.close()

    def _remembered(self, key: _Key) -> _Answer | None:
        until, answer = self._answers.get(key, (0.0, None))
        return answer if self._now() < until else None

    async def _look_up(self, key: _Key) -> _Answer:
        """Ask for the name. A failure is returned, not raised: all who waited for it may have gone."""
        host, family = key
        answer: _Answer
        try:
            answer = await self._ask.resolve(host, 0, family)
        except OSError as error:
            answer = OSError(*error.args)
        except ValueError as error:
            answer = OSError(None, f"not a name: {error}")
        finally:
            del self._asking[key]
        self._remember(key, answer)
        return answer

    def _remember(self, key: _Key, answer: _Answer) -> None:
        kept_for = MISSING_FOR if isinstance(answer, OSError) else FOUND_FOR
        self._answers[key] = (self._now() + kept_for, answer)
        self._answers.move_to_end(key)
        while len(self._answers) > REMEMBERED:
            self._answers.popitem(last=False)
