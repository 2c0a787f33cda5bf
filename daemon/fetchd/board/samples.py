"""How the process has fared: memory, descriptors and Runs in flight, once a minute over a day."""

from __future__ import annotations

import os
from array import array
from dataclasses import dataclass
from pathlib import Path
from typing import Final

EVERY: Final = 60.0
"""Seconds from one sample to the next."""
KEPT: Final = 1440

_STATM: Final = Path("/proc/self/statm")
_DESCRIPTORS: Final = Path("/proc/self/fd")


@dataclass(frozen=True, slots=True)
class Usage:
    """What the process uses: resident bytes and open descriptors; 0 where /proc does not tell."""

    resident: int
    descriptors: int


class Samples:
    """The last `KEPT` of them, in 12 bytes each. ``resident`` is in KiB; ``taken`` counts all that ever were."""

    def __init__(self) -> None:
        self.resident = array("I")
        self.descriptors = array("I")
        self.in_flight = array("I")
        self.taken = 0

    def __len__(self) -> int:
        return len(self.resident)

    def add(self, usage: Usage, in_flight: int) -> None:
        """Take a sample, and let go of the oldest one beyond the bound."""
        self.taken += 1
        for row, value in (
            (self.resident, usage.resident // 1024),
            (self.descriptors, usage.descriptors),
            (self.in_flight, in_flight),
        ):
            row.append(value)
            del row[:-KEPT]


def usage() -> Usage:
    """Return what this process uses now."""
    try:
        resident = int(_STATM.read_bytes().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        descriptors = len(os.listdir(_DESCRIPTORS)) - 1  # without the one that this was read with
    except (OSError, IndexError, ValueError):
        return Usage(0, 0)  # without /proc there is nothing to show
    return Usage(resident, descriptors)
