"""The folders that a process works in, made for it alone."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fetchd.errors import StateError


def spool_folder(state_dir: Path) -> Path:
    """Return the folder for large bodies, without what a killed process left there.

    Raises:
        StateError: it cannot be made.
    """
    folder = make_folder(state_dir / "spool")
    for left in folder.glob("body-*"):
        left.unlink(missing_ok=True)
    return folder


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """Give a folder that is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="fetchd-") as folder:
        yield Path(folder)


def make_folder(folder: Path) -> Path:
    """Make ``folder``, unless it is there, and return it.

    Raises:
        StateError: it cannot be made.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise StateError(f"cannot make {folder}: {error.strerror}") from None
    return folder
