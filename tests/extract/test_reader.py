"""Bodies are read on the loop only as far as that is short; everything else in processes that can be killed."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import pytest

from fetchd.body import MemoryBudget
from fetchd.errors import FetchError, Reason
from fetchd.extract.reader import INLINE, VALUES, Reader
from fetchd.fetch.spool import Spool
from fetchd.job import Job
from fetchd.run import Carried, Progress
from fetchd.worker import Workers
from tests.extract.made import MIB, fetched, job
from tests.fetch.room import lag
from tests.processes import alive, births, until

SPOOL_ABOVE = 64 * 1024
LONGEST_TURN = 0.05
"""Seconds of the loop's own work; a busy machine makes a few milliseconds many."""


@pytest.fixture
async def workers() -> AsyncIterator[Workers]:
    """Give one worker process."""
    made = Workers(1)
    yield made
    await made.aclose()


@pytest.fixture
def budget() -> MemoryBudget:
    """Return the memory that bodies share."""
    return MemoryBudget(4 * MIB)


@pytest.fixture
def reader(workers: Workers, budget: MemoryBudget, tmp_path: Path) -> Reader:
    """Return a reader whose larger results go to ``tmp_path``."""
    return Reader(workers, Spool(tmp_path, SPOOL_ABOVE, budget))


def padded(size: int, **values: Any) -> bytes:
    """Return a JSON object of so many bytes at the least."""
    return json.dumps({**values, "padding": "x" * size}).encode()


async def text(reader: Reader, asked: Job, content: bytes | Path, content_type: str = "application/json") -> bytes:
    """Return the body that is delivered."""
    result, _ = await reader.extracted(asked, fetched(content, content_type), Carried())
    assert result is not None
    try:
        return await result.body.read()
    finally:
        result.body.close()


async def test_a_job_that_extracts_nothing_has_its_result_untouched(reader: Reader) -> None:
    """Not even read: it may be a large file."""
    given, carried = fetched(b"\x00"), Carried(cursor="c")
    result, after = await reader.extracted(job(), given, carried)
    assert result is given
    assert after is carried
    assert await given.body.read() == b"\x00"


@pytest.mark.parametrize("size", [0, INLINE + 1])
async def test_both_ways_lead_to_the_same(reader: Reader, size: int, budget: MemoryBudget) -> None:
    """On the loop and elsewhere; the old body is closed, the new one counted, and everything else stays."""
    born = births()
    given = fetched(padded(size, items=[{"id": 1}, {"id": 2}, {"id": 1}]))
    result, carried = await reader.extracted(job(split="items", unique="id"), given, Carried(cursor="c", page="p"))
    assert result is not None
    assert await result.body.read() == b'{"id":1}\n{"id":2}\n'
    assert (result.status, result.url, result.headers) == (given.status, given.url, given.headers)
    assert (result.content_type, len(carried.seen)) == ("application/x-ndjson", 2)
    assert (carried.cursor, carried.page) == ("c", "p")
    assert budget.used == result.body.size
    with pytest.raises(RuntimeError, match="closed"):
        await given.body.read()
    result.body.close()
    assert budget.used == 0
    assert bool(born()) is bool(size)


async def test_nothing_new_is_nothing(reader: Reader) -> None:
    """And what is carried is the very same then: there is nothing to be written down."""
    _, carried = await reader.extracted(job(split="@", unique="id"), fetched(b'[{"id": 1}]'), Carried())
    given = fetched(b'[{"id": 1}]')
    assert await reader.extracted(job(split="@", unique="id"), given, carried) == (None, carried)
    result, again = await reader.extracted(job(split="@"), fetched(b"[]"), carried)
    assert result is None
    assert again is carried
    with pytest.raises(RuntimeError, match="closed"):
        await given.body.read()


