"""A user's functions, some of which do what nobody should; each of those only once."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

MIB = 2**20


def _out() -> Path:
    return Path(os.environ["STATE_DIRECTORY"].split(":")[0]) / "out"


def _first(what: str) -> bool:
    """Return whether ``what`` has not begun before, in this process or an earlier one."""
    try:
        (_out() / f"{what}.begun").touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


def _keep(result: Any) -> None:
    with (_out() / f"{result.job}.jsonl").open("a") as file:
        file.write(result.text() + "\n")


async def save(result: Any) -> None:
    """Keep the result."""
    _keep(result)


async def block(result: Any) -> None:
    """Hold up the loop for ever, then keep the result."""
    if _first("block"):
        time.sleep(3600)
    _keep(result)


async def hog(result: Any) -> None:
    """Take more memory than there is, then keep the result."""
    if _first("hog"):
        taken = [bytearray(os.urandom(16) * (MIB // 16)) for _ in range(1024)]
        raise RuntimeError(f"{len(taken)} MiB were there to be taken")
    _keep(result)
