"""Child processes: started and ended without the loop ever waiting for the system, or for a pipe."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path

import anyio
import pytest

from fetchd import child as module
from fetchd.child import STATUS_LOST, TAIL, Child, Program, how_it_ended, kill_all
from tests.processes import alive, births, descriptors, until


def sh(script: str, stdin: bytes | Path = b"") -> Program:
    """Return a shell's script as a program."""
    return Program(["/bin/sh", "-c", script], stdin=stdin)


async def run(program: Program) -> tuple[int, str, str]:
    """Run to the end; return the status and the output."""
    child = await Child.start(program)
    try:
        status = await child.wait()
        await child.settle()
        return status, child.stdout.take(), child.stderr.take()
    finally:
        await child.aclose()


async def test_output_and_status_come_back() -> None:
    """The two streams stay apart: what a program prints must not hide what it complains of."""
    assert await run(sh("echo out; echo err >&2; exit 7")) == (7, "out", "err")


async def test_a_signal_is_a_negative_status() -> None:
    """A crash must not look like an exit."""
    status, _, _ = await run(sh("kill -SEGV $$"))
    assert status == -signal.SIGSEGV
    assert how_it_ended(status) == "was ended by SIGSEGV"
    assert how_it_ended(3) == "exited with status 3"
    assert how_it_ended(-64 - 60) == "was ended by signal 124"


async def test_a_lost_status_is_a_failure() -> None:
    """Where SIGCHLD is ignored the kernel keeps no exit status; a failed command must not pass for a good one."""
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        status, stdout, _ = await run(sh("echo done; exit 1"))
    finally:
        signal.signal(signal.SIGCHLD, before)
    assert (status, stdout) == (STATUS_LOST, "done")


async def test_standard_input_is_fed_from_memory() -> None:
    """More than a pipe holds, so that feeding goes on while the program reads."""
    data = b"x" * 1_000_000
    assert (await run(sh("wc -c", stdin=data)))[1] == "1000000"


async def test_standard_input_is_a_file(tmp_path: Path) -> None:
    """A spooled body is not carried through this process."""
    path = tmp_path / "body"
    path.write_bytes(b"spooled")
    assert (await run(sh("cat", stdin=path)))[1] == "spooled"


async def test_nothing_to_feed_is_an_empty_input() -> None:
    """A program that reads must not wait for a body that has no bytes."""
    assert (await run(sh("wc -c")))[1] == "0"


async def test_a_program_need_not_read_its_input() -> None:
    """A program that ignores its input, and one that hangs up early, have not failed."""
    assert await run(sh("exit 0", stdin=b"x" * 1_000_000)) == (0, "", "")
    assert (await run(sh("head -c 3", stdin=b"x" * 1_000_000)))[:2] == (0, "xxx")


async def test_only_the_end_of_endless_output_is_kept() -> None:
    """A talkative program must not fill the memory."""
    status, stdout, _ = await run(sh("head -c 3000000 /dev/zero | tr '\\0' x; echo; echo last"))
    assert status == 0
    assert stdout.endswith("last")
    assert len(stdout) <= TAIL


async def test_an_end_does_not_wait_for_what_was_left_running(tmp_path: Path) -> None:
    """A grandchild that holds the pipes must not hold the Run: the reason why nothing here waits for an end of file."""
    pid = tmp_path / "pid"
    began = time.monotonic()
    status, stdout, _ = await run(sh(f"sleep 60 & echo $! > {pid}; echo done"))
    assert time.monotonic() - began < 5
    assert (status, stdout) == (0, "done")
    left = int(pid.read_text())
    assert alive(left)  # what a command leaves behind when it ends by itself is its own affair
    os.kill(left, signal.SIGKILL)


async def test_killing_takes_the_whole_group(tmp_path: Path) -> None:
    """Killing a shell alone would leave what it started."""
    pid = tmp_path / "pid"
    child = await Child.start(sh(f"sleep 60 & echo $! > {pid}; wait"))
    await until(lambda: pid.exists() and pid.read_text().strip())
    await child.aclose()
    await until(lambda: not alive(int(pid.read_text())))
    assert await child.wait() == -signal.SIGKILL


