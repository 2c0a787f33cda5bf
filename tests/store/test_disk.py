"""Disks that are full, and files and memory that stay flat."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Iterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from fetchd.errors import StoreError
from fetchd.run import Delivery, Outcome
from fetchd.store.schema import BODIES, NAME
from fetchd.store.sqlite import SqliteStore, open_sqlite_store
from tests.processes import until
from tests.store.made import NOW, a_report, a_result, a_run, committed, settled, small_disk, watched_loop


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """Return a file system of two megabytes."""
    with small_disk(tmp_path / "disk", "2m"):
        yield tmp_path / "disk"


def fill(disk: Path) -> Path:
    """Take all the space that is left, and return the file that has it."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file:
        for size in (65536, 4096, 1):
            try:
                while True:
                    file.write(b"x" * size)
            except OSError:
                continue
    return filler


async def fail(store: SqliteStore, first: int, size: int) -> int:
    """Commit until one fails, and return which: SQLite has room in its log for some."""
    number = first - 1

    async def commit_on() -> None:
        nonlocal number
        while number < first + 100:
            number += 1
            await committed(store, number, etag=f'"{number}"', content=b"y" * size)

    with pytest.raises(StoreError, match="free space on its disk"):
        await commit_on()
    return number


async def test_a_full_disk_is_said_and_borne(disk: Path) -> None:
    """Commits fail and change nothing, history is lost and counted, what was delivered is kept in mind."""
    async with open_sqlite_store(disk) as store:
        (delivery,) = await committed(store, 1)
        await committed(store, 2)
        with capture_logs() as logs:
            filler = fill(disk)
            async with watched_loop(0.4):
                failed = await fail(store, 3, 60_000)
                memory = store.recall("rates")
                assert memory.owed == failed - 1
                assert memory.validators.etag == (f'"{failed - 1}"' if failed > 3 else '"1"')
                assert await store.claim(a_run(failed))
                store.delivered(delivery)
                for number in range(3000):
                    store.finish(a_report(a_run(number), Outcome.FETCH_FAILED, message="x" * 4000))
                # Each is a row and a count. What still waited then would fill the space that is going to be free.
                await until(lambda: store.lost > 2 * 2950)
            filler.unlink()
            await until(lambda: logs[-1]["event"] == "store_recovered")
            await committed(store, 1000)
            await settled(store)
        assert store.recall("rates").owed == failed - 1
        owed = await store.first_owed("rates", "file")
        assert owed is not None
        assert owed.delivery.run == a_run(2).id
        assert [line["event"] for line in logs] == ["store_failing", "store_recovered"]
    async with open_sqlite_store(disk) as store:
        assert store.recall("rates").owed == failed - 1


async def test_a_file_that_does_not_fit_is_said(disk: Path) -> None:
    """The result stays with the Run, and no half of it on the disk."""
    async with open_sqlite_store(disk) as store:
        await committed(store, 1)
        fetched = a_result(b"z" * 3_000_000)
        with capture_logs() as logs, pytest.raises(StoreError, match=r"cannot keep a body in .*No space left"):
            await store.commit(a_run(2), fetched, ("file",), NOW)
        assert await fetched.body.read() == b"z" * 3_000_000
        assert [line["event"] for line in logs] == ["store_failing"]
        assert list((disk / BODIES).iterdir()) == []
        await committed(store, 3)


def resident() -> int:
    """Return the memory of this process, in bytes."""
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


async def test_ten_thousand_runs_leave_nothing_behind(tmp_path: Path) -> None:
    """Memory and files are as they were: a daemon runs for years."""

    async def one(job: str, number: int) -> None:
        run = a_run(number, job)
        assert await store.claim(run)
        deliveries: list[Delivery] = await committed(store, number, job, content=b"x" * (number % 7 * 1000))
        store.delivered(deliveries[0])
        store.finish(a_report(run, Outcome.UNCHANGED if number % 2 else Outcome.FETCH_FAILED, message="m" * 100))

    async def many(numbers: range) -> tuple[int, int, int]:
        async def job(name: str) -> None:
            for number in numbers:
                await one(name, number)

        await asyncio.gather(*(job(f"job-{index}") for index in range(10)))
        await store.tidy()
        return resident(), (tmp_path / NAME).stat().st_size, (tmp_path / f"{NAME}-wal").stat().st_size

    async with open_sqlite_store(tmp_path) as store:
        memory, size, _ = await many(range(300))
        memory_after, size_after, log_after = await many(range(300, 1000))
        assert memory_after - memory < 2 * 2**20
        assert size_after <= size * 1.1
        assert log_after == 0
        assert len(await store.history("job-1", 1000)) <= 200
        assert store.lost == 0
