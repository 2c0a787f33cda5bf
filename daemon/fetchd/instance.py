"""One process for each state directory."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import structlog

from fetchd.errors import InstanceError, StateError

log = structlog.get_logger()

REMEDY: Final = "stop that one first, or give this one a daemon.state_dir of its own"
_TRIES: Final = 10


class Instance:
    """The state directory that this process holds."""

    def __init__(self, lock: Path, fd: int) -> None:
        self._lock = lock
        self._fd = fd

    def still_ours(self) -> bool:
        """Return whether the lock file is still the one that was locked.

        Once something has removed it, a second process can lock a new one and run beside this one.
        """
        try:
            return os.path.samestat(os.fstat(self._fd), self._lock.stat())
        except OSError:
            return False


@contextmanager
def hold(state_dir: Path, remedy: str = REMEDY) -> Iterator[Instance]:
    """Hold ``state_dir`` for this process alone; it is made, for this user alone, if it is not there.

    The kernel lets go of it when the process ends, however it ends. The lock file stays: whoever removed it
    might remove one that another process has just locked.

    Raises:
        InstanceError: another process holds it; the message ends with the ``remedy``.
        StateError: it cannot be made or written.
    """
    lock = state_dir / "lock"
    try:
        state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        fd = _locked(lock, remedy)
    except OSError as error:
        raise StateError(
            f"cannot use {state_dir} as the state directory: {error.strerror}; "
            f"daemon.state_dir must name a folder that the user with id {os.geteuid()} can write"
        ) from None
    try:
        _sign(fd)
        yield Instance(lock, fd)
    finally:
        os.close(fd)


def _locked(lock: Path, remedy: str) -> int:
    """Return a descriptor that holds the lock, of the file that has its name after the locking too."""
    for _ in range(_TRIES):
        # Children do not inherit it: one that outlives this process would hold on to the lock.
        fd = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if Instance(lock, fd).still_ours():
                return fd
        except BlockingIOError:
            holder = os.pread(fd, 20, 0).decode("ascii", "replace").strip()
            os.close(fd)
            process = f"process id {holder or 'unknown'}"
            raise InstanceError(
                f"the state directory {lock.parent} is held by the fetchd with {process}: {remedy}"
            ) from None
        except OSError:
            os.close(fd)
            raise
        os.close(fd)
    raise InstanceError(f"{lock} is replaced again and again: find out what removes it")


def _sign(fd: int) -> None:
    """Write who holds the lock; a full disk that keeps this from the next to ask is no reason not to start."""
    try:
        os.ftruncate(fd, 0)
        os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
    except OSError as error:
        log.warning("lock_not_signed", error=error)
