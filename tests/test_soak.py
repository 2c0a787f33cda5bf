"""The soak: that what it offers is valid, and that it finds what it looks for. No figure is asserted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.soak import GAIN, HOSTILE, PORTS, Heard, Sample, Soak, kept_slots, level, slope
from fetchd.config import load
from fetchd.errors import ConfigError
from tests.upstream import UpstreamProcess
from tests.upstream_modes import MODES


def finished(job: str, **more: Any) -> str:
    """Return the line of a Run that succeeded."""
    said = {"level": "info", "event": "run_finished", "job": job, "run": "r1", "outcome": "succeeded", "reason": None}
    return json.dumps({**said, **more}) + "\n"


def held(*megabytes: float) -> list[Sample]:
    """Return samples of a process that holds so much memory, second by second."""
    return [Sample(float(second), int(rss * 2**20), 20, 8) for second, rss in enumerate(megabytes)]


def test_it_knows_its_upstream() -> None:
    """A mode that is misspelt is a harmless 404."""
    assert {mode.partition("/")[0] for mode in HOSTILE} <= set(MODES)


@pytest.mark.parametrize("number", [0, 1])
def test_what_it_offers_is_valid(tmp_path: Path, number: int) -> None:
    """A daemon that refuses it would be idle; the quiet form only delivers what is owed."""
    upstream = UpstreamProcess()
    upstream.ports = dict.fromkeys(("http", "silent", "syn_hang", "tls_unknown"), 1)
    soak = Soak(tmp_path, upstream, copies=2)
    environment = {"HOME": str(tmp_path)}
    soak.file.write_text(soak.config(number))
    found = load(soak.file, environment=environment).jobs
    assert len([name for name in found if name.startswith("job-")]) == 2 * len(HOSTILE + PORTS)
    assert ("passing" in found) == bool(number)
    soak.file.write_text(soak.config(number, quiet=True))
    assert set(load(soak.file, environment=environment).jobs) == {"kept"}
    soak.file.write_text(soak.config(number) + soak.BAD)
    with pytest.raises(ConfigError):
        load(soak.file, environment=environment)


def test_the_log_is_read_as_it_grows(tmp_path: Path) -> None:
    """A line that is half written is no strange one; what is killed may leave one for good."""
    heard = Heard(tmp_path / "log")
    heard.path.write_text(finished("kept") + finished("job-1", outcome="fetch_failed", reason="tls")[:30])
    heard.listen()
    assert (heard.runs, heard.delivered, heard.strange) == ({"kept": 1}, {"r1"}, [])
    with heard.path.open("a") as log:
        log.write(finished("kept", run="r2") + "Traceback: no line of a log\n" + finished("x", reason="unexpected"))
    heard.listen()
    assert heard.runs["kept"] == 1
    assert len(heard.strange) == 2


def test_growth_is_found() -> None:
    """What a process held in the second quarter is what it may hold in the last."""
    flat = [40.0, 60.0, 70.0, 70.0, 70.0, 71.0, 70.0, 71.0]
    assert all(check.good for check in level(held(*flat)))
    leaking = held(*(60.0 + second * GAIN / 2**20 / 4 for second in range(16)))
    assert [check.name for check in level(leaking) if not check.good] == ["memory"]
    assert [check.good for check in level(held(60.0))] == [False]
    assert slope(held(60.0, 60.0, 60.0, 60.0), 1000) == "+0.0 KiB for 1,000 runs"


def test_silence_is_found(tmp_path: Path) -> None:
    """A job that runs no more is what all this is about."""
    heard = Heard(tmp_path / "log")
    heard.runs.update({"kept": 50, "job-1": 10, "job-2": 1})
    check = kept_slots(heard, 10.0, ["job-1", "job-2", "job-3"])
    assert (check.good, "job-2" in check.detail, "job-3" in check.detail, "job-1" in check.detail) == (
        False,
        True,
        True,
        False,
    )
