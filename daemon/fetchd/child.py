"""Child processes: each in a session of its own, its output bounded, its end never awaited through a pipe."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

import anyio

TAIL: Final = 16 * 1024
"""Bytes kept of each output stream: its end, where programs say what went wrong."""

KILL_GRACE: Final = 1.0
"""Seconds to wait for a killed process; one that sleeps in the kernel for longer is reaped whenever it ends."""

OUTPUT_GRACE: Final = 0.2
"""Seconds after a process has ended in which what it left running may still finish its output."""

STATUS_LOST: Final = 255
"""Stands for an exit status that the kernel did not keep, because this process was started with SIGCHLD ignored."""

_groups: Final[set[int]] = set()
"""The groups that may still run: one set for the whole process, as its children are the process's own.

Threads add to it and the loop takes away, each in one step of the interpreter, so that it can be read without a lock,
which a process that is ended hard might wait for in vain.
"""

_PIECE: Final = 64 * 1024
_MOST_PIECES: Final = 16


@dataclass(frozen=True, slots=True)
class Program:
    """What to start. ``stdin`` is fed from memory or is a file; ``passed``, a descriptor, goes over to the child."""

    argv: Sequence[str]
    cwd: Path | None = None
    environment: Mapping[str, str] | None = None
    stdin: bytes | Path = b""
    passed: int | None = None


class Child:
    """A running program. A thread of its own starts it and notices its end, so that neither can hold the loop.

    It is reaped only when it is discarded: until then its process group cannot have become somebody else's.
    """

    stdout: Tail
    stderr: Tail

    def __init__(self, program: Program, on_end: Callable[[], None] | None) -> None:
        self._program = program
        self._on_end = on_end
        self._loop = asyncio.get_running_loop()
        self._started: asyncio.Future[None] = self._loop.create_future()
        self._ended = asyncio.Event()
        self._process: subprocess.Popen[bytes] | None = None
        self._feed: _Feed | None = None
        self._discarded = False
        self._status = STATUS_LOST

    @classmethod
    async def start(cls, program: Program, *, on_end: Callable[[], None] | None = None) -> Child:
        """Start ``program``; ``on_end`` is called on the loop when its process has ended.

        Raises:
            OSError: it cannot be started.
            ValueError: one of its texts holds a NUL.
        """
        child = cls(program, on_end)
        try:
            threading.Thread(target=child._live, name="child", daemon=True).start()
        except RuntimeError as error:
            _close(program.passed)
            raise OSError(str(error)) from None
        try:
            await child._started
        except BaseException:
            await child.aclose()
            raise
        return child

    @property
    def ended(self) -> bool:
        """Whether the process itself has ended."""
        return self._ended.is_set()

    async def wait(self) -> int:
        """Return the exit status of the process itself, negative for a signal, whatever else holds its pipes."""
        await self._ended.wait()
        return self._status

    async def settle(self) -> None:
        """Wait, for a moment, until the output is complete: what an ended process left running may still write."""
        with anyio.move_on_after(OUTPUT_GRACE):
            await self.stdout.complete.wait()
            await self.stderr.complete.wait()

    def kill(self) -> None:
        """Kill the process and its whole group. What made a session of its own escapes, but is not waited for."""
        if self._process is not None and self._process.returncode is None:
            _kill_group(self._process.pid)

    def discard(self) -> None:
        """Let go of everything and kill what has not ended; it is reaped now, or whenever it does end."""
        if self._discarded:
            return
        self._discarded = True
        if self._process is not None:
            self._close_pipes()
            if self.ended:
                _reap(self._process)
            else:
                self.kill()

    async def aclose(self) -> None:
        """Discard the process and wait, for a moment, until it is gone."""
        self.discard()
        with anyio.move_on_after(KILL_GRACE, shield=True):
            await self._ended.wait()

    def _live(self) -> None:
        """Be the thread: everything that may wait on the system happens here, everything else on the loop."""
        try:
            process = _spawn(self._program)
        except Exception as error:
            self._tell(self._fail, error)
            return
        if not self._tell(self._attach, process):
            _kill_group(process.pid)
        if not self._tell(self._end, _status_of(process.pid)):
            _reap(process)

    def _tell(self, act: Callable[..., None], *arguments: Any) -> bool:
        """Have the loop call ``act``; return whether there still is a loop."""
        try:
            self._loop.call_soon_threadsafe(act, *arguments)
        except RuntimeError:
            return False
        return True

    def _fail(self, error: Exception) -> None:
        self._ended.set()
        if not self._started.done():
            self._started.set_exception(error)

    def _attach(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        assert process.stdout is not None
        assert process.stderr is not None
        self.stdout = Tail(self._loop, process.stdout)
        self.stderr = Tail(self._loop, process.stderr)
        if process.stdin is not None:
            assert isinstance(self._program.stdin, bytes)
            self._feed = _Feed(self._loop, process.stdin, self._program.stdin)
        if self._discarded:
            self._close_pipes()
            self.kill()
        elif not self._started.done():
            self._started.set_result(None)

    def _end(self, status: int) -> None:
        self._status = status
        self._ended.set()
        if self._discarded:
            assert self._process is not None
            _reap(self._process)
        on_end, self._on_end = self._on_end, None
        if on_end is not None:
            on_end()

    def _close_pipes(self) -> None:
        self.stdout.close()
        self.stderr.close()
        if self._feed is not None:
            self._feed.close()


def kill_all() -> None:
    """Kill the group of every child at once; for a process that is about to end without closing anything."""
    for leader in tuple(_groups):
        _kill_group(leader)


def how_it_ended(status: int) -> str:
    """Return ``status`` in words that follow the process's name."""
    if status >= 0:
        return f"exited with status {status}"
    with contextlib.suppress(ValueError):
        return f"was ended by {signal.Signals(-status).name}"
    return f"was ended by signal {-status}"


