"""The user's own code: whatever it does, the caller gets an answer and the next call works."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import anyio
import pytest
from structlog.testing import capture_logs

import fetchd
from fetchd import worker_main
from fetchd.errors import FetchError, Reason, UserCodeError
from fetchd.usercode import LONGEST_TRACEBACK, own_traceback
from fetchd.worker import Result, ResultTooLargeError, Workers, load_function
from tests import user_functions as users
from tests.processes import alive, births, descriptors, until


@pytest.fixture
async def workers() -> AsyncIterator[Workers]:
    """Give the workers, and end their processes."""
    workers = Workers(limit=2)
    yield workers
    await workers.aclose()


async def test_sync_code_runs_in_a_process_that_is_kept(workers: Workers) -> None:
    """Starting one for each call would cost the import of the user's code every time."""
    assert await workers.call(users.double, 21) == 42
    first = await workers.call(users.pid, None)
    assert first != os.getpid()
    assert await workers.call(users.pid, None) == first


async def test_async_code_runs_in_the_loop(workers: Workers) -> None:
    """It needs no process, and may use what lives in the loop."""
    born = births()
    assert await workers.call(users.double_later, 21) == 42
    assert born() == set()


async def test_a_result_travels_whole(workers: Workers) -> None:
    """A function is given the same values in either place."""
    result = Result("rates", "r1", datetime(2026, 3, 1, tzinfo=UTC), "d1", 200, "http://x/", "text/plain", {}, b"[1]")
    assert result.json() == [1]
    assert Result.text(result) == "[1]"
    assert await workers.call(load_function("copy:copy"), result) == result


async def test_a_worker_process_loads_none_of_our_libraries(workers: Workers) -> None:
    """Each may live for long, and its memory is the user's."""
    loaded = set(await workers.call(users.modules, None))
    assert not loaded & {"anyio", "httpx", "aiohttp", "pydantic", "structlog", "fetchd.worker", "fetchd.job"}


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (users.fail, "ValueError: 9"),
        (users.fail_oddly, "OddError"),
        (users.leave, "SystemExit: 3"),
        (users.vanish, "the worker process exited with status 9"),
        (users.crash, "the worker process was ended by SIGSEGV"),
        (users.hang_up, "the worker process exited with status 1"),
        (users.vanish_but_leave_a_child, "the worker process exited with status 0"),
        (users.unpicklable, "cannot pickle 'generator' object"),
        (users.awaitable, "only what is defined with async def"),
        (users.fail_later, "ValueError: 9"),
        (users.leave_later, "SystemExit: 3"),
        (users.cancel_itself, "CancelledError"),
    ],
)
async def test_every_failure_is_an_error_of_the_users_code(
    workers: Workers, function: Callable[..., Any], message: str
) -> None:
    """Neither the daemon nor the next call pays for it."""
    with pytest.raises(UserCodeError) as caught:
        await workers.call(function, "v")
    assert message in str(caught.value)
    assert await workers.call(users.double, 2) == 4


async def test_a_traceback_is_the_users_own_without_values(workers: Workers) -> None:
    """Local values may be secrets, and our own frames are noise."""
    for function in (users.fail, users.fail_later):
        with pytest.raises(UserCodeError) as caught:
            await workers.call(function, "v")
        assert "in fail" in str(caught.value)
        assert "hunter2-v" not in str(caught.value)
        assert "worker" not in str(caught.value)


async def test_an_unwanted_result_does_not_travel(workers: Workers) -> None:
    """A sink's function may return what it likes."""
    assert await workers.call(users.unpicklable, None, wants_result=False) is None


async def test_a_result_has_a_largest_size() -> None:
    """It would otherwise be read into the daemon's memory, whatever its size."""
    workers = Workers(largest_result=1000)
    with pytest.raises(ResultTooLargeError, match="larger than 1000 bytes"):
        await workers.call(users.enormous, 2000)
    assert await workers.call(users.enormous, 100) == bytes(100)
    with pytest.raises(ResultTooLargeError, match="larger than 50 bytes"):
        await workers.call(users.enormous, 100, largest=50)
    assert len(await workers.call(users.enormous, 2000, largest=3000)) == 2000
    await workers.aclose()


async def test_what_cannot_be_sent_is_refused(workers: Workers) -> None:
    """A function that only this process knows has no name in another."""
    with pytest.raises(UserCodeError, match=r"user_functions:local.<locals>.inner cannot be found"):
        await workers.call(users.local(), None)


async def test_printing_is_logged_and_harms_nothing(workers: Workers) -> None:
    """The channel is not the standard output; a library that prints must not be taken for an answer."""
    with capture_logs() as logs:
        assert await workers.call(users.talk, 5) == 5
    assert logs == [
        {
            "event": "function_output",
            "log_level": "info",
            "function": "tests.user_functions:talk",
            "stdout": "printed\nwritten\nechoed",
            "stderr": "complained",
        }
    ]
    assert await workers.call(users.read_input, None) == ""


async def test_a_flood_of_output_stops_nothing(workers: Workers) -> None:
    """A pipe that nobody empties would hold the function for ever."""
    assert await workers.call(users.flood, None) == "done"


async def test_a_cancelled_call_kills_its_process_and_all_it_started(workers: Workers, tmp_path: Path) -> None:
    """The deadline of a Run must end sync code too, which nothing else can stop."""
    path = tmp_path / "pids"
    call = asyncio.create_task(workers.call(users.sleep_in, str(path)))
    await until(path.exists)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    pids = [int(pid) for pid in path.read_text().split()]
    await until(lambda: not any(map(alive, pids)))
    assert await workers.call(users.double, 2) == 4


