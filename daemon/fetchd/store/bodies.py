"""The folder of the bodies that are too large for a row. Everything here waits for the disk: for threads."""

from __future__ import annotations

import errno
import io
import os
import shutil
from collections.abc import Callable, Collection
from pathlib import Path
from typing import BinaryIO, Final

import structlog

log = structlog.get_logger()

_NO_LINKS: Final = frozenset({errno.EXDEV, errno.EPERM, errno.ENOTSUP, errno.EMLINK})
"""The spool folder may be a file system of its own, in memory for instance, and not each of them has hard links."""


class Bodies:
    """Files called like the Run that fetched them.

    ``settle`` brings the rows to the disk. Without it, a row that is gone could be back after a power failure, and its
    file would not: a delivery that was made would be taken for one that cannot be made.
    """

    def __init__(self, folder: Path, settle: Callable[[], None]) -> None:
        self.folder = folder
        self._settle = settle
        self._left: set[str] = set()

    def path_of(self, run: str) -> Path:
        """Return where the body of ``run`` is, if it is in a file."""
        return self.folder / run

    def place(self, source: bytes | Path, run: str) -> None:
        """Bring a body here, out of the memory or a spool file; it is on the disk when this returns.

        The spool file stays, for whoever has it to close: should the result not be kept, it is still needed.

        Raises:
            OSError: it could not be written, or there is one already; nothing stays behind.
        """
        path = self.path_of(run)
        if path.exists():
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path))
        try:
            if isinstance(source, bytes):
                _write(path, io.BytesIO(source))
            else:
                _take_over(source, path)
            _sync(self.folder)
        except OSError:
            path.unlink(missing_ok=True)
            raise

    def remove(self, run: str) -> None:
        """Remove the body of ``run``, whose row is gone; where the disk refuses, `retry` tries again."""
        try:
            self._settle()
            self.path_of(run).unlink(missing_ok=True)
        except OSError as error:
            self._left.add(run)
            log.warning("body_file_left", path=str(self.path_of(run)), error=error.strerror)
        else:
            self._left.discard(run)

    def retry(self) -> None:
        """Try again to remove what could not be removed."""
        for run in list(self._left):
            self.remove(run)

    def sweep(self, wanted: Collection[str]) -> None:
        """Remove what a killed process left without a row, and say which of those ``wanted`` are not there.

        Raises:
            OSError: the folder cannot be read.
        """
        there = set(os.listdir(self.folder))
        for run in there - set(wanted):
            self.remove(run)
        if missing := sorted(set(wanted) - there):
            log.error("bodies_missing", folder=str(self.folder), count=len(missing), runs=missing[:10])


def _write(path: Path, content: BinaryIO) -> None:
    with open(path, "wb", opener=_private) as file:
        shutil.copyfileobj(content, file)
        file.flush()
        os.fsync(file.fileno())


def _take_over(spooled: Path, path: Path) -> None:
    """Give the spool file a second name; copy it where it cannot have one."""
    _sync(spooled)
    try:
        os.link(spooled, path)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        with spooled.open("rb") as content:
            _write(path, content)


def _sync(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
