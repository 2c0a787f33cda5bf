"""What kind of thing a body is, as far as its declared type and its bytes agree."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, BinaryIO, Final

from fetchd.extract.plain import RECORDS

_TEXT: Final = re.compile(
    r"text/.+|application/(?:.+\+)?(?:json|xml|yaml|javascript)|application/x-ndjson|.+\+(?:json|xml)"
)
_JSON: Final = re.compile(r"(?:application|text)/json|.+/.+\+json")


def text_of(content: bytes, content_type: str) -> str | None:
    """Return ``content`` as text if its type says that it is one and it is UTF-8, else None."""
    if not _TEXT.fullmatch(_media_type(content_type)):
        return None
    try:
        return content.decode()
    except UnicodeDecodeError:
        return None


def json_of(content: bytes, content_type: str) -> str | None:
    """Return ``content`` on one line if its type says that it is JSON and it is, else None.

    It is checked but not built: numbers keep every digit, and no tree of objects stands in memory.
    """
    if not _JSON.fullmatch(_media_type(content_type)):
        return None
    try:
        text = content.decode()
        _CHECK.decode(text)
    except (ValueError, RecursionError):
        return None
    return text.strip().replace("\r", " ").replace("\n", " ")  # in JSON these stand between tokens only


def is_records(content_type: str) -> bool:
    """Return whether a body of this type is made of records, one on each line."""
    return _media_type(content_type) == RECORDS


def records_of(file: BinaryIO) -> Iterator[bytes]:
    """Yield the lines of ``file`` that hold a record, without their ends."""
    for line in file:
        if record := line.strip():
            yield record


def clean(text: str) -> str:
    """Return ``text``, which an upstream may have sent, without NUL, line ends, surrogates and the like."""
    return text if text.isprintable() else "".join(char if char.isprintable() else "?" for char in text)


def _media_type(content_type: str) -> str:
    return content_type.partition(";")[0].strip().lower()


def _nothing(_value: Any) -> None:
    """Stand for a value. Being Python, it also lets other threads run while a long text is checked."""


def _refuse(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


_CHECK: Final = json.JSONDecoder(
    object_pairs_hook=_nothing, parse_float=_nothing, parse_int=_nothing, parse_constant=_refuse
)
