"""What real processes cost, read from /proc; and a daemon to measure."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from fetchd.demo.processes import daemon
from fetchd.demo.tally import Tally

START: Final = 60.0
"""Seconds that a daemon with ten thousand jobs may take to get ready on a busy machine."""
_TICK: Final = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes: ``rss`` counts what is shared with others whole, ``pss`` by the process's part in it."""

    rss: int = 0
    pss: int = 0

    def __add__(self, other: Memory) -> Memory:
        return Memory(self.rss + other.rss, self.pss + other.pss)


def memory_of(pids: Iterable[int]) -> Memory:
    """Return what the processes hold together; one that has gone holds nothing."""
    total = Memory()
    for pid in pids:
        try:
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
        except (FileNotFoundError, ProcessLookupError):
            continue
        held = {key: int(rest.split()[0]) * 1024 for key, _, rest in (line.partition(":") for line in lines)}
        total += Memory(held.get("Rss", 0), held.get("Pss", 0))
    return total


def cpu_of(pid: int) -> float:
    """Return the seconds of CPU that the process has used, in the kernel and outside it."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICK


class Daemon:
    """A running daemon whose log goes to a file."""

    def __init__(self, pid: int, log: Path) -> None:
        self.pid = pid
        self.log = log

    def tally(self) -> Tally:
        """Return what the log says by now."""
        tally = Tally()
        with self.log.open(errors="replace") as lines:
            for line in lines:
                tally.add(line)
        return tally


@contextmanager
def running(folder: Path, config: str) -> Iterator[Daemon]:
    """Give a daemon that runs ``config`` and is ready; its state and its log are in ``folder``, which is made."""
    folder.mkdir()
    file, log = folder / "fetchd.toml", folder / "log"
    file.write_text(f'[daemon]\nstate_dir = "state"\nlisten = "127.0.0.1:0"\n\n[log]\nformat = "json"\n\n{config}')
    with log.open("wb") as stderr, daemon(file, stderr) as process:
        found = Daemon(process.pid, log)
        end = time.monotonic() + START
        while found.tally().ready_at is None:
            if process.poll() is not None or time.monotonic() > end:
                raise SystemExit(f"the daemon did not start: {log.read_text()[-2000:]}")
            time.sleep(0.05)
        yield found


def mebibytes(size: float) -> str:
    """Return ``size`` bytes in MiB."""
    return f"{size / 2**20:,.1f} MiB"


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a table in Markdown, its columns aligned to be read as it is."""
    cells = [list(head), *([str(cell) for cell in row] for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(head))]
    lines = [" | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in cells]
    lines.insert(1, " | ".join("-" * width for width in widths))
    return "\n".join(f"| {line} |" for line in lines)