async def test_all_are_killed_at_once(tmp_path: Path) -> None:
    """A daemon that is told to end this instant must not leave commands behind, nor what they have started."""
    files = [tmp_path / "one", tmp_path / "two"]
    children = [await Child.start(sh(f"sleep 60 & echo $! > {pid}; wait")) for pid in files]
    await until(lambda: all(pid.exists() and pid.read_text().strip() for pid in files))
    kill_all()
    assert [await child.wait() for child in children] == [-signal.SIGKILL] * 2
    await until(lambda: not any(alive(int(pid.read_text())) for pid in files))
    for child in children:
        await child.aclose()


async def test_what_is_gone_is_not_killed() -> None:
    """Its id may be somebody else's by then."""
    before = set(module._groups)
    await run(sh("exit 0"))
    with anyio.move_on_after(0.05):
        await run(sh("sleep 60"))
    await until(lambda: module._groups <= before)


async def test_what_left_the_group_is_not_waited_for(tmp_path: Path) -> None:
    """A grandchild in a session of its own escapes the kill, holds the pipes, and must not hold us."""
    pid = tmp_path / "pid"
    code = f"import os,time; os.setsid(); open({str(pid)!r}, 'w').write(str(os.getpid()) + chr(10)); time.sleep(60)"
    child = await Child.start(sh(f'{sys.executable} -c "{code}" & wait'))
    await until(lambda: pid.exists() and pid.read_text().endswith("\n"))
    began = time.monotonic()
    await child.aclose()
    assert time.monotonic() - began < 0.5
    os.kill(int(pid.read_text()), signal.SIGKILL)


async def test_nothing_is_left() -> None:
    """No zombie and no descriptor: each Run starts a process, for years."""
    born = births()
    await run(sh("exit 0", stdin=b"x"))
    before = descriptors()
    for _ in range(5):
        await run(sh("echo x; exit 1", stdin=b"x" * 100_000))
    with pytest.raises(FileNotFoundError):
        await run(Program(["/nowhere/at/all"]))
    assert descriptors() == before
    assert born() == set()


async def test_a_missing_program_says_so() -> None:
    """The error is the system's own: who started it knows what it means."""
    with pytest.raises(FileNotFoundError) as caught:
        await Child.start(Program(["/nowhere/at/all"]))
    assert caught.value.filename == "/nowhere/at/all"


async def test_a_cancelled_start_leaves_nothing() -> None:
    """The process comes to life in a thread, perhaps after nobody waits for it any more."""
    born = births()
    before = descriptors()
    for delay in range(6):
        task = asyncio.create_task(Child.start(sh("sleep 60")))
        for _ in range(delay):
            await asyncio.sleep(0)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await (await task).aclose()  # it was quicker
    await until(lambda: born() == set() and descriptors() == before)


async def test_a_deadline_is_kept() -> None:
    """The waits are cancelled at once, under a scope that closes the child as it unwinds."""
    born = births()
    began = time.monotonic()
    with anyio.move_on_after(0.1) as scope:
        await run(sh("sleep 60"))
    assert scope.cancelled_caught
    assert time.monotonic() - began < 2
    assert born() == set()


async def test_the_end_is_told_once() -> None:
    """Whoever holds a channel to the process closes it then."""
    told = asyncio.Event()
    child = await Child.start(sh("exit 0"), on_end=told.set)
    await told.wait()
    assert child.ended
    await child.aclose()
    await child.aclose()


async def test_a_passed_descriptor_reaches_the_child() -> None:
    """It is the child's from then on: here it is closed, or its reader would never see an end."""
    reading, writing = os.pipe()
    child = await Child.start(Program(["/bin/sh", "-c", f"echo over > /proc/self/fd/{writing}"], passed=writing))
    await child.wait()
    await child.aclose()
    with os.fdopen(reading) as file:
        assert file.read() == "over\n"
