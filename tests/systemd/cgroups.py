"""Control groups of our own, below the one that we are in: a container cannot disturb what runs this machine."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

MOUNTS: Final = Path("/sys/fs/cgroup")
_PATIENCE: Final = 10.0
_COPIED: Final = ("cpuset.cpus", "cpuset.mems")
"""What a new group of version 1's cpuset needs before it takes a process."""


def unified() -> bool:
    """Return whether this machine has version 2 alone."""
    return (MOUNTS / "cgroup.controllers").exists()


@contextmanager
def own(name: str) -> Iterator[list[Path]]:
    """Give a new group in each hierarchy; afterwards whatever still runs in them is killed, and they are gone."""
    folders: list[Path] = []
    try:
        for parent in _parents():
            folder = parent / name
            folder.mkdir()
            folders.append(folder)
            for copied in _COPIED:
                if (parent / copied).exists():
                    (folder / copied).write_text((parent / copied).read_text())
        yield folders
    finally:
        end = time.monotonic() + _PATIENCE
        while not _gone(folders) and time.monotonic() < end:
            time.sleep(0.1)


def enter(folders: list[Path]) -> None:
    """Move this process into the groups; it is called in the child, between fork and exec."""
    for folder in folders:
        (folder / "cgroup.procs").write_text(str(os.getpid()))


def _parents() -> list[Path]:
    """Return the groups that this process is in."""
    found = []
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers:
            mount = MOUNTS / controllers.removeprefix("name=")
        else:
            mount = MOUNTS if unified() else MOUNTS / "unified"
        if mount.is_dir():
            found.append(mount / path.lstrip("/"))
    return found


def _gone(folders: list[Path]) -> bool:
    for top in folders:
        for folder, _, _ in os.walk(top, topdown=False):
            with suppress(OSError):
                for pid in (Path(folder) / "cgroup.procs").read_text().split():
                    os.kill(int(pid), signal.SIGKILL)
            with suppress(OSError):  # something in it still ends; the caller asks again
                os.rmdir(folder)
    return not any(folder.exists() for folder in folders)
