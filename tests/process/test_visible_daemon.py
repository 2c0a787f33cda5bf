"""Never silent: what is wrong with the daemon, or below it, is seen in the log, the metrics, the page and a message."""

from __future__ import annotations

import json
import signal
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Final

import pytest

from fetchd.alerts.memory import ALIVE
from fetchd.store.schema import NAME
from tests.process.daemon import fetchd
from tests.process.outside import HANG, WITHIN, Outside, Reply, Watched, until, watched
from tests.process.test_control import ask
from tests.process.test_disk import fill

pytestmark = pytest.mark.timeout(60)

LIBRARIES: Final = Path("/usr/lib")
CODE: Final = """
import time
from pathlib import Path


async def blocking(context):
    for name, seconds in (("short", 1.9), ("long", 60)):
        order = Path(__file__).with_name(name)
        if order.exists():
            order.unlink()
            time.sleep(seconds)
"""


@pytest.fixture
def outside() -> Iterator[Outside]:
    """Give all that the daemon speaks with."""
    with Outside() as server, server.opened():
        yield server


def test_a_full_disk(tmp_path: Path, small_disk: Path, outside: Outside) -> None:
    """Also of the results that no sink took meanwhile: they are lost, and that is told like all that is given up."""
    jobs = f"""
    [jobs.kept]
    url = "{outside.url}/well"
    sinks = [{{ kind = "webhook", url = "{outside.url}/taken" }}]
    [jobs.lost]
    url = "{outside.url}/well"
    sinks = [{{ kind = "webhook", url = "{outside.url}/hook" }}]
    """
    with watched(tmp_path, outside, jobs) as seen:
        seen.daemon.wait_for("run_finished", 2, job="kept", outcome="succeeded")
        seen.daemon.wait_for("run_finished", 2, job="lost", outcome="succeeded")
        ballast = fill(small_disk)
        seen.daemon.wait_for("store_failing")
        seen.measures("fetchd_store_writable", lambda value: value == 0)
        seen.shows("/", "Warning:", "the store cannot be written")
        seen.answers("/readyz", 200, "the store cannot be written")
        code, out, err = ask(seen.daemon, "status")
        assert (code, err, "the store cannot be written" in out) == (0, "", True)
        outside.told(kind="store", change="new")
        outside.answer("/hook", Reply(500))
        seen.daemon.wait_for("run_finished", job="lost", outcome="delivery_failed")
        seen.measures("fetchd_deliveries_total", lambda count: count >= 1, job="lost", result="dead")
        seen.shows("/jobs/lost", "the result is lost", "answered 500")
        outside.told(job="lost", kind="dead_letters")
        ballast.unlink()
        outside.answer("/hook", Reply())
        seen.daemon.wait_for("store_recovered")
        seen.measures("fetchd_store_writable", lambda value: value == 1)
        seen.shows("/", "the store cannot be written", gone=True)
        outside.told(kind="store", change="over")
        assert seen.daemon.stop() == 0


def test_a_loop_that_stands_still(tmp_path: Path, outside: Outside) -> None:
    """For a moment: it is seen where, and for how long. For good: the process ends, and the next one tells of it.

    So it is where a start in between fails.
    """
    (tmp_path / "shop.py").write_text(CODE)
    jobs = '[jobs.blocking]\ncollect = "shop:blocking"\n'
    with watched(tmp_path, outside, jobs, daemon='stall_timeout = "2500ms"') as seen:
        seen.daemon.wait_for("run_finished", job="blocking")
        (tmp_path / "short").touch()
        assert "in blocking" in seen.daemon.wait_for("loop_stalled", state="began")[0]["stack"]
        seen.daemon.wait_for("loop_stalled", state="ended")
        seen.daemon.wait_for("slots_missed", job="blocking")
        seen.measures("fetchd_loop_lag_seconds", lambda value: 1 < value < 5)
        seen.measures("fetchd_slots_missed_total", lambda count: count > 1, job="blocking")
        seen.shows("/", "Warning:", "the loop stood still for")
        seen.shows("/jobs/blocking", "Slots missed")
        began = seen.metric("process_start_time_seconds")
        (tmp_path / "long").touch()
        assert seen.daemon.wait() == 1
        taken = outside.url.removeprefix("http://")
        seen.daemon.config.write_text(seen.daemon.config.read_text().replace("127.0.0.1:0", taken))
    failed = fetchd("run", "-c", "fetchd.toml", folder=tmp_path)
    assert (failed.returncode, "in blocking" in failed.stderr) == (73, True)
    with watched(tmp_path, outside, jobs) as seen:
        seen.measures("process_start_time_seconds", lambda value: value > began)
        seen.shows("/", "Before that", "stood still, so that it was replaced")
        seen.answers("/api/status", 200, "stood still, so that it was replaced")
        assert "stood still" in outside.told(kind="stall", change="once")["message"]
        seen.daemon.wait_for("daemon_in_trouble", trouble="stall")
        assert seen.daemon.stop() == 0


