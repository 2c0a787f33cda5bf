"""What the loop has done by worker processes: each order under a bound of memory, each failure as a value."""

from __future__ import annotations

import os
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, TypeVar

from fetchd.errors import FetchError, Reason
from fetchd.extract import cells, records
from fetchd.extract.order import Answer, Order, Refusal, Table
from fetchd.extract.plain import Steps

T = TypeVar("T")

MEMORY: Final = 128 * 2**20
"""Bytes that a reading may take in a worker process, besides those for the size of its body."""
MEMORY_BY_SIZE: Final = 16
"""How many times the size of a body its reading may take: ordinary JSON takes about eight times as much."""


def answered(order: Order) -> Answer | Refusal:
    """Carry out ``order``."""
    return _guarded(lambda: records.carried_out(order, Steps()), order.content)


def valued(asked: tuple[Order, tuple[str, ...]]) -> bytes | Refusal:
    """Return what the queries find in the body of an order, as a JSON array."""
    order, queries = asked
    return _guarded(lambda: records.values(order, queries, Steps()), order.content)


def lined(table: Table) -> bytes | Refusal:
    """Return the rows of ``table``, one on each line."""
    return _guarded(lambda: cells.lines(table), table.content)


def _guarded(act: Callable[[], T], content: bytes | Path) -> T | Refusal:
    try:
        size = len(content) if isinstance(content, bytes) else content.stat().st_size
        allowed = MEMORY + MEMORY_BY_SIZE * size
        with _memory_bounded(allowed):
            return act()
    except FetchError as error:
        return Refusal(error.reason, str(error))
    except MemoryError:
        return Refusal(Reason.EXTRACT, f"to read the body takes more than {allowed // 2**20} MiB of memory")
    except OSError as error:
        return Refusal(Reason.LOCAL_RESOURCE, f"cannot read the body, or write the result: {error.strerror or error}")


@contextmanager
def _memory_bounded(more: int) -> Iterator[None]:
    """Let the process take ``more`` bytes: a body that needs them all must not take those of the whole machine."""
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    bounds = [pages * os.sysconf("SC_PAGE_SIZE") + more, soft, hard]
    resource.setrlimit(resource.RLIMIT_AS, (min(bound for bound in bounds if bound != resource.RLIM_INFINITY), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
