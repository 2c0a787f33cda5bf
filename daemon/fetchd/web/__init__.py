"""The status page, the read-only API and the probes, over HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import structlog

from fetchd.board import Board
from fetchd.health import Health
from fetchd.web.answer import Sources
from fetchd.web.server import Limits, listening
from fetchd.web.site import Site

__all__ = ["Limits", "Sources", "serve_page"]

log = structlog.get_logger()

_LIMITS: Final = Limits()


@asynccontextmanager
async def serve_page(
    board: Board, health: Health, sources: Sources, *, listen: str, limits: Limits = _LIMITS
) -> AsyncIterator[str]:
    """Serve the page at ``listen``, as "ip:port", and yield its URL; open requests are cut off at the end.

    Raises:
        StateError: the address is taken, or not this machine's.
    """
    site = Site(board, health, sources)
    try:
        async with listening(site, listen, limits) as address:
            log.info("page_served", address=f"http://{address}/")
            yield f"http://{address}/"
    finally:
        site.close()
