"""What both ends of the control socket know. It imports little: a health check starts a client each few seconds."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

LONGEST_REQUEST: Final = 64 * 2**10
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
