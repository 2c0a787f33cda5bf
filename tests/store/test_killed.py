"""A process that is killed at any moment: what it had committed is there, and nothing runs ahead of it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from fetchd.store.schema import BODIES
from fetchd.store.sqlite import open_sqlite_store
from tests.store.committer import INLINE_UP_TO, JOBS, content
from tests.store.made import settled

ROOT = Path(__file__).parents[2]


def killed_after(state: Path, lines: int) -> dict[str, int]:
    """Let a process commit, kill it once it has said so many commits, and return the last one of each job."""
    command = [sys.executable, "-m", "tests.store.committer", str(state)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        said = [process.stdout.readline() for _ in range(lines)]
        process.kill()
        said += process.stdout.read().splitlines(keepends=True)
    last = dict.fromkeys(JOBS, 0)
    for line in said:
        if line.endswith("\n"):  # it may have been killed in the middle of one
            job, number = line.split()
            last[job] = int(number)
    return last


@pytest.mark.parametrize("lines", [3, 40, 151])
async def test_what_was_committed_is_there(tmp_path: Path, lines: int) -> None:
    """Each result that was said to be kept is owed, with its body; the validators are those of the last one kept."""
    said = killed_after(tmp_path, lines)
    async with open_sqlite_store(tmp_path, inline_up_to=INLINE_UP_TO) as store:
        for job in ("small", "large"):
            memory, number = store.recall(job), 0
            while owed := await store.first_owed(job, "file"):
                number += 1
                assert owed.delivery.run == f"{job}-{number}"
                assert await owed.delivery.fetched.body.read() == content(job, number)
                store.delivered(owed.delivery)
            assert number >= said[job]
            assert memory.owed == number
            assert memory.validators.etag == (str(number) if number else None)
        assert int(store.recall("delivered").validators.etag or 0) >= said["delivered"]
        assert store.recall("delivered").owed <= 10
        await settled(store)
        assert list((tmp_path / BODIES).iterdir()) == []
