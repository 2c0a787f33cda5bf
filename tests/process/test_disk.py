"""A disk that is full: fetching goes on, the daemon says so, and recovers by itself."""

from __future__ import annotations

import os
from pathlib import Path

from tests.process.daemon import Daemon
from tests.upstream import UpstreamProcess


def fill(folder: Path) -> Path:
    """Take every byte that is left and return the file that did."""
    ballast = folder / "ballast"
    left = os.statvfs(folder)
    with ballast.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, left.f_bavail * left.f_frsize)
    return ballast


def test_a_full_disk_stops_nothing(tmp_path: Path, small_disk: Path, upstream: UpstreamProcess) -> None:
    """Results reach their sinks all the while; that they cannot be kept is said once, and once when they can."""
    config = f"""
    [jobs.a]
    url = "{upstream.url("ok")}"
    interval = "60ms"
    deadline = "60ms"
    sinks = [{{ kind = "file", path = "{tmp_path}/taken", mode = "append" }}]
    """
    with Daemon(tmp_path, config) as daemon:
        daemon.wait_for("run_finished", 3, outcome="succeeded")
        ballast = fill(small_disk)
        daemon.wait_for("store_failing")
        during = len(daemon.lines("run_finished", outcome="succeeded"))
        daemon.wait_for("run_finished", during + 20, outcome="succeeded")
        assert len(daemon.lines("store_failing")) == 1
        ballast.unlink()
        daemon.wait_for("store_recovered")
        after = len(daemon.lines("run_finished", outcome="succeeded"))
        daemon.wait_for("run_finished", after + 3, outcome="succeeded")
        assert daemon.stop() == 0
        ended = [line["run"] for line in daemon.lines("run_finished", outcome="succeeded")]
    taken = (tmp_path / "taken").read_text()
    assert [run for run in ended if run not in taken] == []
