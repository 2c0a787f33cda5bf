"""What the kernel tells of this process, under the names that all of Prometheus' clients use."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from pathlib import Path
from typing import Final

_SELF: Final = Path("/proc/self")
_UTIME: Final = 11
"""Fields of /proc/self/stat behind the command's name, counted from 0 (proc(5))."""
_STIME: Final = 12
_STARTED: Final = 19
_VIRTUAL: Final = 20
_RESIDENT: Final = 21

Value = tuple[str, str, str, float]
"""Name, type, words, value."""


def process_values() -> Iterator[Value]:
    """Yield what is known; nothing where there is no /proc."""
    try:
        fields = (_SELF / "stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()
        descriptors = len(os.listdir(_SELF / "fd"))
        boot = _boot_time()
    except OSError:
        return
    ticks, page = os.sysconf("SC_CLK_TCK"), os.sysconf("SC_PAGE_SIZE")
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    cpu = (int(fields[_UTIME]) + int(fields[_STIME])) / ticks
    yield "process_cpu_seconds_total", "counter", "User and system time, in seconds.", cpu
    yield "process_resident_memory_bytes", "gauge", "Resident memory.", int(fields[_RESIDENT]) * page
    yield "process_virtual_memory_bytes", "gauge", "Virtual memory.", int(fields[_VIRTUAL])
    yield "process_open_fds", "gauge", "Open file descriptors.", descriptors
    yield "process_max_fds", "gauge", "The most file descriptors that may be open.", limit
    if boot is not None:
        started = boot + int(fields[_STARTED]) / ticks
        yield "process_start_time_seconds", "gauge", "When the process started, in seconds since the epoch.", started


def _boot_time() -> int | None:
    """Return when the machine started; None where a sandbox hides it, as ProcSubset=pid does."""
    try:
        lines = Path("/proc/stat").read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) for line in lines if line.startswith("btime ")), None)
