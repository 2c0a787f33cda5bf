"""JSON, read strictly and written no further than asked; and what a reading may take. For worker processes as well."""

from __future__ import annotations

import json
import math
from typing import Any, Final

from fetchd.errors import FetchError, Reason

JSON: Final = "application/json"
RECORDS: Final = "application/x-ndjson"
"""The type of a result made of records: one JSON value on each line."""
TEXT: Final = "text/plain; charset=utf-8"


class TooLongError(Exception):
    """A reading takes more steps than it has: it is no work for the loop."""


class Steps:
    """What a reading may still take, in steps of about a microsecond."""

    def __init__(self, left: float = math.inf) -> None:
        self._left = left

    @property
    def bounded(self) -> bool:
        """Whether they can come to an end."""
        return self._left != math.inf

    def take(self, count: float = 1) -> None:
        """Take ``count`` of them.

        Raises:
            TooLongError: there are no more.
        """
        self._left -= count
        if self._left < 0:
            raise TooLongError


def failure(message: str, reason: Reason = Reason.EXTRACT) -> FetchError:
    """Return the error of a reading that failed; ``message`` repeats nothing of the body, which may hold secrets."""
    return FetchError(reason, message, transient=False, phase="extract")


def parsed(content: bytes, what: str = "the body") -> Any:
    """Return ``content`` as JSON values. Of keys that are there twice the last one counts.

    Raises:
        FetchError: it is not JSON (RFC 8259), or nested too deeply, or holds a number of more than 4,300 digits.
    """
    try:
        return _DECODER.decode(content.decode(json.detect_encoding(content)))
    except json.JSONDecodeError as error:
        message = f"{what} is not JSON: {error.msg} at line {error.lineno}, column {error.colno}"
    except UnicodeDecodeError:
        message = f"{what} is not JSON: it is not UTF-8"
    except RecursionError:
        message = f"{what} is nested too deeply"
    except _NotJsonError as error:
        message = f"{what} is not JSON: {error}"
    except ValueError:  # of int alone: Python refuses what would take it time without bound
        message = f"{what} holds a number of more than 4300 digits"
    raise failure(message)


def written(value: Any, most: int, what: str, *, in_order: bool = False) -> bytes:
    """Return ``value`` as JSON in UTF-8, without spaces and line ends; ``in_order``: that of its keys does not count.

    Raises:
        FetchError: it takes more than ``most`` bytes, or holds what JSON cannot say.
    """
    if not _fits(value, most):
        raise too_large(most)
    try:
        text = (_ORDERLY if in_order else _ENCODER).encode(value)
    except RecursionError:
        raise failure(f"{what} is nested too deeply") from None
    except (TypeError, ValueError):
        raise failure(f"{what} is not JSON: it holds a number that is too large, or a part of an expression") from None
    try:
        return text.encode()
    except UnicodeEncodeError:  # half of a surrogate pair: JSON can hold it, UTF-8 cannot
        return json.dumps(value, allow_nan=False, separators=(",", ":")).encode()


def too_large(most: int) -> FetchError:
    """Return the error of a result that is larger than the job takes."""
    return failure(f"what is extracted is larger than max_body, {most} bytes", Reason.TOO_LARGE)


def _fits(value: Any, most: int) -> bool:
    """Return whether ``value`` may be written in ``most`` bytes, after no more steps than that.

    An expression can name one part many times over: a few bytes in memory that would be gigabytes once written.
    """
    rest = [value]
    while rest and most >= 0:
        part = rest.pop()
        if isinstance(part, str):
            most -= len(part) + 2
        elif isinstance(part, dict):
            most -= sum(map(len, part)) + 4 * len(part) + 1
            rest += part.values()
        elif isinstance(part, list):
            most -= len(part) + 1
            rest += part
        else:
            most -= 1
    return most >= 0


class _NotJsonError(Exception):
    """A word that Python takes for a number, and JSON does not."""


def _refuse(name: str) -> None:
    raise _NotJsonError(f"{name} is no number")


_DECODER: Final = json.JSONDecoder(parse_constant=_refuse)
_ENCODER: Final = json.JSONEncoder(ensure_ascii=False, check_circular=False, allow_nan=False, separators=(",", ":"))
_ORDERLY: Final = json.JSONEncoder(sort_keys=True, check_circular=False, allow_nan=False, separators=(",", ":"))
