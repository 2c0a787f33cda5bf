"""The tour: what it counts, what it calls a fault, and that it runs as a newcomer would run it."""

from __future__ import annotations

import http.client
import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import pytest

from fetchd.demo.stage import SCENES
from fetchd.demo.tally import Tally, faults
from tests.processes import alive, until

START: Final = datetime(2026, 1, 2, 3, 4, 5, 250_000, tzinfo=UTC)
PATIENCE: Final = 20.0

READY: Final = '{"ts":"2026-01-02T03:04:05.000Z","level":"info","event":"daemon_ready","jobs":2}'
GOOD: Final = (
    '{"ts":"2026-01-02T03:04:05.271Z","level":"info","event":"run_finished","job":"rates","run":"019b0",'
    '"slot":"2026-01-02T03:04:05.250000+00:00","outcome":"succeeded","reason":null,"status":200,"bytes":62,'
    '"attempts":1,"duration_s":0.0213,"lateness_s":0.0004}'
)
BAD: Final = (
    '{"ts":"2026-01-02T03:04:05.857Z","level":"warning","event":"run_finished","job":"hung","run":"019b1",'
    '"slot":"2026-01-02T03:04:05.250000+00:00","outcome":"fetch_failed","reason":"timeout_read","status":null,'
    '"bytes":0,"attempts":1,"duration_s":0.6004,"lateness_s":0.0021,"phase":"headers",'
    '"message":"no response within 0.6 s"}'
)
SKIPPED: Final = (
    '{"ts":"2026-01-02T03:04:07.251Z","level":"warning","event":"slot_skipped","job":"hung","reason":"overlap",'
    '"count":2,"total":3}'
)
STOPPING: Final = '{"ts":"2026-01-02T03:04:09.000Z","level":"info","event":"daemon_stopping","in_flight":1}'


def tally_of(*lines: str) -> Tally:
    """Return a tally of ``lines``."""
    tally = Tally()
    for line in lines:
        tally.add(line)
    return tally


def run_finished(job: str, second: int, reason: str | None = None) -> str:
    """Return the line of a Run whose slot came so many seconds after the first."""
    slot = START + timedelta(seconds=second)
    fields: dict[str, Any] = {
        "event": "run_finished",
        "job": job,
        "slot": slot.isoformat(),
        "outcome": "fetch_failed" if reason else "succeeded",
        "reason": reason,
        "duration_s": 0.1,
        "lateness_s": 0.001,
    }
    return json.dumps(fields)


def test_lines_are_added_up() -> None:
    """The whole tour stands on what the log's own lines say."""
    tally = tally_of(READY, GOOD, BAD, SKIPPED, STOPPING)
    rates, hung = tally.job("rates"), tally.job("hung")
    assert (rates.runs, rates.good, rates.failed, rates.skipped) == (1, 1, 0, 0)
    assert (hung.runs, hung.good, hung.failed, hung.skipped) == (1, 0, 1, 3)
    assert hung.reasons == {"timeout_read": 1}
    assert hung.last is not None
    assert (hung.last.message, hung.last.duration, hung.latest) == ("no response within 0.6 s", 0.6004, 0.0021)
    assert rates.first_slot == START
    assert tally.ready_at == datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    assert tally.stopping_at == datetime(2026, 1, 2, 3, 4, 9, tzinfo=UTC)
    assert not tally.troubles


def test_the_page_is_found() -> None:
    """Its port is another one each time."""
    assert (
        tally_of('{"event":"page_served","level":"info","address":"http://127.0.0.1:1/"}').page == "http://127.0.0.1:1/"
    )


@pytest.mark.parametrize(
    ("line", "trouble"),
    [
        ("fetchd.toml:3: jobs: there is no job", "fetchd.toml:3: jobs: there is no job"),
        ('{"level":"error","event":"loop_stalled","message":"for 3 s"}', "loop_stalled: for 3 s"),
        ('{"level":"critical","event":"daemon_failed","message":"stuck"}', "daemon_failed: stuck"),
        ("[1, 2]", "[1, 2]"),
        ('{"event":"run_finished","job":"rates"}', '{"event":"run_finished","job":"rates"}'),
    ],
)
def test_whatever_else_is_said_is_kept(line: str, trouble: str) -> None:
    """A daemon that does not start says why, and not always as a log line."""
    assert list(tally_of(line).troubles) == [trouble]


@pytest.mark.parametrize("line", ["", "\n", '{"level":"info","event":"config_reloaded"}'])
def test_what_tells_nothing_is_passed_over(line: str) -> None:
    """Trouble is shown to people: it must not be diluted."""
    assert not tally_of(line).troubles


@pytest.mark.parametrize(("seconds", "due"), [(-1.0, 0), (0.05, 0), (0.2, 1), (0.99, 1), (3.5, 4), (4.05, 4)])
def test_slots_come_due(seconds: float, due: int) -> None:
    """Slots are counted from the first one seen; one just before the stop need not have begun."""
    assert tally_of(READY, GOOD).due("rates", START + timedelta(seconds=seconds), 1.0) == due


def test_slots_come_due_for_a_job_that_never_ran() -> None:
    """A job that is never started must be noticed as well."""
    tally = tally_of(READY)
    assert tally.ready_at is not None
    assert tally.due("rates", tally.ready_at + timedelta(seconds=3.9), 1.0) == 3
    assert Tally().due("rates", START, 1.0) == 0