async def test_a_call_cancelled_at_any_moment_leaves_nothing(workers: Workers) -> None:
    """The process may not yet have started, or not yet have been asked."""
    born = births()
    before = descriptors()
    for delay in (0.0, 0.001, 0.003, 0.01, 0.03):
        with anyio.move_on_after(delay):
            await workers.call(time.sleep, 60)
    await until(lambda: born() == set() and descriptors() == before)


async def test_places_are_limited(workers: Workers) -> None:
    """Sync code that hangs must not become a pile of processes."""
    born = births()
    calls = [asyncio.create_task(workers.call(time.sleep, 60)) for _ in range(5)]
    await until(lambda: len(born()) == 2)
    await asyncio.sleep(0.05)
    assert len(born()) == 2
    for call in calls:
        call.cancel()
    await asyncio.gather(*calls, return_exceptions=True)
    assert born() == set()


async def test_a_call_that_waits_has_not_started() -> None:
    """Whoever is cut off while others hold all places is not to blame, and can tell so."""
    workers = Workers(limit=1)
    first, second = asyncio.Event(), asyncio.Event()
    slow = asyncio.create_task(workers.call(time.sleep, 60, on_start=first.set))
    assert not first.is_set()
    await first.wait()
    innocent = asyncio.create_task(workers.call(users.double, 1, on_start=second.set))
    await asyncio.sleep(0.05)
    assert not second.is_set()
    slow.cancel()
    assert await innocent == 2
    assert second.is_set()
    await workers.aclose()


async def test_an_async_call_starts_at_once(workers: Workers) -> None:
    """It needs no place."""
    started = asyncio.Event()
    await workers.call(users.double_later, 1, on_start=started.set)
    assert started.is_set()


async def test_an_idle_process_ends() -> None:
    """It would hold the memory of all that the user's code has imported."""
    born = births()
    workers = Workers(idle=0.05)
    await workers.call(users.double, 1)
    await until(lambda: born() == set())
    assert await workers.call(users.double, 1) == 2
    await workers.aclose()


async def test_a_process_serves_so_many_calls() -> None:
    """What the user's code leaks goes with it."""
    workers = Workers(calls=2)
    pids = [await workers.call(users.pid, None) for _ in range(4)]
    assert pids[0] == pids[1] != pids[2] == pids[3]
    await workers.aclose()


async def test_a_process_that_died_while_idle_is_replaced(workers: Workers) -> None:
    """The kernel may have taken it for its memory."""
    first = await workers.call(users.pid, None)
    os.kill(first, signal.SIGKILL)
    await until(lambda: workers._waiting[0]._child.ended)
    assert await workers.call(users.pid, None) != first


async def test_processes_end_with_the_daemon(tmp_path: Path) -> None:
    """Even one in the middle of a function, even if the daemon was killed."""
    path = tmp_path / "pids"
    script = tmp_path / "app"  # as a console script: without an ending, and not to be loaded again by the worker
    script.write_text(
        "import asyncio, sys\n"
        "print('started', flush=True)\n"
        "from fetchd.worker import Workers\n"
        "from tests.user_functions import sleep_in\n"
        "asyncio.run(Workers().call(sleep_in, sys.argv[1]))\n"
    )
    root = Path(__file__).parent.parent
    source = Path(fetchd.__file__).parent.parent
    app = subprocess.Popen(
        [sys.executable, str(script), str(path)],
        env={"PYTHONPATH": f"{root}:{source}"},
        stdout=subprocess.PIPE,
        text=True,
    )
    await until(path.exists)
    app.kill()
    output, _ = app.communicate()
    assert output == "started\n"
    await until(lambda: not any(alive(int(pid)) for pid in path.read_text().split()))


async def test_closing_leaves_nothing() -> None:
    """The daemon's stop is bounded, and leaves neither process nor descriptor."""
    born = births()
    before = descriptors()
    workers = Workers()
    await asyncio.gather(*(workers.call(users.double, number) for number in range(3)))
    await workers.aclose()
    assert born() == set()
    assert descriptors() == before


async def test_an_error_of_the_guarded_client_passes(workers: Workers) -> None:
    """An async function's own requests fail with their own reason."""

    async def fetch(_context: object) -> None:
        raise FetchError(Reason.DNS, "no such name", transient=True)

    with pytest.raises(FetchError):
        await workers.call(fetch, None)


async def test_a_cancelled_async_call_is_cancelled(workers: Workers) -> None:
    """The deadline is no failure of the user's code."""
    with anyio.move_on_after(0.01) as scope:
        await workers.call(asyncio.sleep, 60)
    assert scope.cancelled_caught


def test_functions_are_loaded_by_name() -> None:
    """The message says whether the module or the function is missing."""
    assert load_function("tests.user_functions:double") is users.double
    with pytest.raises(UserCodeError, match=r"cannot import no\.such: ModuleNotFoundError"):
        load_function("no.such:function")
    with pytest.raises(UserCodeError, match=r"tests\.user_functions has no function nothing"):
        load_function("tests.user_functions:nothing")


def test_a_module_that_exits_is_not_obeyed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A script that was never meant to be imported ends neither the check nor the daemon."""
    (tmp_path / "exits_at_import.py").write_text("raise SystemExit(0)\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UserCodeError, match="cannot import exits_at_import: SystemExit"):
        load_function("exits_at_import:main")


def test_a_traceback_is_bounded() -> None:
    """An exception may carry a whole body in its message."""
    with pytest.raises(ValueError, match="x") as caught:
        raise ValueError("x" * 100_000)
    assert len(own_traceback(caught.value)) <= LONGEST_TRACEBACK


def test_a_frame_says_what_follows() -> None:
    """Parent and worker read each other's messages."""
    assert worker_main.unframe(worker_main.frame(b"abc", failed=True)) == (True, 3)
    assert len(worker_main.frame(b"")) == worker_main.HEADER
