"""The verbs that speak with the running daemon, as their users type them."""

from __future__ import annotations

import json
import os
import pty
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.process.daemon import PATHS, Daemon, fetchd
from tests.upstream import UpstreamProcess

CANARY = "canary-93cc10"


def until(reached: Callable[[], Any], patience: float = 15.0) -> None:
    """Wait for what the daemon does without a line."""
    end = time.monotonic() + patience
    while not reached():
        assert time.monotonic() < end, "it was not reached"
        time.sleep(0.02)


def ask(daemon: Daemon, *arguments: str) -> tuple[int, str, str]:
    """Run a verb and return its exit status and what it said."""
    done = fetchd(*arguments, "-c", str(daemon.config), folder=daemon.folder)
    return done.returncode, done.stdout, done.stderr


@contextmanager
def asking(daemon: Daemon, *arguments: str, stderr: int = subprocess.PIPE) -> Iterator[subprocess.Popen[bytes]]:
    """Run a verb beside the test; if at a terminal, then at one that can draw, whatever the tests themselves run at."""
    command = [sys.executable, "-m", "fetchd", *arguments, "-c", str(daemon.config)]
    environment = {**os.environ, "PYTHONPATH": PATHS, "TERM": "xterm"}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=stderr) as process:
        yield process


def job(name: str, url: str, more: str = 'interval = "1d"') -> str:
    """Return the table of a job."""
    return f'[jobs.{name}]\nurl = "{url}"\n{more}\n'


LONG = 'interval = "1d"\ndeadline = "50s"\ntimeout = "50s"\nretries = 0'


def test_a_job_is_run_by_hand(tmp_path: Path, upstream: UpstreamProcess) -> None:
    """Beside its schedule, with its deliveries, and the exit status says how it ended, as that of ``once`` does."""
    sinks = 'interval = "1d"\nsinks = [{ kind = "file", path = "good" }]'
    config = job("good", upstream.url("ok"), sinks) + job("bad", upstream.url("status/404"))
    with Daemon(tmp_path, config) as daemon:
        code, out, err = ask(daemon, "trigger", "good")
        assert (code, out.splitlines()[0], err) == (0, "good: succeeded", "")
        assert (daemon.state / "out" / "good").exists()
        code, out, _ = ask(daemon, "trigger", "bad")
        assert (code, out.splitlines()[0]) == (1, "bad: fetch_failed (http_4xx) - the server answered 404")
        code, out, err = ask(daemon, "trigger", "goood")
        assert (code, out, 'did you mean "good"?' in err) == (78, "", True)
        daemon.wait_for("run_finished", 2)
        assert daemon.stop() == 0
    code, _, err = ask(daemon, "trigger", "good")
    assert (code, err) == (
        69,
        f"no fetchd runs with the state directory {daemon.state}; name another one's by --state-dir\n",
    )


def test_a_trigger_has_what_is_owed_tried(tmp_path: Path, upstream: UpstreamProcess) -> None:
    """Whoever has mended a sink wants to see it work, and not wait for the end of its backoff."""
    config = job("a", upstream.url("ok"), 'interval = "1d"\nsinks = [{ kind = "file", path = "folder/a" }]')
    daemon = Daemon(tmp_path, config)
    blocked = daemon.state / "out" / "folder"
    blocked.parent.mkdir(parents=True)
    blocked.touch()
    assert ask(daemon, "once", "a")[0] == 1
    with closing(sqlite3.connect(daemon.state / "state.db")) as connection, connection:
        assert connection.execute("UPDATE deliveries SET next_try = '2999-01-01T00:00:00+00:00'").rowcount == 1
    with daemon:
        daemon.wait_for("daemon_ready")
        blocked.unlink()
        ask(daemon, "trigger", "a")
        until(lambda: json.loads(ask(daemon, "status", "--json")[1])["jobs"][0]["owed"] == 0)
        assert (blocked / "a").exists()
        assert daemon.stop() == 0


