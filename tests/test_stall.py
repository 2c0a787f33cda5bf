from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from fetchd.errors import StateError
from fetchd.stall import Heartbeat, last_stall

PROCESS = """
import asyncio, os, re, sys, time
from pathlib import Path
from fetchd.stall import Heartbeat

def hold_the_interpreter():
    re.match(r"(a+)+$", "a" * 40 + "b")

def sleep():
    time.sleep(60)

def stall_stderr():
    os.set_blocking(2, False)
    try:
        while True:
            os.write(2, b"x" * 4096)
    except BlockingIOError:
        os.set_blocking(2, True)

async def main():
    stall_stderr()
    async with asyncio.TaskGroup() as group:
        beats = []
        heart = Heartbeat(Path(sys.argv[1]), lambda: beats.append(1), stall_timeout=0.5, beat_every=0.05)
        group.create_task(heart.run())
        while len(beats) < 14:  # longer than the limit: each beat starts it anew
            await asyncio.sleep(0.05)
        globals()[sys.argv[2]]()

asyncio.run(main())
"""


@asynccontextmanager
async def beating(heart: Heartbeat) -> AsyncIterator[None]:
    task = asyncio.create_task(heart.run())
    yield
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


class Beats:
    """Counts beats, and lets a test wait for the next."""

    def __init__(self) -> None:
        self.count = 0
        self._next = asyncio.Event()

    def __call__(self) -> None:
        self.count += 1
        self._next.set()

    async def next(self) -> None:
        self._next.clear()
        await self._next.wait()


@pytest.mark.parametrize("blocker", ["hold_the_interpreter", "sleep"])
def test_a_stalled_process_is_ended_and_says_where(tmp_path: Path, blocker: str) -> None:
    """No deadline ends what holds the loop, and no thread runs beside what holds the interpreter's lock."""
    began = time.monotonic()
    # stderr is a full pipe that nobody reads: the exit must not depend on it.
    process = subprocess.Popen([sys.executable, "-c", PROCESS, str(tmp_path), blocker], stderr=subprocess.PIPE)
    assert process.wait(timeout=20) == 1
    assert process.stderr is not None
    process.stderr.close()
    assert time.monotonic() - began < 15
    dump = last_stall(tmp_path)
    assert dump is not None
    assert blocker in dump
    assert "Timeout (0:00:00.5" in dump
    assert dump.startswith("20"), "the time of the stall comes first"
    assert last_stall(tmp_path) is None, "it is told once"


def test_without_a_stall_there_is_nothing_to_tell(tmp_path: Path) -> None:
    """The first start finds no file; one that was killed while it beat leaves an empty one."""
    assert last_stall(tmp_path) is None
    (tmp_path / "stall.txt").touch()
    assert last_stall(tmp_path) is None
    assert list(tmp_path.iterdir()) == []


def test_a_dump_that_cannot_be_read_is_said(tmp_path: Path) -> None:
    """What stands in the way is named instead of being taken for "no stall"."""
    (tmp_path / "stall.txt").mkdir()
    with pytest.raises(StateError, match=r"cannot read .*stall\.txt: Is a directory"):
        last_stall(tmp_path)


async def test_a_heart_without_a_place_for_its_dump_does_not_beat(tmp_path: Path) -> None:
    """A watchdog that could not speak is found out at the start."""
    with pytest.raises(StateError, match=r"cannot write .*stall\.txt: No such file"):
        await Heartbeat(tmp_path / "absent", lambda: None).run()


async def test_cancelling_disarms_everything(tmp_path: Path) -> None:
    """After an orderly stop nothing may end the process, and nothing is left: no thread, no file."""
    threads = set(threading.enumerate())
    beats = Beats()
    async with beating(Heartbeat(tmp_path, beats, stall_timeout=0.2, beat_every=0.02)):
        await beats.next()
        assert (tmp_path / "stall.txt").exists()
        assert len(set(threading.enumerate()) - threads) == 1
    assert set(threading.enumerate()) <= threads
    assert list(tmp_path.iterdir()) == []
    time.sleep(0.3)  # the timer would have struck


async def test_an_earlier_dump_is_kept(tmp_path: Path) -> None:
    """A dump that nobody has read yet must survive the next start."""
    (tmp_path / "stall.txt").write_text("earlier")
    beats = Beats()
    async with beating(Heartbeat(tmp_path, beats, beat_every=0.02)):
        await beats.next()
    assert (last_stall(tmp_path) or "").endswith("earlier")


async def test_a_stall_is_said_once_with_the_place_and_then_with_its_length(tmp_path: Path) -> None:
    """Whoever reads the log learns what held all jobs up, without its values, and for how long."""

    def block() -> None:
        password = "canary-7f3a"
        time.sleep(0.5 + len(password) / 1000)

    beats = Beats()
    with capture_logs() as lines:
        async with beating(Heartbeat(tmp_path, beats, notice_after=0.1, beat_every=0.02)):
            await beats.next()
            block()
            await beats.next()
    began, ended = lines
    assert (began["event"], began["state"], began["log_level"]) == ("loop_stalled", "began", "warning")
    assert 0.1 < began["stalled_s"] < 0.5
    assert "in block\n" in began["stack"]
    assert "time.sleep(0.5 + len(password) / 1000)" in began["stack"]
    assert (ended["event"], ended["state"]) == ("loop_stalled", "ended")
    assert 0.4 < ended["stalled_s"] < 5


async def test_lag_is_the_worst_of_the_last_minute(tmp_path: Path) -> None:
    """A timeout is only the upstream's fault if the loop itself was in time; a beat that is late now counts too."""
    beats = Beats()
    heart = Heartbeat(tmp_path, beats, beat_every=0.02)
    assert heart.lag == 0.0
    async with beating(heart):
        await beats.next()
        time.sleep(0.2)
        assert heart.lag > 0.1, "seen before the beat itself comes"
        await beats.next()
        await beats.next()
        assert 0.1 < heart.lag < 5
    assert heart.lag > 0.1


def test_what_a_later_beat_exceeded_is_not_kept(tmp_path: Path) -> None:
    """The lag is read at each view and each probe: what is left is the longest, then the longest after it."""
    heart, now = Heartbeat(tmp_path, lambda: None), time.monotonic()
    for ago, lag in ((70, 0.9), (50, 0.3), (40, 0.1), (30, 0.2), (10, 0.1)):
        heart.beaten(now - ago - lag, now - ago)
    assert round(heart.lag, 3) == 0.3
    heart.beaten(now - 0.5, now)
    assert round(heart.lag, 3) == 0.5


async def test_a_failing_hook_ends_the_heart(tmp_path: Path) -> None:
    """A watchdog that is no longer fed must not look alive."""

    def fail() -> None:
        raise RuntimeError("no")

    with pytest.raises(RuntimeError):
        await Heartbeat(tmp_path, fail).run()
