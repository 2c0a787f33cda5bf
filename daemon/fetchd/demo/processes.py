"""Real processes: the upstream that misbehaves, the daemon, and what they cost; none outlives who started it."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import IO, Any, Final

from fetchd.errors import FetchdError

PATIENCE: Final = 5.0
"""Seconds that a process which was asked to end may take."""

_PR_SET_PDEATHSIG: Final = 1  # linux/prctl.h


class DemoError(FetchdError):
    """A process that is needed did not start."""


@contextmanager
def upstream() -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """Give the upstream's process and its address, such as ``http://127.0.0.1:40123``; it ends with its stdin.

    Raises:
        DemoError: it did not start.
    """
    command = [sys.executable, "-m", "fetchd.demo.upstream"]
    # A session of its own: Ctrl-C is for whoever started it, and decides there what ends first.
    process = subprocess.Popen(  # noqa: S603 - this interpreter, with arguments of ours
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0, start_new_session=True
    )
    try:
        assert process.stdout is not None
        port = process.stdout.readline().strip()
        if not port:
            raise DemoError("the upstream did not start")
        yield process, f"http://127.0.0.1:{int(port)}"
    finally:
        _end(process)


@contextmanager
def daemon(config: Path, stderr: int | IO[Any]) -> Iterator[subprocess.Popen[bytes]]:
    """Give the process of a daemon that runs ``config``; it is asked to stop at the end, and killed if it does not."""
    command = [sys.executable, "-m", "fetchd", "run", "-c", str(config)]
    process = subprocess.Popen(  # noqa: S603 - as above
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=stderr,
        bufsize=0,
        start_new_session=True,
        preexec_fn=partial(_end_with_parent, os.getpid()),
    )
    try:
        yield process
    finally:
        _end(process)


def memory(pid: int) -> int:
    """Return the resident bytes of the process ``pid``; 0 if it is gone."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError):
        return 0


def children(pid: int) -> int:
    """Return how many children the process ``pid`` has."""
    try:
        return sum(len((task / "children").read_text().split()) for task in Path(f"/proc/{pid}/task").iterdir())
    except OSError:
        return 0


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ask ``process`` to end, and kill it if it does not; close what we hold of it."""
    if process.stdin is not None:
        process.stdin.close()
    process.terminate()
    try:
        process.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    for pipe in (process.stdout, process.stderr):
        if pipe is not None:
            pipe.close()


def _end_with_parent(parent: int) -> None:
    """Let the kernel tell this process to stop when ``parent`` dies, of whatever it dies."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:  # it has died already
        os._exit(1)
