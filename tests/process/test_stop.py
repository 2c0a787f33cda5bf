"""How the daemon stops: in order, within its grace, whatever is under way."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path

import pytest

from tests.process.daemon import Daemon, fetchd
from tests.process.test_control import ask, asking, until
from tests.upstream import UpstreamProcess


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_runs_under_way_may_end(tmp_path: Path, upstream: UpstreamProcess, number: signal.Signals) -> None:
    """What can end within the grace ends well; the exit status is 0, and the words come in order."""
    config = f"""
    [jobs.slow]
    url = "{upstream.url("lat/0.6")}"
    interval = "1s"
    deadline = "900ms"
    sinks = [{{ kind = "file", path = "slow" }}]
    """
    with Daemon(tmp_path, config) as daemon:
        before = upstream.stats()["requests"].get("lat", 0)
        while upstream.stats()["requests"].get("lat", 0) == before:
            time.sleep(0.01)
        daemon.signal(number)
        assert daemon.wait() == 0
        events = [line["event"] for line in daemon.lines()]
        assert (events[:2], events[-1]) == (["daemon_started", "daemon_ready"], "daemon_stopped")
        assert "run_finished" in events[events.index("daemon_stopping") :]
        assert {line["outcome"] for line in daemon.lines("run_finished")} == {"succeeded"}
        assert (daemon.state / "out" / "slow").exists()


def test_what_does_not_end_within_the_grace_is_cancelled(tmp_path: Path, upstream: UpstreamProcess) -> None:
    """A hung upstream delays a stop by the grace and no more; the Run says that it was cancelled."""
    config = f"""
    shutdown_grace = "300ms"
    [defaults]
    interval = "1m"
    timeout = "30s"
    [jobs.hung]
    url = "{upstream.url("hang")}"
    cron = "* * * * * *"
    timeout = "900ms"
    deadline = "900ms"
    """
    with Daemon(tmp_path, config) as daemon:
        before = upstream.stats()["requests"].get("hang", 0)
        while upstream.stats()["requests"].get("hang", 0) == before:
            time.sleep(0.01)
        began = time.monotonic()
        assert daemon.stop() == 0
        assert time.monotonic() - began < 1.5
        last = daemon.lines("run_finished")[-1]
        assert (last["outcome"], last["reason"]) == ("cancelled", "shutdown")


def phase_of(daemon: Daemon, job: str) -> str | None:
    """Return what the Run of ``job`` is at."""
    rows = json.loads(ask(daemon, "status", "--json")[1])["jobs"]
    (running,) = (row["running"] for row in rows if row["job"] == job)
    return running["phase"] if running else None


def test_a_stop_does_not_wait_for_those_that_wait(tmp_path: Path, upstream: UpstreamProcess) -> None:
    """A Run that sleeps for its host, and one that waits for its turn there, end at once; what is sent may arrive."""
    redirect = upstream.url(f"loc/{upstream.url('ok', host='localhost')}")
    config = f"""
    shutdown_grace = "2s"
    [hosts.localhost]
    max_concurrent = 1
    [defaults]
    interval = "1d"
    deadline = "1m"
    timeout = "30s"
    [jobs.under-way]
    url = "{upstream.url("hang", host="localhost")}"
    [jobs.waits]
    url = "{redirect}"
    [jobs.sleeps]
    url = "{upstream.url("retryafter/40")}"
    """
    with Daemon(tmp_path, config) as daemon, ExitStack() as asked:
        for job, phase in (("under-way", "headers"), ("waits", "pool"), ("sleeps", "backoff")):
            asked.enter_context(asking(daemon, "trigger", job))
            until(lambda job=job, phase=phase: phase_of(daemon, job) == phase)  # type: ignore[misc]
        assert daemon.stop() == 0
    ended = {line["job"]: line for line in daemon.lines("run_finished")}
    assert {(line["outcome"], line["reason"]) for line in ended.values()} == {("cancelled", "shutdown")}
    at = {job: datetime.fromisoformat(line["ts"]) for job, line in ended.items()}
    assert (at["under-way"] - max(at["waits"], at["sleeps"])).total_seconds() > 1.5


def test_a_second_signal_leaves_at_once(tmp_path: Path, upstream: UpstreamProcess) -> None:
    """An admin who asks twice does not want to wait for the grace."""
    config = f"""
    shutdown_grace = "1m"
    [jobs.hung]
    url = "{upstream.url("hang")}"
    cron = "* * * * * *"
    timeout = "900ms"
    deadline = "900ms"
    retries = 10
    """
    with Daemon(tmp_path, config) as daemon:
        before = upstream.stats()["requests"].get("hang", 0)
        while upstream.stats()["requests"].get("hang", 0) == before:
            time.sleep(0.01)
        daemon.signal()
        daemon.wait_for("daemon_stopping")
        daemon.signal()
        assert daemon.wait(2.0) == 128 + signal.SIGTERM


def test_hung_names_do_not_hold_the_process(tmp_path: Path, upstream: UpstreamProcess) -> None:
    """Twenty names that no server answers, and the process is gone within its grace: no thread hangs in a look-up."""
    jobs = "\n".join(
        f'[jobs.hung-{number}]\nurl = "http://n{number}.hung.test/"\ninterval = "1s"' for number in range(20)
    )
    config = f"""
    shutdown_grace = "500ms"
    [dns]
    nameservers = ["127.0.0.1:{upstream.ports["dns"]}"]
    timeout = "30s"
    [defaults]
    timeout = "1s"
    deadline = "1s"
    {jobs}
    """
    with Daemon(tmp_path, config) as daemon:
        daemon.wait_for("run_finished", 20, reason="dns")
        began = time.monotonic()
        assert daemon.stop() == 0
        assert time.monotonic() - began < 2.5


def test_a_command_that_will_not_end_is_killed(tmp_path: Path, upstream: UpstreamProcess) -> None:
    """Nothing that the daemon started outlives it, grandchildren included."""
    config = f"""
    shutdown_grace = "200ms"
    [jobs.a]
    url = "{upstream.url("ok")}"
    cron = "* * * * * *"
    deadline = "900ms"
    sinks = [{{ kind = "command", argv = ["sh", "-c", "sleep 600 & echo $$ $! > {tmp_path}/pids; wait"] }}]
    """
    with Daemon(tmp_path, config) as daemon:
        daemon.wait_for("run_finished", outcome="deadline_exceeded", reason="sink")
        assert daemon.stop() == 0
        for pid in (tmp_path / "pids").read_text().split():
            assert not Path(f"/proc/{pid}/cmdline").exists() or not Path(f"/proc/{pid}/cmdline").read_bytes()


def test_one_instance_holds_a_state_directory(tmp_path: Path, upstream: UpstreamProcess) -> None:
    """The second one is refused with 75 and told whom to stop; after a kill -9 the state is free again."""
    config = f'[jobs.a]\nurl = "{upstream.url("ok")}"\n'
    with Daemon(tmp_path, config) as daemon:
        second = fetchd("run", "-c", str(daemon.config), folder=tmp_path)
        assert second.returncode == 75
        assert str(daemon.pid) in second.stderr
        once = fetchd("once", "a", "-c", str(daemon.config), folder=tmp_path)
        assert once.returncode == 75
        assert "`fetchd trigger a` has it do this" in once.stderr
        assert fetchd("once", "a", "--dry-run", "-c", str(daemon.config), folder=tmp_path).returncode == 0
        daemon.signal(signal.SIGKILL)
        assert daemon.wait() == -signal.SIGKILL
    with Daemon(tmp_path, config) as daemon:
        assert daemon.stop() == 0


def test_a_reader_that_stalls_does_not_stall_the_daemon(tmp_path: Path, upstream: UpstreamProcess) -> None:
    """Nobody reads the pipe that stderr is: jobs go on, and the stop is in order."""
    config = f"""
    state_dir = "state"
    listen = ""
    [jobs.a]
    url = "{upstream.url("ok")}"
    interval = "10ms"
    sinks = [{{ kind = "file", path = "a", mode = "append" }}]
    """
    (tmp_path / "c.toml").write_text(f"[daemon]\n{config}")
    read, write = os.pipe()
    fcntl.fcntl(write, fcntl.F_SETPIPE_SZ, 4096)  # room for some 16 lines; the daemon has to come far past that
    try:
        process = subprocess.Popen(
            [sys.executable, "-m", "fetchd", "run", "-c", "c.toml"], cwd=tmp_path, stderr=write, env={**os.environ}
        )
        out, end = tmp_path / "state/out/a", time.monotonic() + 20
        while not out.exists() or out.read_bytes().count(b"\n") < 80:
            assert time.monotonic() < end
            assert process.poll() is None
            time.sleep(0.05)
        process.terminate()
        assert process.wait(10) == 0
    finally:
        os.close(read)
        os.close(write)
