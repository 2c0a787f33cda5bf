"""Whether what is to be kept can be written; said once when it cannot, and once when it can again."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Final

import structlog

log = structlog.get_logger()

SAID_EVERY: Final = 60.0
"""Seconds within which trouble that comes and goes is said once."""


class Health:
    """What the writer finds, told on the loop. ``lost`` counts what could not be written and is not tried again.

    ``reason`` says why nothing can be written now, "" if something can.
    """

    def __init__(self, path: Path) -> None:
        self.lost = 0
        self.reason = ""
        self._path = path
        self._failing_since: float | None = None
        self._lost_before = 0
        self._said = False
        self._said_at = float("-inf")

    def fails(self, reason: str) -> None:
        """Note that something could not be written."""
        if self._failing_since is not None:
            return
        now, self.reason = time.monotonic(), reason
        self._failing_since, self._lost_before = now, self.lost
        self._said = now - self._said_at >= SAID_EVERY  # where one thing fails again and again between others
        if self._said:
            self._said_at = now
            log.error("store_failing", path=str(self._path), reason=reason)

    def works(self) -> None:
        """Note that a batch was written."""
        if self._failing_since is None:
            return
        after, self._failing_since, self.reason = time.monotonic() - self._failing_since, None, ""
        if self._said:
            log.warning(
                "store_recovered", path=str(self._path), after_s=round(after, 3), lost=self.lost - self._lost_before
            )