class Tail:
    """Reads what a process writes, so that it never waits for us, and keeps the end of it."""

    def __init__(self, loop: asyncio.AbstractEventLoop, pipe: IO[bytes]) -> None:
        self.complete = asyncio.Event()
        self.size = 0
        self._loop = loop
        self._pipe = pipe
        self._kept = bytearray()
        os.set_blocking(pipe.fileno(), False)
        loop.add_reader(pipe.fileno(), self._read)

    def take(self) -> str:
        """Return the end of what was written since the last time, as text."""
        for _ in range(_MOST_PIECES):
            if self.complete.is_set() or not self._read():
                break
        kept, self._kept = bytes(self._kept), bytearray()
        return kept.decode("utf-8", "replace").strip()

    def close(self) -> None:
        """Stop reading; whoever still writes is told so by the system."""
        if not self._pipe.closed:
            self._loop.remove_reader(self._pipe.fileno())
            self._pipe.close()
            self.complete.set()

    def _read(self) -> bool:
        """Read what is there; return whether there may be more."""
        try:
            data = os.read(self._pipe.fileno(), _PIECE)
        except BlockingIOError:
            return False
        if not data:
            self.close()
            return False
        self.size += len(data)
        self._kept += data
        del self._kept[:-TAIL]
        return True


class _Feed:
    """Writes to a process as much as it reads; one that reads no more is no failure of ours."""

    def __init__(self, loop: asyncio.AbstractEventLoop, pipe: IO[bytes], data: bytes) -> None:
        self._loop = loop
        self._pipe = pipe
        self._rest = memoryview(data)
        os.set_blocking(pipe.fileno(), False)
        loop.add_writer(pipe.fileno(), self._write)

    def close(self) -> None:
        """Stop writing."""
        self._rest = memoryview(b"")
        if not self._pipe.closed:
            self._loop.remove_writer(self._pipe.fileno())
            self._pipe.close()

    def _write(self) -> None:
        try:
            self._rest = self._rest[os.write(self._pipe.fileno(), self._rest[:_PIECE]) :]
        except BlockingIOError:
            return
        except BrokenPipeError:
            self._rest = memoryview(b"")
        if not self._rest:
            self.close()


def _spawn(program: Program) -> subprocess.Popen[bytes]:
    """Start the process; ``passed`` is closed here in any case, for it is the child's now."""
    with contextlib.ExitStack() as ours:
        ours.callback(_close, program.passed)
        stdin: int | IO[bytes] = subprocess.PIPE if program.stdin else subprocess.DEVNULL
        if isinstance(program.stdin, Path):
            stdin = ours.enter_context(program.stdin.open("rb"))
        process = subprocess.Popen(  # noqa: S603 - what to start is the operator's own word, and no shell reads it
            program.argv,
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            cwd=program.cwd,
            env=program.environment,
            start_new_session=True,
            pass_fds=() if program.passed is None else (program.passed,),
        )
    _groups.add(process.pid)
    return process


def _reap(process: subprocess.Popen[bytes]) -> None:
    _groups.discard(process.pid)  # before its id can become somebody else's
    process.wait()


def _kill_group(leader: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):  # all gone, or by now another user's
        os.killpg(leader, signal.SIGKILL)


def _status_of(pid: int) -> int:
    """Wait for the end of a process without reaping it, and return its exit status, negative for a signal."""
    try:
        result = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    except ChildProcessError:
        return STATUS_LOST
    assert result is not None
    return result.si_status if result.si_code == os.CLD_EXITED else -result.si_status


def _close(descriptor: int | None) -> None:
    if descriptor is not None:
        os.close(descriptor)
