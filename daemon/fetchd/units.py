"""Durations and sizes as a person writes them: ``30s``, ``1h30m``, ``10MiB``."""

from __future__ import annotations

import re
from typing import Annotated, Any, Final

from pydantic import BeforeValidator, PlainSerializer, WithJsonSchema

_DURATION_UNITS: Final = {"d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
_SIZE_UNITS: Final = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}

_NUMBER: Final = r"[0-9]{1,9}(?:\.[0-9]{1,6})?"
_DURATION_PART: Final = re.compile(rf"({_NUMBER})(ms|s|m|h|d)")
_DURATION: Final = re.compile(
    rf"(?=[0-9])(?:{_NUMBER}d)?(?:{_NUMBER}h)?(?:{_NUMBER}m(?!s))?(?:{_NUMBER}s)?(?:{_NUMBER}ms)?"
)
_SIZE: Final = re.compile(r"([0-9]{1,13}) ?(B|KB|MB|GB|KiB|MiB|GiB)")

MAX_DURATION: Final = 366 * 86400.0
MAX_SIZE: Final = 2**40


def parse_duration(text: str) -> float:
    """Return the seconds that ``text`` names: each unit at most once, the largest first; exact to the microsecond.

    Raises:
        ValueError: not a duration, zero, or longer than 366 days; the message shows the right spelling.
    """
    if not _DURATION.fullmatch(text):
        raise ValueError('not a duration: write a number with its unit, such as "500ms", "30s", "5m" or "1h30m"')
    seconds = round(sum(float(number) * _DURATION_UNITS[unit] for number, unit in _DURATION_PART.findall(text)), 6)
    if seconds <= 0:
        raise ValueError("a duration must be longer than zero")
    if seconds > MAX_DURATION:
        raise ValueError("a duration may be at most 366d")
    return seconds


def parse_size(text: str) -> int:
    """Return the bytes that ``text`` names.

    Raises:
        ValueError: not a size, zero, or more than 1024GiB; the message shows the right spelling.
    """
    match = _SIZE.fullmatch(text)
    if not match:
        raise ValueError('not a size: write a whole number with its unit, such as "64KiB" or "10MiB"')
    size = int(match[1]) * _SIZE_UNITS[match[2]]
    if size <= 0:
        raise ValueError("a size must be greater than zero")
    if size > MAX_SIZE:
        raise ValueError("a size may be at most 1024GiB")
    return size


def format_duration(seconds: float) -> str:
    """Return ``seconds`` as it would be written in a configuration file; the inverse of `parse_duration`."""
    micros = round(seconds * 1_000_000)
    parts = []
    for unit, size in (("d", 86_400_000_000), ("h", 3_600_000_000), ("m", 60_000_000), ("s", 1_000_000)):
        count, micros = divmod(micros, size)
        if count:
            parts.append(f"{count}{unit}")
    if micros:
        parts.append(f"{micros / 1000:.3f}".rstrip("0").rstrip(".") + "ms")
    return "".join(parts) or "0s"


def format_size(size: int) -> str:
    """Return ``size`` bytes as it would be written in a configuration file; the inverse of `parse_size`."""
    for unit in ("GiB", "MiB", "KiB"):
        if size and size % _SIZE_UNITS[unit] == 0:
            return f"{size // _SIZE_UNITS[unit]}{unit}"
    return f"{size}B"


def _duration(value: Any) -> float:
    if isinstance(value, str):
        return parse_duration(value)
    if _number(value) and 0.001 <= value <= MAX_DURATION:
        raise ValueError(f'a duration needs a unit: write "{format_duration(value)}" if these are seconds')
    raise ValueError('a duration is a text such as "30s"')


def _size(value: Any) -> int:
    if isinstance(value, str):
        return parse_size(value)
    if _number(value) and 1 <= value <= MAX_SIZE:
        raise ValueError(f'a size needs a unit: write "{format_size(int(value))}" if these are bytes')
    raise ValueError('a size is a text such as "10MiB"')


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


Duration = Annotated[
    float,
    BeforeValidator(_duration),
    PlainSerializer(format_duration, return_type=str, when_used="json"),
    WithJsonSchema(
        {
            "type": "string",
            "pattern": f"^{_DURATION.pattern}$",
            "description": 'A duration with its unit: "500ms", "30s", "5m", "1h30m", "1d".',
        }
    ),
]
"""Seconds; written with a unit."""

Size = Annotated[
    int,
    BeforeValidator(_size),
    PlainSerializer(format_size, return_type=str, when_used="json"),
    WithJsonSchema(
        {
            "type": "string",
            "pattern": f"^{_SIZE.pattern}$",
            "description": 'A size with its unit: "64KiB", "10MiB".',
        }
    ),
]
"""Bytes; written with a unit."""
