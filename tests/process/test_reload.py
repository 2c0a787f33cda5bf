"""Another configuration for a daemon that runs: what changed is put in force, the rest goes on as if nothing were."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tests.process.daemon import PATHS, Daemon, fetchd
from tests.upstream import UpstreamProcess

RELOADS = int(os.environ.get("FETCHD_RELOADS", "9"))
"""How often the daemon under load is reloaded; ``make test-reload`` sets more."""
CANARY = "canary-7d1e88"

pytestmark = pytest.mark.timeout(60 + 2 * RELOADS)


def reload(daemon: Daemon) -> subprocess.CompletedProcess[str]:
    """Ask for a reload, and wait for the verdict."""
    return fetchd("reload", "-c", str(daemon.config), folder=daemon.folder)


def until(reached: Callable[[], Any], patience: float = 15.0) -> None:
    """Wait for what the daemon does without a line."""
    end = time.monotonic() + patience
    while not reached():
        assert time.monotonic() < end, "it was not reached"
        time.sleep(0.02)


def job(name: str, url: str, more: str = 'interval = "100ms"') -> str:
    """Return the table of a job."""
    return f'[jobs.{name}]\nurl = "{url}"\n{more}\n'


def slots(daemon: Daemon, name: str) -> list[datetime]:
    """Return the slots of a job that were run."""
    return [datetime.fromisoformat(line["slot"]) for line in daemon.lines("run_finished", job=name)]


def test_a_job_that_was_mended_is_tried_at_its_next_slot(tmp_path: Path, upstream: UpstreamProcess) -> None:
    """It backs off for an hour because of what the configuration said, and what that says now is another thing."""
    backs_off = 'interval = "200ms"\nretries = 0\nbackoff = { after = 1, factor = 10, longest = "1h" }'
    bad = job("same", upstream.url("status/500"), backs_off)
    with Daemon(tmp_path, bad + job("mended", upstream.url("status/404"), backs_off)) as daemon:
        for name in ("same", "mended"):
            daemon.wait_for("slot_skipped", reason="backing_off", job=name)
            daemon.wait_for("run_finished", 2, job=name)  # the next one is twenty seconds away
        before = len(slots(daemon, "same"))
        daemon.write(bad + job("mended", upstream.url("ok"), backs_off))
        assert reload(daemon).returncode == 0
        daemon.wait_for("run_finished", job="mended", outcome="succeeded")
        assert len(slots(daemon, "same")) == before


def test_only_what_changed_is_touched(tmp_path: Path, upstream: UpstreamProcess) -> None:
    """A job comes, one changes, one goes while its Run hangs, and one is the same: that one misses no slot."""
    ok, hang = upstream.url("ok"), upstream.url("hang")
    long = 'interval = "1d"\ndeadline = "50s"\ntimeout = "50s"'
    same = job("same", ok)
    config = same + job("changed", ok, 'interval = "1d"') + job("gone", hang, long)
    with Daemon(tmp_path, config) as daemon:
        daemon.wait_for("run_finished", 2, job="same")
        before = upstream.stats()["requests"].get("hang", 0)
        with subprocess.Popen(
            [sys.executable, "-m", "fetchd", "trigger", "gone", "-c", str(daemon.config)],
            env={**os.environ, "PYTHONPATH": PATHS},
            stdout=subprocess.PIPE,
        ) as asked:
            until(lambda: upstream.stats()["requests"].get("hang", 0) > before)
            daemon.write(same + job("changed", ok) + job("added", ok))
            daemon.signal(signal.SIGHUP)
            (line,) = daemon.wait_for("config_reloaded")
            assert asked.stdout is not None
            said = asked.stdout.read().decode()
        assert (line["why"], line["generation"], line["unchanged"]) == ("signal", 2, 1)
        assert (line["added"], line["changed"], line["removed"]) == (["added"], ["changed"], ["gone"])
        (cancelled,) = daemon.lines("run_finished", job="gone")
        assert (cancelled["outcome"], cancelled["message"]) == ("cancelled", "cancelled while its job was removed")
        assert "gone: cancelled" in said
        for name in ("added", "changed"):
            daemon.wait_for("run_finished", 2, job=name)
        assert daemon.stop() == 0
        ran = slots(daemon, "same")
        rhythm = timedelta(milliseconds=100)
        assert all((later - earlier) % rhythm == timedelta(0) for earlier, later in pairwise(ran))
        # Those that the machine has kept it from are said; a reload makes none of its own.
        said = [line for event in ("slots_missed", "slot_skipped") for line in daemon.lines(event, job="same")]
        assert (ran[-1] - ran[0]) // rhythm + 1 - len(ran) <= sum(line["count"] for line in said)
        assert not daemon.lines("internal_error")


def test_a_bad_configuration_changes_nothing_and_says_why(tmp_path: Path, upstream: UpstreamProcess) -> None:
    """By signal it is in the log, by the verb it is printed as ``check`` prints it; then a good one is taken."""
    good = job("a", upstream.url("ok"))
    with Daemon(tmp_path, good) as daemon:
        daemon.write(job("b", "ftp://nowhere") + "intervall = 3\n")
        done = reload(daemon)
        check = fetchd("check", "-c", str(daemon.config), folder=tmp_path)
        assert (done.returncode, check.returncode) == (78, 78)
        assert (done.stderr, done.stdout) == (check.stderr, "")
        (line,) = daemon.wait_for("config_rejected")
        assert line["findings"] == check.stderr.splitlines()
        daemon.config.write_text("[daemon\n")
        daemon.signal(signal.SIGHUP)
        daemon.wait_for("config_rejected", 2)
        daemon.config.unlink()
        daemon.signal(signal.SIGHUP)
        assert "cannot be read" in daemon.wait_for("config_rejected", 3)[2]["findings"][0]
        ran = len(daemon.lines("run_finished"))
        daemon.wait_for("run_finished", ran + 2, job="a")
        daemon.write(good)
        done = reload(daemon)
        assert (done.returncode, done.stdout) == (0, "configuration 1 is in force: 1 job unchanged\n")
        daemon.write(f'max_workers = 7\n[dns]\nattempts = 3\n[log]\nlevel = "error"\n{good}')
        done = reload(daemon)
        assert (done.returncode, done.stderr) == (0, "")
        assert "needs a restart to count: daemon.max_workers, dns.attempts" in done.stdout
        ran = len(daemon.lines("run_finished"))
        time.sleep(0.3)  # three slots that nobody hears of
        assert len(daemon.lines("run_finished")) == ran
        assert daemon.stop() == 0


def test_a_renamed_job_does_not_overlap_itself(tmp_path: Path, upstream: UpstreamProcess) -> None:
    """The Run under the old name has ended before the new name has its first slot."""
    where = upstream.url("hang")
    long = 'interval = "50ms"\ndeadline = "50ms"\ntimeout = "50ms"'
    with Daemon(tmp_path, job("old", where, long)) as daemon:
        daemon.wait_for("run_finished", 2, job="old")
        for before, after in (("old", "new"), ("new", "old"), ("old", "new")):
            daemon.write(job(after, where, long))
            assert reload(daemon).returncode == 0
            lines = [line for line in daemon.lines() if line["event"] in {"run_finished", "config_reloaded"}]
            at = max(index for index, line in enumerate(lines) if line["event"] == "config_reloaded")
            assert before not in {line.get("job") for line in lines[at:]}
            daemon.wait_for("run_finished", len(daemon.lines("run_finished", job=after)) + 1, job=after)
        assert daemon.stop() == 0


def test_functions_come_with_a_reload(tmp_path: Path, upstream: UpstreamProcess) -> None:
    """Their modules are imported off the loop; one that cannot be is a finding, and nothing changes."""
    plain = f'python_path = ["."]\n{job("a", upstream.url("ok"))}'
    with Daemon(tmp_path, plain) as daemon:
        (tmp_path / "late_sink.py").write_text("import no_such_module\n")
        daemon.write(f'{plain}sinks = [{{ kind = "function", call = "late_sink:take" }}]\n')
        done = reload(daemon)
        assert (done.returncode, "no_such_module" in done.stderr) == (78, True)
        (tmp_path / "late_sink.py").write_text(
            "import time\ntime.sleep(0.5)\n\n"
            f"async def take(result):\n    open({str(tmp_path / 'taken')!r}, 'a').close()\n"
        )
        before = len(slots(daemon, "a"))
        assert reload(daemon).returncode == 0
        assert len(slots(daemon, "a")) >= before + 3, "the loop stood while a module was imported"
        until((tmp_path / "taken").exists)
        assert daemon.stop() == 0
        assert not daemon.lines("loop_stalled")


def test_secrets_are_taken_anew_from_their_files(tmp_path: Path, upstream: UpstreamProcess) -> None:
    """Without a look at the configuration; one that is gone for a moment keeps its value; no log shows old or new."""
    token = tmp_path / "token"
    token.write_text(f"{CANARY}-one\n")
    config = f"""
    [jobs.a]
    url = "{upstream.url("echo")}"
    interval = "200ms"
    headers = {{ X-Api-Key = {{ file = "token" }} }}
    sinks = [
      {{ kind = "file", path = "sent" }},
      {{ kind = "command", argv = ["cat"] }},
    ]
    """
    with Daemon(tmp_path, config) as daemon:
        sent = daemon.state / "out" / "sent"
        until(lambda: sent.exists() and f"{CANARY}-one" in sent.read_text())
        daemon.config.write_text("this is not TOML")
        daemon.signal(signal.SIGHUP)
        daemon.wait_for("config_rejected")
        token.unlink()
        (line,) = daemon.wait_for("secret_missing")
        assert line["secret"] == "file token"
        new = tmp_path / "new"
        new.write_text(f"{CANARY}-two\n")
        new.replace(token)
        (line,) = daemon.wait_for("secrets_rotated")
        assert (line["changed"], line["generation"]) == (["a"], 2)
        until(lambda: f"{CANARY}-two" in sent.read_text())
        daemon.wait_for("command_output", 2)
        done = fetchd("status", "--json", "--state-dir", "state", folder=tmp_path)
        status = json.loads(done.stdout)
        assert status["generation"] == 2
        assert "fetchd.toml:1" in status["config_error"], "the file is as bad as it was"
        assert daemon.stop() == 0
        assert len(daemon.lines("secret_missing")) == 1
        assert "[redacted]" in "".join(daemon.raw)
        assert CANARY not in "".join(daemon.raw)


def test_a_file_that_changes_is_read_again(tmp_path: Path, upstream: UpstreamProcess) -> None:
    """As Kubernetes changes it, by a link to a folder that is set anew; and once only if it is bad, or gone."""
    for version, text in (("one", job("a", upstream.url("ok"))), ("two", job("b", upstream.url("ok"))), ("bad", "[")):
        (tmp_path / version).mkdir()
        (tmp_path / version / "fetchd.toml").write_text(
            f'[daemon]\nlisten = ""\nstate_dir = "{tmp_path}/state"\nreload_on_change = true\n{text}'
        )
    (tmp_path / "..data").symlink_to("one")
    daemon = Daemon(tmp_path, "")
    daemon.config.unlink()
    daemon.config.symlink_to("..data/fetchd.toml")

    def swap(version: str) -> None:
        (tmp_path / "..next").symlink_to(version)
        (tmp_path / "..next").replace(tmp_path / "..data")

    with daemon:
        swap("two")
        (line,) = daemon.wait_for("config_reloaded")
        assert (line["why"], line["added"], line["removed"]) == ("file", ["b"], ["a"])
        swap("bad")
        daemon.wait_for("config_rejected")
        swap("two")
        daemon.wait_for("config_reloaded", 2)
        (tmp_path / "..data").unlink()
        (line,) = daemon.wait_for("config_rejected", 2)[1:]
        assert "cannot be read" in line["findings"][0]
        (tmp_path / "..data").symlink_to("two")
        daemon.wait_for("config_reloaded", 3)
        assert len(daemon.lines("config_rejected")) == 2
        assert daemon.stop() == 0


def test_a_signal_during_the_start_is_not_lost(tmp_path: Path, upstream: UpstreamProcess) -> None:
    """Whoever writes the file and sends SIGHUP cannot know that the daemon has read it a moment before."""
    daemon = Daemon(tmp_path, job("a", upstream.url("ok")))
    daemon.start()
    with daemon_left(daemon):
        until(lambda: hears_hangups(daemon))
        daemon.signal(signal.SIGHUP)
        daemon.wait_for("config_reloaded")
        events = [line["event"] for line in daemon.lines()]
        assert events.index("daemon_ready") < events.index("config_reloaded")
        assert daemon.stop() == 0


def hears_hangups(daemon: Daemon) -> bool:
    """Return whether the process has a handler for SIGHUP (proc(5), SigCgt)."""
    caught = re.search(r"SigCgt:\s*(\w+)", Path(f"/proc/{daemon.pid}/status").read_text())
    assert caught is not None
    return bool(int(caught[1], 16) & 1 << (signal.SIGHUP - 1))


def daemon_left(daemon: Daemon) -> Any:
    """Return a context at whose end a daemon that was started by hand is gone."""
    from contextlib import ExitStack

    stack = ExitStack()
    stack.push(daemon.__exit__)
    return stack


def test_the_service_manager_is_told_of_reloads(tmp_path: Path) -> None:
    """RELOADING with the time, then READY, whatever comes of it: without that, systemctl reload waits."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(10)
        environment = {"NOTIFY_SOCKET": str(tmp_path / "notify")}
        with Daemon(tmp_path, job("a", "http://127.0.0.1:1/", ""), environment=environment) as daemon:
            assert manager.recv(4096).startswith(b"READY=1")
            for text in (job("b", "http://127.0.0.1:1/", ""), "bad"):
                daemon.write(text)
                daemon.signal(signal.SIGHUP)
                assert re.fullmatch(rb"RELOADING=1\nMONOTONIC_USEC=\d+", manager.recv(4096))
                assert manager.recv(4096).startswith(b"READY=1")
            assert daemon.stop() == 0


