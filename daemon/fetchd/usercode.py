"""What the user's functions are given, and how their failures are told. It imports little: worker processes load it."""

from __future__ import annotations

import json
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from fetchd.shorten import shortened

FRAMES: Final = 8
LONGEST_TRACEBACK: Final = 4000


@dataclass(frozen=True, slots=True)
class Result:
    """What a function is given: one result with the delivery that brings it. It goes to a worker process by value."""

    job: str
    run: str
    slot: datetime
    delivery: str
    status: int | None
    url: str
    content_type: str
    headers: Mapping[str, str]
    body: bytes

    def text(self) -> str:
        """Return the body as text, in UTF-8 with replacements: an upstream's word for its charset is never trusted."""
        return self.body.decode("utf-8", "replace")

    def json(self) -> Any:
        """Return the body parsed as JSON.

        Raises:
            ValueError: it is not JSON.
        """
        return json.loads(self.body)


def own_traceback(error: BaseException) -> str:
    """Return ``error`` as a traceback without the frame that called the user's code, without local values, bounded."""
    trace = error.__traceback__.tb_next if error.__traceback__ else None
    told = traceback.TracebackException(type(error), error, trace, limit=-FRAMES, capture_locals=False, compact=True)
    return shortened("".join(told.format()), LONGEST_TRACEBACK, end=True).strip()