async def test_a_large_result_never_comes_into_memory(reader: Reader, tmp_path: Path, budget: MemoryBudget) -> None:
    """The process writes it where spooled bodies lie, readable for nobody else, and the body removes it."""
    spooled = tmp_path / "spooled"
    spooled.write_bytes(json.dumps([{"id": number, "x": "x" * 50} for number in range(3000)]).encode())
    given = fetched(spooled)
    result, _ = await reader.extracted(job(split="@"), given, Carried())
    assert result is not None
    path = result.body.path
    assert path is not None
    assert path.name.startswith("body-")
    assert path.stat().st_mode & 0o777 == 0o600
    content = path.read_bytes()
    assert (len(content), content.count(b"\n")) == (result.body.size, 3000)
    assert result.body.sha256 == hashlib.sha256(content).hexdigest()
    assert budget.used == 0
    result.body.close()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("size", [0, INLINE + 1])
async def test_an_error_is_the_same_from_everywhere(reader: Reader, size: int, tmp_path: Path) -> None:
    """Typed, final, without the body's content; and nothing of it is left."""
    given = fetched(padded(size, secret="s3cret"))
    progress = Progress()
    with pytest.raises(FetchError) as caught:
        await reader.extracted(job(extract="sum(secret)"), given, Carried(), progress)
    error = caught.value
    assert (error.reason, error.transient, error.phase) == (Reason.EXTRACT, False, "extract")
    assert str(error) == '"sum(secret)" cannot be asked of it: sum() takes array-number, not string'
    with pytest.raises(RuntimeError, match="closed"):
        await given.body.read()
    assert list(tmp_path.iterdir()) == []


async def test_a_result_is_bounded_like_a_body(reader: Reader, tmp_path: Path) -> None:
    """Also where it has grown beyond what was fetched, and is half written already."""
    names = b",".join(b"column%d" % number for number in range(100))
    table = names + b"\n" + (b"," * 99 + b"\n") * 2000
    with pytest.raises(FetchError, match="larger than max_body, 1048576 bytes") as caught:
        await text(reader, job(parse="csv", max_body="1MiB"), table, "text/csv")
    assert caught.value.reason is Reason.TOO_LARGE
    assert list(tmp_path.iterdir()) == []


async def test_values_are_what_pages_and_cursors_need(reader: Reader) -> None:
    """Of small bodies and large ones; the body stays open, for it is still to be delivered."""
    for size in (0, INLINE + 1):
        given = fetched(padded(size, next="/2", items=[1, 2]))
        assert await reader.values(given.body, ["next", "length(items)", "nothing"]) == ["/2", 2, None]
        assert await given.body.read()
    with pytest.raises(FetchError, match=f"{VALUES} bytes"):
        await reader.values(fetched(padded(VALUES)).body, ["padding"])


async def test_items_come_as_a_body(reader: Reader) -> None:
    """A page's items may be many: they are not for the loop's memory."""
    for size in (0, INLINE + 1):
        page = fetched(padded(size, items=[{"a": "\n"}, 2])).body
        count, items = await reader.items(page, "items", MIB)
        assert (count, await items.read()) == (2, b'{"a":"\\n"}\n2\n')
    count, items = await reader.items(fetched(b"[]").body, None, MIB)
    assert (count, items.size) == (0, 0)
    with pytest.raises(FetchError, match="found nothing"):
        await reader.items(fetched(b"{}").body, "items", MIB)


def _lines(count: int) -> bytes:
    return b"[" + b"0," * count + b"0]"