WATCHED = """
import asyncio, os

ALIVE = set()
HERE = os.path.dirname(__file__)


async def turn(context):
    base = context.job.split("-")[0]
    if base in ALIVE:
        open(os.path.join(HERE, "overlapped"), "a").write(context.job)
    ALIVE.add(base)
    try:
        await asyncio.sleep(0.02)
    finally:
        ALIVE.discard(base)
    return str(context.slot)
"""


def versions(upstream: UpstreamProcess) -> Iterator[tuple[bool, str]]:
    """Yield configurations for ever, every third one invalid: four jobs that stay, two that change, two renamed."""
    stay = "".join(job(f"stay{number}", upstream.url("ok"), 'interval = "200ms"') for number in range(4))
    number = 0
    while True:
        number += 1
        change = "".join(job(f"change{other}", upstream.url(f"ok?{number}"), 'interval = "100ms"') for other in "ab")
        named = "".join(f'[jobs.moved{n}-{number}]\ncollect = "watched:turn"\ninterval = "50ms"\n' for n in "xy")
        bad = "" if number % 3 else f'[jobs.bad{number}]\nurl = "nowhere"\n'
        yield not bad, f'python_path = ["."]\n[defaults]\nretries = 0\n{stay}{change}{named}{bad}'


def test_reloads_under_load(tmp_path: Path, upstream: UpstreamProcess) -> None:
    """However many: no slot of a job that stays is lost, none overlaps itself, and invalid ones change nothing."""
    (tmp_path / "watched.py").write_text(WATCHED)
    configurations = versions(upstream)
    with Daemon(tmp_path, next(configurations)[1]) as daemon:
        applied = refused = 0
        memory: list[int] = []
        for _ in range(RELOADS):
            valid, text = next(configurations)
            daemon.write(text)
            done = reload(daemon)
            assert done.returncode == (0 if valid else 78), done.stderr
            applied, refused = applied + valid, refused + (not valid)
            memory.append(daemon.status("VmRSS"))
        status = json.loads(fetchd("status", "--json", "-c", str(daemon.config), folder=tmp_path).stdout)
        assert daemon.stop() == 0
        # Now that nothing is added to it any more.
        history: dict[str, str] = {}
        for name in (f"stay{number}" for number in range(4)):
            done = fetchd("history", name, "-c", str(daemon.config), "-n", "1", folder=tmp_path)
            assert done.returncode == 0, done.stderr
            history[name] = done.stdout
        assert status["generation"] == 1 + applied
        assert (len(daemon.lines("config_reloaded")), len(daemon.lines("config_rejected"))) == (applied, refused)
        assert not daemon.lines("runs_left_behind")
        assert not (tmp_path / "overlapped").exists()
        assert not daemon.lines("internal_error")
        assert not daemon.lines("clock_stepped"), "slots that a clock leaps over are not counted"
        for name, told in history.items():
            ran = slots(daemon, name)
            skipped = sum(map(int, re.findall(r"(\d+) x ", told.partition("skipped: ")[2])))
            missed = sum(line["count"] for line in daemon.lines("slots_missed", job=name))
            between = (ran[-1] - ran[0]) // timedelta(milliseconds=200) + 1
            assert between - len(set(ran)) <= skipped + missed
            assert len(ran) == len(set(ran))
        if RELOADS >= 100:
            assert memory[-1] - memory[RELOADS // 4] < 4096, memory[:: RELOADS // 20]
