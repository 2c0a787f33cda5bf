"""Results handed to functions: in the loop or in a worker process, a failure is the sink's alone."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from pydantic import ValidationError

from fetchd.errors import SinkError
from fetchd.sinks import Resources
from fetchd.sinks.function import FunctionSink
from fetchd.worker import Workers
from tests.processes import births, until
from tests.sinks.made import SLOT, delivery, options, resources

MODULE = """
import asyncio, os, pathlib, threading

def _write(result, path):
    pathlib.Path(path).write_text(repr((result.job, result.run, result.slot.isoformat(), result.delivery,
        result.status, result.url, result.content_type, result.headers, result.json(), os.getpid())))

def save(result):
    _write(result, result.body and "saved")
    return threading.Lock()

async def save_later(result):
    await asyncio.sleep(0)
    _write(result, "saved")

def hang(result):
    pathlib.Path("hung").touch()
    threading.Event().wait()

def fail(result):
    raise LookupError("no such table")
"""


@pytest.fixture
async def shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Resources]:
    """Put the user's module in a folder that is searched for modules, and be in that folder."""
    (tmp_path / "shop_tasks.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    workers = Workers()
    yield resources(tmp_path, workers=workers)
    await workers.aclose()
    sys.modules.pop("shop_tasks", None)


def sink(name: str, shared: Resources) -> FunctionSink:
    """Return a sink that calls the function ``name`` of the user's module."""
    return FunctionSink(options("function", call=f"shop_tasks:{name}"), shared)


@pytest.mark.parametrize("call", ["shop_tasks", "shop_tasks:", "shop-tasks:save", "shop_tasks:a.b", ":save"])
def test_a_function_is_named_in_one_way(call: str) -> None:
    """A misspelt name is a finding."""
    with pytest.raises(ValidationError, match=r"package\.module:function"):
        options("function", call=call)


@pytest.mark.usefixtures("shared")
def test_what_cannot_be_imported_is_a_problem() -> None:
    """It is told at the check, on the machine that has the module or has it not."""
    assert list(options("function", call="shop_tasks:save").problems()) == []
    assert list(options("function", call="shop_tasks:sale").problems()) == [("call", "shop_tasks has no function sale")]
    [(key, message)] = options("function", call="shop_taks:save").problems()
    assert key == "call"
    assert message.startswith("cannot import shop_taks: ModuleNotFoundError")


@pytest.mark.parametrize("name", ["save", "save_later"])
async def test_the_function_gets_the_whole_delivery(shared: Resources, name: str) -> None:
    """The same in either place; and what it returns does not matter, though it does not even travel."""
    await sink(name, shared).deliver(delivery())
    saved = eval(Path("saved").read_text())
    assert saved[:-1] == (
        "rates",
        "r1",
        SLOT.isoformat(),
        "d1",
        200,
        "https://upstream.test/v1/rates",
        "application/json",
        {"etag": '"1"'},
        {"rate": 1.1},
    )


async def test_a_spooled_body_is_read(shared: Resources, tmp_path: Path) -> None:
    """A function always has the bytes."""
    (tmp_path / "spooled").write_bytes(b"[1]")
    await sink("save", shared).deliver(delivery(tmp_path / "spooled"))
    assert "[1]" in Path("saved").read_text()


async def test_a_failure_is_transient(shared: Resources) -> None:
    """The next version of the function may take it; the message says what was wrong, with its place."""
    with pytest.raises(SinkError, match=r"(?s)shop_tasks:fail: .*in fail.*LookupError: no such table") as caught:
        await sink("fail", shared).deliver(delivery())
    assert not caught.value.permanent


async def test_a_function_that_is_gone_is_transient(shared: Resources) -> None:
    """A deployment may be under way."""
    target = sink("save_soon", shared)
    with pytest.raises(SinkError, match="has no function save_soon") as caught:
        await target.deliver(delivery())
    assert not caught.value.permanent
    sys.modules["shop_tasks"].__dict__["save_soon"] = sys.modules["shop_tasks"].__dict__["save_later"]
    await target.deliver(delivery())


async def test_a_deadline_ends_a_function_that_hangs(shared: Resources) -> None:
    """With its process: nothing else stops sync code."""
    born = births()
    task = asyncio.create_task(sink("hang", shared).deliver(delivery()))
    await until(Path("hung").exists)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert born() == set()