def judged(*lines: str, expected: dict[str, str], seconds: float) -> list[str]:
    """Return the faults of a tour that was stopped so many seconds after the first slot."""
    return list(faults(tally_of(READY, *lines), expected, START + timedelta(seconds=seconds), 1.0))


def test_no_fault_where_all_is_as_it_should_be() -> None:
    """Failing with its reason is what a job with a bad upstream should do."""
    lines = [run_finished("rates", n) for n in range(5)] + [run_finished("hung", n, "timeout_read") for n in range(5)]
    assert judged(*lines, expected={"rates": "", "hung": "timeout_read"}, seconds=4.5) == []


def test_a_lost_rate_is_a_fault() -> None:
    """Healthy or not, every job keeps its rate; one slot in five may be lost to a busy machine."""
    kept = [run_finished("rates", n) for n in range(4)]
    assert judged(*kept, expected={"rates": ""}, seconds=4.5) == []
    assert judged(*kept[:3], expected={"rates": ""}, seconds=4.5) == ["rates: 3 of 5 slots were kept"]
    assert judged(expected={"rates": ""}, seconds=2.9) == ["rates: 0 of 3 slots were kept"]


def test_a_wrong_end_is_a_fault() -> None:
    """It is said which job, and how its runs ended instead."""
    lines = [run_finished("hung", 0, "connect"), run_finished("rates", 0, "dns")]
    assert judged(*lines, expected={"rates": "", "hung": "timeout_read"}, seconds=0.5) == [
        "rates: 0 of 1 runs ended well; dns 1 times",
        "hung: 0 of 1 runs ended with timeout_read; connect 1 times",
    ]


def demo(length: str, **streams: Any) -> subprocess.Popen[bytes]:
    """Start the tour as a person does."""
    command = [sys.executable, "-m", "fetchd", "demo", "--for", length]
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, **streams)


def offspring(pid: int) -> list[int]:
    """Return the children of ``pid``."""
    return [
        int(child) for task in Path(f"/proc/{pid}/task").iterdir() for child in (task / "children").read_text().split()
    ]


def test_the_tour(tmp_path: Path) -> None:
    """It starts the real daemon on real sockets, tells how every job did, and leaves nothing behind."""
    process = demo("3s", stdout=subprocess.PIPE, env={**os.environ, "TMPDIR": str(tmp_path)})
    said = process.communicate(timeout=PATIENCE)[0].decode()
    assert process.returncode == 0, said
    assert "SIGTERM stopped it in order" in said
    for scene in SCENES:
        assert re.search(rf"^  {scene.job} .*{scene.ends or 'slots fetched and delivered'}", said, re.MULTILINE), said
    assert re.search(r'latest\.json +\{"count": \d', said)
    assert re.search(r"rates\.db +[1-9]\d* rows", said)
    assert re.search(r"sizes\.txt +[1-9]\d* lines", said)
    assert "fetchd check -c" in said
    assert "\x1b" not in said
    assert not list(tmp_path.iterdir())


@contextmanager
def on_a_terminal(length: str) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """Give a tour on a terminal of 80 columns, and the terminal's other end."""
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "80", "LINES": "40"}
    process = demo(length, stdout=theirs, stderr=theirs, env=environment)
    os.close(theirs)
    try:
        yield process, ours
    finally:
        process.kill()
        process.wait()
        os.close(ours)


def read_until(terminal: int, pattern: str, said: str = "") -> str:
    """Return all that the terminal shows up to ``pattern``."""
    while not re.search(pattern, said):
        assert select.select([terminal], [], [], PATIENCE)[0], said
        said += os.read(terminal, 65536).decode(errors="replace")
    return said


def read_page(address: str) -> str:
    """Return the status page, as somebody sees it who follows the address that is shown."""
    connection = http.client.HTTPConnection(address, timeout=PATIENCE)
    try:
        connection.request("GET", "/")
        return connection.getresponse().read().decode()
    finally:
        connection.close()


def test_ctrl_c_on_a_terminal_ends_it_with_the_summary() -> None:
    """A person stops it when they have seen enough: all that it started ends, and what was seen is summed up."""
    with on_a_terminal("60s") as (process, terminal):
        said = read_until(terminal, r"too_large after \d+ ms")
        assert "1 process" in said
        started = offspring(process.pid)
        page = re.search(r"http://(127\.0\.0\.1:\d+)/", said)
        assert page is not None, said
        assert ">hung</a>" in read_page(page[1])
        process.send_signal(signal.SIGINT)
        said = read_until(terminal, "fetchd run -c", said)
        assert process.wait(PATIENCE) == 0
    assert len(started) == 2
    assert not any(alive(pid) for pid in started)
    assert max(len(line) for line in re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", said).splitlines()) <= 80


async def test_a_killed_tour_leaves_no_process(tmp_path: Path) -> None:
    """What it started must not outlive it, even where it cannot clean up."""
    process = demo("60s", stdout=subprocess.DEVNULL, env={**os.environ, "TMPDIR": str(tmp_path)})
    try:
        await until(lambda: len(offspring(process.pid)) == 2)
        watched = [os.pidfd_open(pid) for pid in offspring(process.pid)]
    finally:
        process.kill()
        process.wait()
    for descriptor in watched:
        assert select.select([descriptor], [], [], PATIENCE)[0]
        os.close(descriptor)
