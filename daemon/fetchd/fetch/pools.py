"""Connections beside those of everybody: a pool for each distinct network, and for each socket of this machine."""

from __future__ import annotations

from collections import OrderedDict
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Final

import aiohttp

from fetchd.fetch.connections import open_session, open_socket_session
from fetchd.fetch.network import DIRECT, Network
from fetchd.fetch.resolver import Resolver
from fetchd.fetch.tls import Contexts

POOLS_AT_MOST: Final = 64
"""Pools that are kept beside the common one; above it, those go that have been idle for longest."""

_Key = tuple[Network, str]


@dataclass(slots=True)
class _Pool:
    session: aiohttp.ClientSession
    busy: int = 0


class Pools:
    """Opens a pool with its first exchange. Connections of different identities never meet."""

    def __init__(self, contexts: Contexts, resolver: Resolver, at_most: int = POOLS_AT_MOST) -> None:
        self._contexts = contexts
        self._resolver = resolver
        self._at_most = at_most
        self._open: OrderedDict[_Key, _Pool] = OrderedDict()
        self._leaving: list[_Pool] = []

    async def take(self, network: Network, socket: str, held: ExitStack) -> aiohttp.ClientSession:
        """Return the session for ``network``, or for ``socket`` if that is a path; in use until ``held`` closes.

        Raises:
            UnusableTlsError: a file of the network's tls cannot be used.
        """
        key = (DIRECT, socket) if socket else (network, "")
        pool = self._open.get(key)
        if pool is None:
            tls = None if socket else await self._contexts.of(network.tls)
            pool = self._open.get(key)  # somebody else may have been quicker
            if pool is None:
                session = (
                    open_session(tls, self._resolver, network, self._contexts.default)
                    if tls
                    else open_socket_session(socket)
                )
                pool = self._open[key] = _Pool(session)
        self._open.move_to_end(key)
        pool.busy += 1
        held.callback(_give_back, pool)
        await self._shrink()
        return pool.session

    async def renew(self) -> None:
        """Let go of all pools, so that files which were replaced are read anew; exchanges under way end in theirs."""
        self._leaving += self._open.values()
        self._open.clear()
        await self._shrink()

    async def aclose(self) -> None:
        """Close every connection."""
        for pool in [*self._open.values(), *self._leaving]:
            await pool.session.close()

    async def _shrink(self) -> None:
        """Close idle pools that are too many."""
        if len(self._open) > self._at_most:
            idle = [key for key, pool in self._open.items() if not pool.busy]
            self._leaving += [self._open.pop(key) for key in idle[: len(self._open) - self._at_most]]
        while (gone := next((pool for pool in self._leaving if not pool.busy), None)) is not None:
            self._leaving.remove(gone)  # first: others come here while it is closed
            await gone.session.close()  # at once; what is waited for is only that the loop notices


def _give_back(pool: _Pool) -> None:
    pool.busy -= 1
