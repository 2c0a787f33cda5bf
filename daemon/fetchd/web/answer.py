"""What a request is answered with: a value that the server sends, and whom the answers are asked of."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from fetchd.job import Job
from fetchd.run import Report
from fetchd.store import Lane
from fetchd.store.letters import Letter

HTML: Final = "text/html; charset=utf-8"
JSON: Final = "application/json"
TEXT: Final = "text/plain; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Answer:
    """A response, its body in pieces that are sent one after the other."""

    status: int
    content_type: str
    pieces: Sequence[bytes]


@dataclass(frozen=True, slots=True)
class Sources:
    """Whom the answers are asked of, beside the board.

    ``letters`` reads a file and is called in a thread; ``values`` are the keys and values that count for a job;
    ``redact`` takes the secrets out of whatever is shown; ``metrics`` returns the content type and the text.

    Raises:
        StoreError: it cannot be read, by the first three.
    """

    history: Callable[[str, int], Awaitable[Sequence[Report]]]
    lanes: Callable[[], Awaitable[Sequence[Lane]]]
    letters: Callable[[str], Sequence[Letter]]
    values: Callable[[Job], Sequence[tuple[str, str]]]
    redact: Callable[[Any], Any]
    metrics: Callable[[], Awaitable[tuple[str, Sequence[bytes]]]]


def text(status: int, words: str) -> Answer:
    """Return a plain answer of one line."""
    return Answer(status, TEXT, [f"{words}\n".encode()])


def as_json(value: Any, status: int = 200) -> Answer:
    """Return ``value`` as JSON."""
    return Answer(status, JSON, [encoded(value), b"\n"])


def encoded(value: Any) -> bytes:
    """Return ``value`` as JSON; times as RFC 3339. It holds no "<", which a browser could take for HTML."""
    text = json.dumps(value, default=_plain, ensure_ascii=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").encode("utf-8", "replace")


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    raise TypeError(f"{type(value).__name__} is not JSON")
