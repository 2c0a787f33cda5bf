"""What a reading is asked for, and what it answers: values that travel to worker processes and back."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from fetchd.errors import Reason

Cell = str | int | float | None
"""What a column holds of a record."""


@dataclass(frozen=True, slots=True)
class Order:
    """What is to be read, as what, and what of it is wanted.

    The result takes ``most`` bytes at the most; of more than ``above``, it is written to ``file``.
    """

    content: bytes | Path
    most: int
    content_type: str = ""
    url: str = ""
    parse: str = "json"
    delimiter: str = ","
    extract: str | None = None
    split: str | None = None
    unique: str | None = None
    seen: tuple[str, ...] = ()
    file: Path | None = None
    above: int = 0

    def read(self) -> bytes:
        """Return the body; for worker processes where it is in a file."""
        return self.content if isinstance(self.content, bytes) else self.content.read_bytes()


@dataclass(frozen=True, slots=True)
class Answer:
    """What was read, in memory or in a file; ``records`` of them, if it is split, and what to remember of those."""

    content: bytes | Path
    size: int
    sha256: str
    content_type: str
    records: int
    seen: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why an order could not be carried out."""

    reason: Reason
    message: str


@dataclass(frozen=True, slots=True)
class Table:
    """What becomes rows: records, one on each ``line``, or one JSON value; ``most`` bounds the bytes of all rows."""

    content: bytes | Path
    lines: bool
    columns: tuple[str, ...]
    most: int

    def read(self) -> bytes:
        """Return the body; for threads and worker processes."""
        return self.content if isinstance(self.content, bytes) else self.content.read_bytes()
