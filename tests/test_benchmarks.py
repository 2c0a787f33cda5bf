"""The benchmarks: that they can be run, and that their own arithmetic holds. No figure is asserted."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Final

import pytest

from benchmarks.chart import draw
from benchmarks.measure import Memory, cpu_of, memory_of, table
from benchmarks.outage import PEERS, launching
from benchmarks.politeness import Host
from benchmarks.politeness import config as polite
from benchmarks.throughput import PARTS, Window, jobs, main
from fetchd.config import load
from tests.processes import alive

ROOT: Final = Path(__file__).parents[1]
SVG: Final = "{http://www.w3.org/2000/svg}"


@pytest.mark.parametrize("module", ["outage", "politeness", "throughput", "views"])
def test_help(module: str) -> None:
    """What the README names can be called."""
    command = [sys.executable, "-m", f"benchmarks.{module}", "--help"]
    said = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=True, env={**os.environ, "COLUMNS": "120"}
    )
    assert f"python -m benchmarks.{module}" in said.stdout


def test_requests_before_their_time_are_counted(tmp_path: Path) -> None:
    """What is on its way while the host asks is nobody's fault; whatever comes later is."""
    host = Host(5, times=2)
    served = [host.answer(now) for now in (100.0, 100.1, 104.9, 105.0, 109.0, 110.5, 111.0)]
    assert served == [False] * 5 + [True] * 2
    assert host.asked == [100.0, 105.0]
    assert host.early == [pytest.approx(4.9), pytest.approx(4.0)]
    assert (host.together, host.served) == (1, [5.5, 6.0])
    file = tmp_path / "fetchd.toml"
    file.write_text(f'[daemon]\nstate_dir = "state"\n\n{polite(8080)}')
    assert len(load(file, environment={"HOME": "/"}).jobs) == 60


def test_parts_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    """A part that is not there is refused with the names of those that are."""
    with pytest.raises(SystemExit):
        main(["nothing"])
    said = capsys.readouterr().err
    assert all(name in said for name in PARTS)


@pytest.mark.parametrize("launches", [1, 60])
def test_the_chart_reads_without_its_picture(launches: int) -> None:
    """It is well-formed, and its description tells the figures to whoever cannot see it."""
    scripts = [(float(n), n * 16 * 2**20, n) for n in range(launches + 1)]
    daemon = [(float(n), 56 * 2**20, 1) for n in range(launches + 1)]
    drawn = ET.fromstring(draw(scripts, daemon))
    told = drawn.findtext(f"{SVG}desc") or ""
    assert f"{launches} processes are stuck and hold {launches * 16} MiB" in told
    assert drawn.findtext(f"{SVG}title")
    assert [len((line.get("points") or "").split()) for line in drawn.iter(f"{SVG}polyline")] == [launches + 1] * 2


def test_the_chart_in_the_docs_is_one_of_ours() -> None:
    """What the README shows has been drawn by the benchmark, not touched up."""
    drawn = ET.fromstring((ROOT / "docs" / "outage.svg").read_text())
    assert "60 processes are stuck" in (drawn.findtext(f"{SVG}desc") or "")


def test_generated_jobs_are_valid(tmp_path: Path) -> None:
    """A benchmark that the daemon refuses measures nothing."""
    file = tmp_path / "fetchd.toml"
    file.write_text(jobs(10, "1s", ["http://127.0.0.1:1/ok", "http://127.0.0.1:1/hang"], 'deadline = "250ms"\n'))
    config = load(file, environment={"HOME": str(tmp_path)})
    assert len(config.jobs) == 10
    assert {job.interval for job in config.jobs.values()} == {1.0}


def test_a_window_of_the_log(tmp_path: Path) -> None:
    """Only the runs that ended within the time measured count, and only good ones as fetches."""
    log = tmp_path / "log"
    line = '{{"ts":"2026-01-02T03:04:0{}.000Z","event":"{}","reason":{},"lateness_s":0.00{}}}\n'
    said = [(0, "daemon_ready", "null", 0), (1, "run_finished", "null", 1), (2, "run_finished", '"dns"', 2)]
    said += [(3, "run_finished", "null", 3), (4, "run_finished", "null", 4)]
    log.write_text("".join(line.format(*fields) for fields in said))
    window = Window.of(log, 1767323041.0, 1767323044.0)
    assert (window.good, window.lateness, window.seconds) == (2, [0.001, 0.002, 0.003], 3.0)


def test_memory_and_cpu_of_a_process() -> None:
    """The figures are those of the processes that are meant; one that has gone holds nothing."""
    own = memory_of([os.getpid()])
    assert 0 < own.pss <= own.rss
    assert memory_of([2**22 + 1]) == Memory()
    assert 0 < cpu_of(os.getpid()) <= time.process_time() + 1


@pytest.mark.parametrize("name", PEERS)
def test_launches_do_not_outlive_the_benchmark(name: str, tmp_path: Path) -> None:
    """It starts processes that never end by themselves: all of them must be gone after it."""
    command = PEERS[name].command("http://127.0.0.1:1", tmp_path)
    waiting = [*command[:-1], "import time; time.sleep(600)"]
    with launching(waiting) as launches:
        launches.launch()
        pids = launches.alive()
        assert [alive(pid) for pid in pids] == [True]
        assert "127.0.0.1:1" in command[-1]
    assert not any(alive(pid) for pid in pids)


def test_tables_are_markdown() -> None:
    """The README takes them as they are."""
    assert table(("a", "bb"), [("ccc", 1)]) == "| a   | bb |\n| --- | -- |\n| ccc | 1  |"
