"""Functions such as users write, well and badly, for the worker processes."""

from __future__ import annotations

import asyncio
import ctypes
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any


class OddError(Exception):
    """An exception that does not travel: it neither pickles nor tells what it is."""

    def __init__(self, lock: object, more: object) -> None:
        super().__init__(lambda: (lock, more))

    def __str__(self) -> str:
        raise RuntimeError("no")


def double(value: Any) -> Any:
    """Return twice the value."""
    return value * 2


def pid(_value: Any) -> int:
    """Return the process's id."""
    return os.getpid()


def modules(_value: Any) -> list[str]:
    """Return which modules the process has loaded."""
    return sorted(sys.modules)


def fail(value: Any) -> None:
    """Raise, with a secret among the local values."""
    password = f"hunter2-{value}"
    raise ValueError(len(password))


def fail_oddly(_value: Any) -> None:
    """Raise what does not pickle."""
    raise OddError(open, 1)


def leave(_value: Any) -> None:
    """Ask Python to exit."""
    sys.exit(3)


def vanish(_value: Any) -> None:
    """Exit at once."""
    os._exit(9)


def crash(_value: Any) -> None:
    """Read where nothing is."""
    ctypes.string_at(0)


def hang_up(_value: Any) -> None:
    """Close every descriptor, the channel as well."""
    os.closerange(3, 64)


def vanish_but_leave_a_child(_value: Any) -> None:
    """Exit while a forked child still holds all descriptors."""
    if os.fork() == 0:
        time.sleep(60)
    os._exit(0)


def talk(value: Any) -> Any:
    """Print in every way there is."""
    print("printed")  # noqa: T201 - what it is for
    print("complained", file=sys.stderr)  # noqa: T201 - what it is for
    os.write(1, b"written\n")
    subprocess.run(["/bin/echo", "echoed"], check=True)
    return value


def flood(_value: Any) -> str:
    """Write more than any pipe holds."""
    for _ in range(100):
        os.write(2, b"x" * 65536)
    return "done"


def read_input(_value: Any) -> str:
    """Read the standard input, which holds nothing."""
    return sys.stdin.read()


def sleep_in(path: str) -> None:
    """Start a process, write both ids to ``path``, and never return."""
    other = subprocess.Popen(["/bin/sleep", "60"])
    Path(path).with_suffix(".new").write_text(f"{os.getpid()} {other.pid}")
    Path(path).with_suffix(".new").rename(path)
    time.sleep(60)


def unpicklable(_value: Any) -> Any:
    """Return what does not travel."""
    return (number for number in range(3))


def enormous(size: int) -> bytes:
    """Return so many bytes."""
    return bytes(size)


def much(_value: Any) -> bytes:
    """Return a mebibyte."""
    return bytes(2**20)


def stay(_value: Any) -> None:
    """Never return."""
    time.sleep(60)


def numbers(_value: Any) -> list[float]:
    """Return what is 200,000 bytes as JSON, and nearly twice as large pickled."""
    return [0.5] * 40_000


def awaitable(_value: Any) -> Any:
    """Return an awaitable without being an async function."""
    return asyncio.sleep(0)


def local() -> Any:
    """Return a function that no other process can find."""

    def inner(value: Any) -> Any:
        return value

    return inner


async def double_later(value: Any) -> Any:
    """Return twice the value, asynchronously."""
    await asyncio.sleep(0)
    return value * 2


async def fail_later(value: Any) -> None:
    """Raise, asynchronously."""
    fail(value)


async def leave_later(_value: Any) -> None:
    """Ask Python to exit, from within the loop."""
    sys.exit(3)


async def cancel_itself(_value: Any) -> None:
    """Raise CancelledError though nobody cancels."""
    raise asyncio.CancelledError
