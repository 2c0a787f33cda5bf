"""What memory is kept in: less of it, back to the machine now and then, and not looked through without need."""

from __future__ import annotations

import ctypes
import gc
from typing import Final

_M_ARENA_MAX: Final = -8
"""mallopt(3)."""
_ARENAS: Final = 2


def few_arenas() -> None:
    """Let all threads share two heaps; to be called before there are any others.

    glibc would give each thread one of its own, eight for each core, and each of them keeps the most that its thread
    ever needed: a reload parses in a thread. The threads here wait more than they work.
    """
    option = getattr(ctypes.CDLL(None), "mallopt", None)
    if option is not None:
        option(_M_ARENA_MAX, _ARENAS)


def give_back() -> None:
    """Give back what bodies, reloads and the page's first view took once and do not need any more.

    glibc would keep what lies below anything that is still in use. It takes a tenth of a millisecond for each megabyte.
    Other C libraries do without.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def settle() -> None:
    """Take what there is by now for lasting: the search for cycles that nobody needs passes it over from here on.

    Else each full search would look at every job, and nothing else could happen meanwhile: 0.2 s with ten thousand of
    them. What was taken for lasting before, and is none, goes now.
    """
    gc.unfreeze()
    gc.collect()
    gc.freeze()
