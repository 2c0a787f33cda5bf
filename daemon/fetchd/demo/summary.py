"""What the tour has shown, in plain words; and what has landed, read from the files themselves."""

from __future__ import annotations

import os
import shutil
import sqlite3
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from fetchd.demo.stage import INTERVAL, SCENES, Scene
from fetchd.demo.tally import Tally

LONGEST_CALL: Final = 20
NEXT = """\
What to do next:
  {fetchd} example > fetchd.toml   every key; put your own URLs into it
  {fetchd} check -c fetchd.toml    all that is wrong with it
  {fetchd} run -c fetchd.toml      the daemon"""


@dataclass(frozen=True, slots=True)
class Show:
    """How the daemon did: seconds that it ran, resident bytes at its start and at its end, its exit status."""

    seconds: float
    memory_first: int
    memory_last: int
    status: int | None


def summary(show: Show, tally: Tally, until: datetime, out: Path, faults: Sequence[str]) -> str:
    """Return the summary of a tour whose daemon was stopped at ``until``."""
    healthy = [scene for scene in SCENES if not scene.ends]
    others = [scene for scene in SCENES if scene.ends]
    parts = [
        _daemon(show),
        "\n".join(["Jobs whose upstream answers:", *(_healthy(scene, tally, until) for scene in healthy)]),
        "\n".join(
            [
                "Jobs whose upstream does not; each run ended, and the next one followed:",
                *(_other(scene, tally) for scene in others),
            ]
        ),
        "\n".join(["What landed:", *(f"  {name:<20} {what}" for name, what in landed(out))]),
    ]
    if faults:
        parts.append("\n".join(["Not as it should be:", *(f"  {fault}" for fault in faults)]))
    installed = os.path.relpath(Path(sys.executable).with_name("fetchd"))
    call = "fetchd" if shutil.which("fetchd") or len(installed) > LONGEST_CALL else installed
    return "\n\n".join([*parts, NEXT.format(fetchd=call)])


def landed(out: Path) -> Iterator[tuple[str, str]]:
    """Yield each thing that the sinks have made, and what is in it."""
    latest, sizes = out / "rates" / "latest.json", out / "rates" / "sizes.txt"
    yield "rates/latest.json", latest.read_text().partition("\n")[0] if latest.exists() else "nothing yet"
    yield "rates.db", f"{_rows(out / 'rates.db')} rows in the table rates"
    yield "rates/sizes.txt", f"{_lines(sizes)} lines: the command, once for each result"
    yield "weather.jsonl", f"{_lines(out / 'weather.jsonl')} lines, a result each"


def mebibytes(size: int) -> str:
    """Return ``size`` bytes as a person reads them."""
    return f"{size / 2**20:.1f} MiB"


def _daemon(show: Show) -> str:
    first, last = mebibytes(show.memory_first), mebibytes(show.memory_last)
    ran = f"One process fetched for {show.seconds:.0f} s: {first} at its start, {last} at its end."
    if show.status == 0:
        return f"{ran}\nSIGTERM stopped it in order, with exit status 0."
    how = "It did not stop and was killed" if show.status is None else f"Its exit status was {show.status}"
    return f"{ran}\n{how}."


def _healthy(scene: Scene, tally: Tally, until: datetime) -> str:
    job = tally.job(scene.job)
    due = max(tally.due(scene.job, until, INTERVAL), job.runs)
    late = f", none more than {job.latest * 1000:.0f} ms late" if job.runs else ""
    return f"  {scene.job:<10} {job.good} of {due} slots fetched and delivered{late}"


def _other(scene: Scene, tally: Tally) -> str:
    job = tally.job(scene.job)
    ends = ", ".join(f"{count} x {reason}" for reason, count in job.reasons.most_common())
    said = f": {job.last.message}" if job.last and job.last.message else ""
    return f"  {scene.job:<10} {ends or 'no run has ended'}{said}"


def _lines(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


def _rows(path: Path) -> int:
    if not path.exists():
        return 0
    with closing(sqlite3.connect(path)) as connection:
        count: int = connection.execute("SELECT count(*) FROM rates").fetchone()[0]
        return count