HOSTILE = [
    ("numbers", {"split": "[*].{a: a, b: b, c: c, d: d}"}, _lines(INLINE // 2 - 2), "ok"),
    ("rows", {"parse": "csv"}, b"a\n" + b"1\n" * (INLINE // 2 - 2), "ok"),
    ("products", {"extract": "@" + "|[@,@]" * 40}, b"[1]", "too_large"),
    ("identities", {"split": "@", "unique": "@" + "|[@,@]" * 40}, b"[1]", "too_large"),
    ("separators", {"extract": "join(s, l)"}, json.dumps({"s": "x" * 9000, "l": ["a"] * 4000}).encode(), "too_large"),
    ("sorts", {"extract": "sort(@)|sort(@)|sort(@)[0]"}, json.dumps([f"{n:05}" for n in range(3500)]).encode(), "ok"),
    ("brackets", {"extract": "@"}, b"[" * MIB, "extract"),
    ("columns", {"parse": "csv"}, b"a," * MIB, "extract"),
    ("quotes", {"parse": "csv"}, b'a,b\n"' + b"1,2\n" * (MIB // 4), "extract"),
    ("digits", {"extract": "@"}, b"9" * MIB, "extract"),
]


@pytest.mark.parametrize(("keys", "content", "why"), [case[1:] for case in HOSTILE], ids=[case[0] for case in HOSTILE])
async def test_a_hostile_body_does_not_hold_the_loop(
    reader: Reader, keys: dict[str, Any], content: bytes, why: str
) -> None:
    """Whatever it is made of, and whatever is asked of it: it ends typed, or is cut off by the deadline."""
    given = "ok"
    async with lag() as seen:
        try:
            await text(reader, job(**keys, max_body="1MiB"), content, "text/csv")
        except FetchError as error:
            given = str(error.reason)
    assert given == why
    assert seen.worst < LONGEST_TURN


async def test_memory_is_bounded(reader: Reader) -> None:
    """A megabyte that would be fifty gigabytes ends with an error, not with the machine."""
    content = json.dumps({"s": "x" * (MIB // 2), "l": ["a"] * 100_000}).encode()
    with pytest.raises(FetchError, match=r"to read the body takes more than \d+ MiB of memory") as caught:
        await text(reader, job(extract="join(s, l)"), content)
    assert (caught.value.reason, caught.value.transient) == (Reason.EXTRACT, False)
    assert await text(reader, job(extract="a"), padded(INLINE, a=1)) == b"1"  # the bound went with the body


async def test_the_deadline_kills_a_reading(reader: Reader, tmp_path: Path) -> None:
    """With its process; what it has written goes too, and the next one is read by another."""
    born = births()
    slow = b"[" + b"{}," * (3 * MIB) + b"{}]"
    progress = Progress()
    task = asyncio.create_task(reader.extracted(job(split="@"), fetched(slow), Carried(), progress))
    await until(lambda: list(tmp_path.glob("body-*")))
    [pid] = born()
    assert progress.phase == "extract"
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()
    await until(lambda: not alive(pid))
    assert list(tmp_path.iterdir()) == []
    assert await text(reader, job(extract="a"), padded(INLINE, a=1)) == b"1"


async def test_who_waits_for_a_process_is_starved(reader: Reader, tmp_path: Path) -> None:
    """The deadline of such a Run says nothing about its body."""
    slow = asyncio.create_task(reader.extracted(job(split="@"), fetched(b"[" + b"{}," * (3 * MIB) + b"{}]"), Carried()))
    await until(lambda: list(tmp_path.glob("body-*")))
    progress = Progress()
    with anyio.move_on_after(0.02):
        await reader.extracted(job(extract="a"), fetched(padded(INLINE, a=1)), Carried(), progress)
    assert progress.phase == "worker"
    slow.cancel()
    await asyncio.wait([slow])


async def test_a_process_that_dies_is_an_error(reader: Reader, tmp_path: Path) -> None:
    """The kernel may kill it for its memory, and the next body would have it killed again."""
    born = births()
    slow = b"[" + b"{}," * (3 * MIB) + b"{}]"
    task = asyncio.create_task(reader.extracted(job(split="@"), fetched(slow), Carried()))
    await until(lambda: list(tmp_path.glob("body-*")))
    [pid] = born()
    os.kill(pid, signal.SIGKILL)
    with pytest.raises(FetchError, match=r"the body could not be read: the worker process .*SIGKILL") as caught:
        await task
    assert (caught.value.reason, caught.value.transient) == (Reason.EXTRACT, False)
    assert list(tmp_path.iterdir()) == []


async def test_feeds_are_read_elsewhere(reader: Reader) -> None:
    """However small; and the daemon itself loads nothing for them, nor for jobs without expressions."""
    pytest.importorskip("feedparser", reason="feeds are read by feedparser: pip install feedparser")
    feed = b'<rss version="2.0"><channel><item><guid>1</guid><title>t</title></item></channel></rss>'
    born = births()
    content = await text(reader, job(parse="feed"), feed, "application/rss+xml")
    assert json.loads(content)["title"] == "t"
    assert born()
    loaded = "import sys; import fetchd.app; print({'jmespath', 'feedparser'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", loaded], check=True, timeout=20, capture_output=True, text=True)
    assert done.stdout == "set()\n"
