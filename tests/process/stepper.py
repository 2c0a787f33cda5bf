"""``python -m tests.process.stepper FOLDER JOB KILLS``: Runs of a job, each killed at another step, then run again.

A step is what leaves a mark on the disk: a call of the operating system, or a statement of SQL. A Run that is not
killed tells how many there are; so many of them, evenly spread, are tried, each in a folder of its own below FOLDER,
named by its number. A line for each tells what it was, which Runs were kept by then, and how the one after it ended.
Each Run is a fork of this process: to start fetchd two times for each step would take minutes.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import shutil
import signal
import sqlite3
import sys
import tempfile
import traceback
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any, Final, NoReturn

from fetchd.config import load
from fetchd.once import once
from fetchd.secret import Redactor

CALLS: Final = ("open", "mkdir", "link", "unlink", "replace", "fsync", "ftruncate")
STATEMENTS: Final = ("BEGIN", "INSERT", "UPDATE", "DELETE", "CREATE", "ALTER", "COMMIT")


class Steps:
    """Counts the steps of this process, and kills it at the one that ``at`` names; 0 for none."""

    def __init__(self, at: int, folder: Path) -> None:
        self.taken = 0
        self._at = at
        self._folder = str(folder)
        self._numbers = itertools.count(1)

    def install(self) -> None:
        """Count from now on, for as long as the process lives."""
        for name in CALLS:
            setattr(os, name, partial(self._call, name, getattr(os, name)))
        os.write = partial(self._write, os.write)
        steps = self

        class Connection(sqlite3.Connection):
            def execute(self, sql: str, *values: Any) -> sqlite3.Cursor:
                steps.statement(sql)
                return super().execute(sql, *values)

            def executemany(self, sql: str, *values: Any) -> sqlite3.Cursor:
                steps.statement(sql)
                return super().executemany(sql, *values)

        sqlite3.connect = partial(sqlite3.connect, factory=Connection)

    def statement(self, sql: str) -> None:
        """Take a step, if that is one."""
        if sql.lstrip().startswith(STATEMENTS):
            self._take(" ".join(sql.split()[:3]))

    def _call(self, name: str, real: Callable[..., Any], target: Any, *arguments: Any, **named: Any) -> Any:
        self._touch(name, target)
        return real(target, *arguments, **named)

    def _write(self, real: Callable[..., int], fd: int, data: bytes) -> int:
        self._touch("write", fd)
        if self.taken + 1 == self._at:
            real(fd, data[: len(data) // 2])
        self._touch("half of a write", fd)
        return real(fd, data)

    def _touch(self, name: str, target: Any) -> None:
        path = os.readlink(f"/proc/self/fd/{target}") if isinstance(target, int) else os.fspath(target)
        if path.startswith(self._folder):
            self._take(f"{name} {path.removeprefix(self._folder)}")

    def _take(self, what: str) -> None:
        self.taken = next(self._numbers)
        if self.taken == self._at:
            (Path(self._folder).parent / "step").write_text(what)
            os.kill(os.getpid(), signal.SIGKILL)


def act(folder: Path, job: str, at: int | None) -> NoReturn:
    """Be the process of one Run; ``at`` is None where nothing is counted."""
    steps = Steps(at or 0, folder / "state")
    with (folder / "said").open("a") as said:
        os.dup2(said.fileno(), 1)
        os.dup2(said.fileno(), 2)
    config = load(folder / "fetchd.toml", environment=os.environ)
    if at is not None:
        steps.install()
    status = asyncio.run(once(config, job, dry_run=False, show=print, redact=Redactor()))
    (folder / "steps").write_text(str(steps.taken))
    sys.stdout.flush()
    os._exit(status)


def run(folder: Path, job: str, at: int | None) -> int:
    """Run ``job`` in a process of its own and return how that ended, negative for a signal."""
    if not (child := os.fork()):
        try:
            act(folder, job, at)
        except BaseException:
            traceback.print_exc()
            os._exit(99)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def kept(state: Path) -> list[str]:
    """Return the Runs whose result the store holds; it is read in a copy: the next Run shall find it untouched."""
    with tempfile.TemporaryDirectory() as copy:
        for path in state.glob("state.db*"):
            shutil.copy(path, copy)
        with closing(sqlite3.connect(Path(copy) / "state.db")) as connection:
            if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'results'").fetchone():
                return []
            return [run for (run,) in connection.execute("SELECT run FROM results")]


def main(folder: Path, job: str, kills: int) -> None:
    """Step through a Run of ``job``."""
    config = (folder / "fetchd.toml").read_text()

    def begun(name: str) -> Path:
        made = folder / name
        made.mkdir()
        (made / "fetchd.toml").write_text(config)
        return made

    whole = begun("whole")
    assert run(whole, job, 0) == 0, (whole / "said").read_text()
    total = int((whole / "steps").read_text())
    for at in sorted({1 + number * (total - 1) // max(1, kills - 1) for number in range(kills)}):
        place = begun(str(at))
        killed = run(place, job, at) == -signal.SIGKILL
        what = (place / "step").read_text() if killed else ""
        line = {"at": at, "of": total, "what": what, "kept": kept(place / "state"), "status": run(place, job, None)}
        sys.stdout.write(f"{json.dumps(line)}\n")
        sys.stdout.flush()  # before the next fork, which would have it, too


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