def test_a_run_under_way_is_waited_for(tmp_path: Path, upstream: UpstreamProcess) -> None:
    """There is one Run of a job at any time; Ctrl-C leaves it to itself, and ``--no-wait`` refuses."""
    config = job("slow", upstream.url("lat/2"), LONG)
    with Daemon(tmp_path, config) as daemon:
        before = upstream.stats()["requests"].get("lat", 0)
        with asking(daemon, "trigger", "slow") as first:
            until(lambda: upstream.stats()["requests"].get("lat", 0) > before)
            code, _, err = ask(daemon, "trigger", "slow", "--no-wait")
            assert (code, err) == (1, "slow: a run of it is under way\n")
            first.send_signal(signal.SIGINT)
            assert first.wait() == 128 + signal.SIGINT
        code, out, err = ask(daemon, "trigger", "slow")
        assert (code, out.splitlines()[0]) == (0, "slow: succeeded")
        assert err == "slow: a run of it is under way; the next one begins when that has ended\n"
        runs = daemon.wait_for("run_finished", 2, job="slow")
        assert [line["outcome"] for line in runs] == ["succeeded", "succeeded"]
        assert not daemon.lines("slot_skipped")
        assert daemon.stop() == 0


def test_a_terminal_sees_how_far_a_run_has_come(tmp_path: Path, upstream: UpstreamProcess) -> None:
    """Phase, attempts and bytes, on one line that goes away; a pipe gets none of it, as above."""
    with Daemon(tmp_path, job("slow", upstream.url("lat/1.2"), LONG)) as daemon:
        ours, theirs = pty.openpty()
        try:
            with asking(daemon, "trigger", "slow", stderr=theirs) as process:
                assert process.wait(15) == 0
            os.set_blocking(ours, False)
            drawn = os.read(ours, 4096).decode()
        finally:
            os.close(ours)
            os.close(theirs)
        assert "headers, attempt 1, 0 bytes" in drawn
        assert "\x1b[2K" in drawn.rpartition("attempt 1")[2]
        assert daemon.stop() == 0


def test_a_watcher_waits_for_a_daemon_that_restarts(tmp_path: Path, upstream: UpstreamProcess) -> None:
    """Whoever watches an upgrade is not thrown out by it; Ctrl-C ends it, with the status of what was seen last."""
    config = job("good", upstream.url("ok"))
    ours, theirs = pty.openpty()
    os.set_blocking(ours, False)
    seen = ""

    def shows(words: str) -> bool:
        nonlocal seen
        try:
            seen += os.read(ours, 65536).decode("utf-8", "replace")
        except BlockingIOError:
            """There is nothing new."""
        return words in seen

    try:
        with Daemon(tmp_path, config) as daemon:
            command = [sys.executable, "-m", "fetchd", "status", "--watch", "-c", str(daemon.config)]
            environment = {**os.environ, "PYTHONPATH": PATHS, "COLUMNS": "200", "LINES": "20", "TERM": "xterm"}
            with subprocess.Popen(command, env=environment, stdout=theirs, stderr=theirs) as watching:
                until(lambda: shows("it does its work"))
                assert daemon.stop() == 0
                until(lambda: shows("it is asked again and again"))
                assert "no fetchd runs" in seen
                seen = ""
                with Daemon(tmp_path, config) as again:
                    until(lambda: shows("it does its work"))
                    watching.send_signal(signal.SIGINT)
                    # As a terminal does, read on: whoever writes to one that is full waits.
                    until(lambda: shows("nothing more") or watching.poll() is not None)
                    assert watching.returncode == 0
                    assert again.stop() == 0
    finally:
        os.close(ours)
        os.close(theirs)


def test_a_pause_outlives_the_daemon(tmp_path: Path, upstream: UpstreamProcess) -> None:
    """Slots of a paused job are counted and not run, after a kill too; by hand it is run all the same."""
    often = 'interval = "100ms"'
    config = "".join(job(name, upstream.url("ok"), often) for name in ("a", "b", "c"))
    with Daemon(tmp_path, config) as daemon:
        daemon.wait_for("run_finished", job="b")
        assert ask(daemon, "pause", "a", "b") == (0, "a: paused\nb: paused\n", "")
        assert ask(daemon, "pause", "b") == (0, "b: was paused already\n", "")
        code, _, err = ask(daemon, "pause", "c", "nobody")
        assert (code, "nobody" in err) == (78, True)
        assert ask(daemon, "pause")[0] == 2
        daemon.wait_for("slot_skipped", reason="paused", job="a")
        daemon.signal(signal.SIGKILL)
        daemon.wait()
    with Daemon(tmp_path, config) as daemon:
        daemon.wait_for("slot_skipped", reason="paused", job="a")
        daemon.wait_for("run_finished", 3, job="c")
        assert not daemon.lines("run_finished", job="a")
        assert ask(daemon, "trigger", "a")[0] == 0
        shown = {row["job"]: row["state"] for row in json.loads(ask(daemon, "status", "--json")[1])["jobs"]}
        assert (shown["a"], shown["b"], shown["c"]) == ("paused", "paused", "well")
        code, out, _ = ask(daemon, "resume", "--all")
        assert (code, out.splitlines()[:2]) == (0, ["a: resumed", "b: resumed"])
        daemon.wait_for("run_finished", job="b")
        assert daemon.stop() == 0