def test_a_daemon_that_was_killed(tmp_path: Path, outside: Outside) -> None:
    """Meanwhile no page answers and the pings stop, so that others raise the alarm; then it tells for how long."""
    jobs = f"""
    [jobs.rates]
    url = "{outside.url}/rates"
    overdue_after = "1s"
    alerts = {{ after = 0 }}
    """
    with watched(tmp_path, outside, jobs) as seen:
        seen.daemon.wait_for("run_finished", job="rates", outcome="succeeded")
        outside.pinged("daemon")
        began = seen.metric("process_start_time_seconds")
        until(lambda: _notes(seen.daemon.state), "that it lives is not written down")
        seen.daemon.signal(signal.SIGKILL)
        assert seen.daemon.wait() == -signal.SIGKILL
        killed, pings = time.monotonic(), len(outside.pings)
        with pytest.raises(ConnectionRefusedError):
            seen.get("/readyz")
    outside.answer("/rates", HANG)
    until(lambda: time.monotonic() > killed + 1.5, "time stands still")
    assert len(outside.pings) == pings
    with watched(tmp_path, outside, jobs) as seen:
        assert "did not stop in order" in seen.daemon.wait_for("daemon_cut_off")[0]["message"]
        outside.told(kind="killed", change="once")
        assert "the daemon was down for" in outside.told(kind="down", change="once")["message"]
        for trouble in ("killed", "down"):
            seen.daemon.wait_for("daemon_in_trouble", trouble=trouble)
        seen.measures("process_start_time_seconds", lambda value: value > began)
        seen.shows("/", "Before that", "did not stop in order", "the daemon was down for")
        outside.told(job="rates", kind="overdue", change="new")
        seen.daemon.wait_for("job_overdue", job="rates")
        seen.measures("fetchd_job_overdue", lambda value: value == 1, job="rates")
        seen.shows("/jobs/rates", "overdue", "Overdue since")
        outside.pinged("daemon", since=pings)
        outside.answer("/rates", Reply())
        outside.told(job="rates", kind="overdue", change="over")
        seen.measures("fetchd_job_overdue", lambda value: value == 0, job="rates")
        assert seen.daemon.stop() == 0
    with watched(tmp_path, outside, jobs) as seen:
        assert not seen.daemon.lines("daemon_cut_off"), "it was stopped in order"
        assert seen.daemon.stop() == 0


def test_a_clock_that_is_stepped(tmp_path: Path, outside: Outside) -> None:
    """Jobs go on by the new time, without a gap and without a herd, and people learn that somebody set the clock."""
    libraries = sorted(LIBRARIES.glob("*/faketime/libfaketimeMT.so.1"))
    if not libraries:
        pytest.skip("needs the Debian package faketime")
    clock = tmp_path / "clock"
    clock.write_text("+0")
    environment = {
        "LD_PRELOAD": str(libraries[0]),
        "FAKETIME_TIMESTAMP_FILE": str(clock),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }
    jobs = f'[jobs.rates]\nurl = "{outside.url}/rates"\n'
    with watched(tmp_path, outside, jobs, environment=environment) as seen:
        seen.daemon.wait_for("run_finished", 2, job="rates", outcome="succeeded")
        step(clock, "-3600")
        assert -3610 < seen.daemon.wait_for("clock_stepped")[0]["seconds"] < -3590
        done = len(seen.daemon.lines("run_finished", job="rates"))
        seen.daemon.wait_for("run_finished", done + 2, job="rates", outcome="succeeded", patience=WITHIN)
        seen.measures("fetchd_clock_steps_total", lambda count: count == 1)
        seen.shows("/", "Clock set", "1 time")
        outside.told(kind="clock", change="once")
        seen.daemon.wait_for("daemon_in_trouble", trouble="clock")
        assert seen.daemon.stop() == 0


def step(clock: Path, seconds: str) -> None:
    """Set the clock that the daemon goes by, at once: it is read all the time."""
    new = clock.with_suffix(".new")
    new.write_text(seconds)
    new.rename(clock)


def _notes(state: Path) -> int:
    """Return how many notes say that the daemon lives: one, as soon as it is written."""
    with closing(sqlite3.connect(state / NAME)) as database:
        (count,) = database.execute("SELECT count(*) FROM notes WHERE name = ?", (ALIVE,)).fetchone()
    return int(count)


def test_a_count_that_a_reload_does_not_end(tmp_path: Path, outside: Outside) -> None:
    """Whoever changes a job has its backoff end; that it does well again only a run can show, on every side at once."""
    outside.answer("/bad", Reply(500))
    jobs = f"""
    [jobs.bad]
    url = "{outside.url}/bad"
    interval = "1d"
    backoff = {{ after = 3, longest = "9d" }}
    """
    with watched(tmp_path, outside, jobs) as seen:
        for _ in range(3):
            assert ask(seen.daemon, "trigger", "bad")[0] == 1
        outside.told(job="bad", kind="failing", change="new")
        _fails(seen, "bad", 3, backs_off=True)
        changed = jobs.replace("after = 3", "after = 2")
        seen.daemon.config.write_text(seen.daemon.config.read_text().replace(jobs, changed))
        assert ask(seen.daemon, "reload")[0] == 0
        _fails(seen, "bad", 3)
        assert ask(seen.daemon, "trigger", "bad")[0] == 1
        _fails(seen, "bad", 4)
    with watched(tmp_path, outside, changed) as seen:  # it has been killed
        _fails(seen, "bad", 4)
        assert [part["change"] for message in outside.messages for part in message["jobs"]] == ["new"]
        outside.answer("/bad", Reply())
        assert ask(seen.daemon, "trigger", "bad")[0] == 0
        _fails(seen, "bad", 0)
        outside.told(job="bad", kind="failing", change="over")


def _fails(seen: Watched, job: str, count: int, *, backs_off: bool = False) -> None:
    """Return if the metrics, the page, the API and the status agree on how often ``job`` has failed in a row."""
    assert seen.metric("fetchd_job_consecutive_failures", job=job) == count
    page = seen.get(f"/jobs/{job}")[2]
    assert (f"<dt>Failures in a row</dt><dd>{count}" if count else '<span class="state well">') in page
    (row,) = json.loads(ask(seen.daemon, "status", "--json")[1])["jobs"]
    assert (row["failures"], row["backing_off_until"] is not None) == (count, backs_off)
    assert json.loads(seen.get(f"/api/jobs/{job}")[2])["failures"] == count
