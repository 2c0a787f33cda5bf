"""What SQLite's errors mean here: whether they pass, and what to do about them."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path
from typing import Final

from fetchd.errors import StoreError
from fetchd.whereabouts import anothers

_DAMAGED: Final = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
_FORBIDDEN: Final = frozenset(
    {sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM, sqlite3.SQLITE_AUTH}
)
_LOCKED: Final = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL})
_SURROUNDINGS: Final = (
    _DAMAGED | _FORBIDDEN | _LOCKED | {sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_NOMEM}
)


def code_of(error: BaseException) -> int:
    """Return SQLite's primary code, the low byte (sqlite.org/rescode.html); 0 where it is not SQLite's error."""
    code: int = getattr(error, "sqlite_errorcode", 0)
    return code & 0xFF


def is_of_surroundings(error: BaseException) -> bool:
    """Return whether the disk, its permissions or another process are to blame, rather than what was to be written."""
    return code_of(error) in _SURROUNDINGS


def store_error(path: Path, error: BaseException) -> StoreError:
    """Return ``error`` with the name of the database and a remedy."""
    code = code_of(error)
    if code in _DAMAGED:
        return StoreError(f"{path} is damaged ({error}): start with `fetchd run --new-state`, which sets it aside")
    if code in _LOCKED:
        return StoreError(f"{path} is locked by another process: find and end the one that writes to it")
    if code in _FORBIDDEN:
        return StoreError(f"{path} cannot be written ({error}): give the daemon's user the right to, folder included")
    if code == sqlite3.SQLITE_FULL:
        return StoreError(f"{path} cannot grow ({error}): free space on its disk")
    if code == sqlite3.SQLITE_IOERR:
        return StoreError(f"{path} cannot be read or written ({error}): look after its disk")
    return StoreError(f"{path}: {type(error).__name__}: {error}")


def asked_error(path: Path, error: BaseException) -> StoreError:
    """Return ``error`` for whoever looks into the database beside its daemon, and may be another user."""
    if code_of(error) in _FORBIDDEN and path.stat().st_uid != os.geteuid():
        return StoreError(anothers(path.parent))
    return store_error(path, error)