def test_the_status_is_a_health_check(tmp_path: Path, upstream: UpstreamProcess) -> None:
    """0 while the daemon does its work, 1 when it does not, 69 where there is none; whatever is in the file by now."""
    config = f'shutdown_grace = "6s"\n{job("a", upstream.url("ok"), "")}{job("slow", upstream.url("hang"), LONG)}'
    with Daemon(tmp_path, config) as daemon:
        code, out, err = ask(daemon, "status")
        assert (code, err, "it does its work" in out) == (0, "", True)
        assert [line.split()[0] for line in out.splitlines()[4:]] == ["JOB", "a", "slow"]
        daemon.config.write_text('[daemon]\nstate_dir = "state"\n[jobs.a\n')
        assert ask(daemon, "status", "-q") == (0, "", "")
        done = fetchd("status", "-q", "--state-dir", "state", folder=tmp_path)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        with asking(daemon, "trigger", "slow"):
            until(lambda: any(row["running"] for row in json.loads(ask(daemon, "status", "--json")[1])["jobs"]))
            daemon.signal()
            daemon.wait_for("daemon_stopping")
            assert ask(daemon, "status", "-q") == (1, "", "the daemon is stopping\n")
            assert ask(daemon, "trigger", "a") == (75, "", "the daemon is stopping\n")
            assert ask(daemon, "pause", "a")[0] == 75
            assert ask(daemon, "reload") == (75, "", "the daemon is stopping\n")
            assert daemon.wait() == 0
        assert ask(daemon, "status", "-q")[0] == 69
        assert not (daemon.state / "control.sock").exists()


def test_what_is_owed_to_a_removed_job_is_listed(tmp_path: Path, upstream: UpstreamProcess) -> None:
    """It is not lost by a reload: when the job is back, it is delivered."""
    ok = upstream.url("ok")
    fails = f'sinks = [{{ kind = "command", argv = ["test", "-e", "{tmp_path}/go"] }}]'
    keep = job("keep", ok)
    with Daemon(tmp_path, keep + job("gone", ok, f'interval = "1d"\n{fails}')) as daemon:
        assert ask(daemon, "trigger", "gone")[0] == 1
        gone = daemon.config.read_text()
        daemon.write(keep)
        assert ask(daemon, "reload")[0] == 0
        code, out, _ = ask(daemon, "status")
        assert (code, out.splitlines()[-1]) == (0, "owed to a sink that the configuration has no more: gone command, 1")
        (tmp_path / "go").touch()
        daemon.config.write_text(gone)
        assert ask(daemon, "reload")[0] == 0
        daemon.wait_for("delivery_recovered", job="gone")
        assert daemon.stop() == 0


@pytest.mark.parametrize("verb", ["status", "trigger"])
def test_no_answer_holds_a_secret(tmp_path: Path, upstream: UpstreamProcess, verb: str) -> None:
    """Neither the path of an address that is one, nor what a sink quotes."""
    config = """
    [jobs.a]
    url = { env = "HOOKURL" }
    interval = "1d"
    sinks = [{ kind = "command", argv = ["sh", "-c", "printf '\\\\033[2J%s' $FETCHD_URL >&2; exit 3"] }]
    """
    environment = {"HOOKURL": upstream.url(f"ok/{CANARY}")}
    with Daemon(tmp_path, config, environment=environment) as daemon:
        told = ask(daemon, "trigger", "a")
        if verb == "status":
            told = ask(daemon, "status")
            assert CANARY not in ask(daemon, "status", "--json")[1]
        shown = "".join(map(str, told))
        assert ("delivery_failed" in shown, CANARY in shown, "\x1b" in shown) == (True, False, False)
        assert daemon.stop() == 0
