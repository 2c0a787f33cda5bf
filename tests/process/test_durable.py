"""What was fetched arrives, whatever happens to the process in between."""

from __future__ import annotations

import asyncio
import json
import signal
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from fetchd.run import Run
from fetchd.scheduler import catch_up_after
from fetchd.store.sqlite import open_sqlite_store
from tests.process.daemon import Daemon, fetchd
from tests.upstream import UpstreamProcess

PATIENCE = 10.0


def config(upstream: UpstreamProcess, folder: Path, job: str = "") -> str:
    """Return a configuration whose one sink takes nothing before the file ``up`` is there."""
    return f"""
    shutdown_grace = "1s"
    [jobs.rates]
    url = "{upstream.url("ok")}"
    interval = "100ms"
    deadline = "100ms"
    timeout = "90ms"
    retries = 0
    {job}
    [[jobs.rates.sinks]]
    kind = "command"
    argv = ["sh", "-c", "test -e {folder}/up && cat >> {folder}/got && echo >> {folder}/got"]
    deadline = "5s"
    """


def counts(folder: Path) -> list[int]:
    """Return what has arrived; the upstream counts its answers."""
    got = folder / "got"
    return [json.loads(line)["count"] for line in got.read_text().splitlines()] if got.exists() else []


def arrived(folder: Path, enough: int) -> list[int]:
    """Wait until so many have arrived, and return them in their order, each once."""
    end = time.monotonic() + PATIENCE
    while len(set(found := counts(folder))) < enough:
        assert time.monotonic() < end, found
        time.sleep(0.02)
    return list(dict.fromkeys(found))


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_what_is_owed_outlives_the_process(tmp_path: Path, upstream: UpstreamProcess, number: signal.Signals) -> None:
    """The sink is down, the daemon ends, in order or not; the next one delivers: all of it, in order, then the new."""
    with Daemon(tmp_path, config(upstream, tmp_path)) as daemon:
        owed = len(daemon.wait_for("run_finished", 6, outcome="delivery_failed"))
        daemon.signal(number)
        daemon.wait()
    assert not counts(tmp_path)
    (tmp_path / "up").touch()
    with Daemon(tmp_path, config(upstream, tmp_path)) as daemon:
        found = arrived(tmp_path, owed + 3)
        daemon.wait_for("run_finished", outcome="succeeded")
        assert daemon.stop() == 0
    assert found == sorted(found)
    first = found[0]
    # One answer may have been on its way when the process was killed.
    assert len(set(range(first, first + owed)) - set(found)) <= (number == signal.SIGKILL)


def test_a_full_backlog_is_said(tmp_path: Path, upstream: UpstreamProcess) -> None:
    """The job stops fetching, says so, and goes on by itself once its sink is there again."""
    with Daemon(tmp_path, config(upstream, tmp_path, "backlog = 3")) as daemon:
        daemon.wait_for("slot_skipped", reason="backlog")
        asked = upstream.stats()["requests"]["ok"]
        time.sleep(0.3)
        assert upstream.stats()["requests"]["ok"] == asked
        (tmp_path / "up").touch()
        daemon.wait_for("delivery_recovered")
        daemon.wait_for("run_finished", outcome="succeeded")
        assert daemon.stop() == 0
    assert arrived(tmp_path, 4) == sorted(set(counts(tmp_path)))


def test_once_keeps_what_is_owed(tmp_path: Path, upstream: UpstreamProcess) -> None:
    """Run by something else than the daemon, it tries the older ones first, and none is lost."""
    path = tmp_path / "c.toml"
    unhurried = config(upstream, tmp_path).replace('"100ms"', '"9s"').replace('"90ms"', '"8s"')
    path.write_text(f'[daemon]\nstate_dir = "state"\n{unhurried}')
    for _ in range(2):
        done = fetchd("once", "rates", "-c", str(path), folder=tmp_path)
        assert (done.returncode, "delivery_failed (sink)" in done.stdout) == (1, True)
    (tmp_path / "up").touch()
    done = fetchd("once", "rates", "-c", str(path), folder=tmp_path)
    assert (done.returncode, done.stdout.splitlines()[0]) == (0, "rates: succeeded")
    assert len(arrived(tmp_path, 3)) == 3
    assert counts(tmp_path) == sorted(counts(tmp_path))


def test_what_has_not_changed_is_not_fetched_again(tmp_path: Path, upstream: UpstreamProcess) -> None:
    """Also after a restart: the validators are those of the result that is delivered."""
    unchanging = f"""
    [jobs.page]
    url = "{upstream.url("etag/v1")}"
    interval = "100ms"
    deadline = "100ms"
    timeout = "90ms"
    sinks = [{{ kind = "file", path = "page", mode = "append" }}]
    """
    for _ in range(2):
        with Daemon(tmp_path, unchanging) as daemon:
            daemon.wait_for("run_finished", 2, outcome="unchanged", status=304)
            assert daemon.stop() == 0
    assert len((daemon.state / "out" / "page").read_text().splitlines()) == 1


def test_a_new_sink_gets_what_is_there(tmp_path: Path, upstream: UpstreamProcess) -> None:
    """A job whose address or sinks were changed is fetched in full once, though nothing has changed at the server."""
    for name in ("first", "second"):
        changed = f"""
        [jobs.page]
        url = "{upstream.url("etag/v1")}"
        interval = "100ms"
        deadline = "100ms"
        timeout = "90ms"
        sinks = [{{ kind = "file", path = "{name}" }}]
        """
        with Daemon(tmp_path, changed) as daemon:
            daemon.wait_for("run_finished", outcome="succeeded")
            daemon.wait_for("run_finished", outcome="unchanged", status=304)
            assert daemon.stop() == 0
        assert (daemon.state / "out" / name).exists()


def test_a_missed_slot_is_caught_up_with(tmp_path: Path, upstream: UpstreamProcess) -> None:
    """A job that is due once a day, and was due while nobody was there: it is run once, not once for each day."""
    name = min((f"daily-{number}" for number in range(200)), key=catch_up_after)
    daily = f"""
    [jobs.{name}]
    url = "{upstream.url("ok")}"
    interval = "1d"
    deadline = "1s"
    timeout = "1s"
    catch_up = true
    """

    async def ran_last_week() -> None:
        state = tmp_path / "state"
        state.mkdir()
        async with open_sqlite_store(state) as store:
            await store.claim(Run("1", name, datetime.now(UTC) - timedelta(days=7)))

    asyncio.run(ran_last_week())
    for runs in (1, 0):
        with Daemon(tmp_path, daily) as daemon:
            daemon.wait_for("run_finished", runs, job=name)
            assert daemon.stop() == 0
        assert len(daemon.lines("run_finished")) == runs
