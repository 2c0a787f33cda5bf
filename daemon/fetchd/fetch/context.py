"""What a ``collect`` function is given. Imports nothing else of ours: it travels to worker processes."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import httpx


@dataclass(frozen=True, slots=True)
class Context:
    """The Run that the function works for.

    ``client`` is an `httpx.AsyncClient` that is held to the job's limits and lives as long as the Run; a sync
    function, which runs in a process of its own, gets None and brings its own.
    """

    job: str
    run: str
    slot: datetime
    client: httpx.AsyncClient | None = None
