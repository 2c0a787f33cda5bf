"""What both ends of the control socket know. It imports little: a health check starts a client each few seconds."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from fetchd.whereabouts import SOCKET

LONGEST_REQUEST: Final = 64 * 2**10
LONGEST_PATH: Final = 107
"""Bytes that a socket's address holds (unix(7)), without the zero at its end."""
BEAT_EVERY: Final = 2.0
"""Seconds after which a daemon that has nothing to tell yet says that it is there."""

EXIT_FAILED: Final = 1
EXIT_UNAVAILABLE: Final = 69
EXIT_BUSY: Final = 75
EXIT_CONFIG: Final = 78
"""sysexits.h: service unavailable, try again later, configuration error."""


def line_of(message: Mapping[str, Any]) -> bytes:
    """Return one line of the conversation: JSON, in ASCII alone."""
    return json.dumps(message, separators=(",", ":"), default=_text_of).encode() + b"\n"


def _text_of(value: Any) -> str:
    return value.isoformat() if hasattr(value, "isoformat") else str(value)


@contextmanager
def address_in(state_dir: Path) -> Iterator[str]:
    """Give a path to the socket that is short enough for the kernel, however deep ``state_dir`` lies.

    Raises:
        OSError: the folder cannot be opened.
    """
    path = os.path.abspath(state_dir / SOCKET)
    if len(os.fsencode(path)) <= LONGEST_PATH:
        yield path
        return
    folder = os.open(state_dir, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}/{SOCKET}"
    finally:
        os.close(folder)
