"""Jobs in code and functions as sinks: the user's own code cannot hold the daemon, whatever it does."""

from __future__ import annotations

import json
import time
from pathlib import Path

from tests.process.daemon import Daemon, fetchd
from tests.upstream import UpstreamProcess

CODE = """
import asyncio
import json
import os
import time
import urllib.request
from pathlib import Path

import httpx

HERE = Path(__file__).parent


async def two_requests(context):
    first = (await context.client.get(BASE + "ok")).json()
    second = await context.client.get(BASE + "echo?seen=" + str(first["count"]))
    return {"job": context.job, "slot": context.slot.isoformat(), "path": second.json()["path"]}


async def unbounded(context):
    await context.client.get(BASE + "bomb/gzip/100")


async def hung_client(context):
    try:
        await context.client.get(BASE + "hang")
    except httpx.ReadTimeout:
        return "the timeout came"


async def stubborn(context):
    while True:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            pass


def sync(context):
    return urllib.request.urlopen(BASE + "ok").read()


def sync_hung(context):
    (HERE / "worker.pid").write_text(str(os.getpid()))
    return urllib.request.urlopen(BASE + "hang").read()


def nothing(context):
    return None


def broken(context):
    password = "hunter2-in-a-local"
    raise ValueError("no such rate")


async def blocking(context):
    time.sleep(60)


async def save(result):
    (HERE / "saved").write_text(json.dumps([result.job, result.delivery, result.json()]))


def save_sync(result):
    (HERE / "saved_sync").write_text(json.dumps([result.job, os.getpid(), result.text()]))
"""


def config_of(folder: Path, upstream: UpstreamProcess, jobs: dict[str, str], more: str = "") -> str:
    """Write the user's module and return a configuration with a ``collect`` job for each name."""
    folder.mkdir(exist_ok=True)
    (folder / "shop.py").write_text(f"BASE = {upstream.url('')!r}\n{CODE}")
    tables = "\n".join(f'[jobs.{name}]\ncollect = "shop:{name}"\n{keys}' for name, keys in jobs.items())
    return f"""
    python_path = ["."]
    {more}
    [defaults]
    interval = "900ms"
    deadline = "800ms"
    timeout = "400ms"
    max_body = "1MiB"
    {tables}
    """


def test_collect_functions_of_every_temper(tmp_path: Path, upstream: UpstreamProcess) -> None:
    """Good ones deliver, hung ones are ended with their process, broken ones are told apart, and all go on."""
    both = 'sinks = [{ kind = "function", call = "shop:save" }, { kind = "function", call = "shop:save_sync" }]'
    jobs = {
        "two_requests": both,
        "unbounded": "",
        "hung_client": "",
        "stubborn": "",
        "sync": 'deadline = "899ms"',
        "sync_hung": "",
        "nothing": "",
        "broken": "",
    }
    expected = {
        "unbounded": ("fetch_failed", "too_large"),
        "hung_client": ("succeeded", None),
        "stubborn": ("deadline_exceeded", "stuck"),
        "sync": ("succeeded", None),
        "sync_hung": ("deadline_exceeded", "collect"),
        "nothing": ("unchanged", None),
        "broken": ("fetch_failed", "collect"),
        "two_requests": ("succeeded", None),
    }
    with Daemon(tmp_path, config_of(tmp_path, upstream, jobs)) as daemon:
        for name, (outcome, reason) in expected.items():
            daemon.wait_for("run_finished", job=name, outcome=outcome, reason=reason)
        daemon.wait_for("slot_skipped", job="stubborn", reason="stuck")
        daemon.wait_for("run_finished", 2, job="two_requests", outcome="succeeded")
        worker = int((tmp_path / "worker.pid").read_text())
        daemon.wait_until(lambda: not Path(f"/proc/{worker}").exists() or "sync_hung" in daemon.raw[-1])
        began = time.monotonic()
        assert daemon.stop() == 0
        assert time.monotonic() - began < 5
        broken = daemon.lines("run_finished", job="broken")[0]["message"]
    assert "no such rate" in broken
    assert "shop.py" in broken
    assert "hunter2-in-a-local" not in "".join(daemon.raw)
    job, delivery, result = json.loads((tmp_path / "saved").read_text())
    assert (job, delivery.endswith("-function"), result["path"]) == ("two_requests", True, "/echo")
    assert json.loads((tmp_path / "saved_sync").read_text())[1] != daemon.pid


def test_a_blocked_loop_is_seen_and_replaced(tmp_path: Path, upstream: UpstreamProcess) -> None:
    """Async code that blocks stops every deadline: the log says where, the process ends, the next one says why."""
    config = config_of(tmp_path, upstream, {"blocking": ""}, more='stall_timeout = "2s"')
    with Daemon(tmp_path, config) as daemon:
        began = daemon.wait_for("loop_stalled", state="began")[0]
        assert daemon.wait() == 1
    assert "in blocking" in began["stack"]
    with Daemon(tmp_path, config_of(tmp_path, upstream, {"nothing": ""})) as daemon:
        replaced = daemon.lines("loop_stalled", state="replaced")[0]
        assert "in blocking" in replaced["stack"]
        assert daemon.stop() == 0


def test_a_function_that_is_not_there_is_a_finding(tmp_path: Path, upstream: UpstreamProcess) -> None:
    """A misspelt function shows when the configuration is checked, not at the first slot."""
    config = config_of(tmp_path, upstream, {"nothing": ""}).replace("shop:nothing", "shop:nothin")
    daemon = Daemon(tmp_path, config)
    checked = fetchd("check", "-c", str(daemon.config), folder=tmp_path)
    assert checked.returncode == 78
    assert "nothin" in checked.stderr
