"""What the control verbs show, and the exit status that each answer becomes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest
from click.testing import CliRunner
from rich.console import Console

from fetchd.cli import main, standing, watching
from fetchd.control.server import Reply, Verb, listening

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)

HEAD: dict[str, Any] = {
    "version": "1.2.3",
    "pid": 4711,
    "started": (NOW - timedelta(hours=26, minutes=5)).isoformat(),
    "now": NOW.isoformat(),
    "ready": True,
    "problems": [],
    "warnings": [],
    "generation": 4,
    "config": "/etc/fetchd/config.toml",
    "config_since": (NOW - timedelta(minutes=3)).isoformat(),
    "config_error": None,
    "before": None,
    "resident_bytes": 60 * 2**20,
}
ROW: dict[str, Any] = {
    "job": "rates",
    "source": "http://upstream.test/",
    "state": "well",
    "overdue": False,
    "running": None,
    "failures": 0,
    "last_outcome": "succeeded",
    "last_reason": None,
    "last_message": "",
    "last_success": (NOW - timedelta(seconds=12)).isoformat(),
    "next_slot": (NOW + timedelta(seconds=48)).isoformat(),
    "backing_off_until": None,
    "held_until": None,
    "owed": 0,
    "dead": 0,
}


@contextmanager
def served(folder: Path, verbs: Mapping[str, Verb]) -> Iterator[None]:
    """Serve ``verbs`` from another thread: the command line asks without a loop."""
    started, stop = Event(), Event()

    async def serve() -> None:
        async with listening(folder, verbs, lambda value: value):
            started.set()
            await asyncio.to_thread(stop.wait)

    thread = Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    try:
        assert started.wait(10)
        yield
    finally:
        stop.set()
        thread.join()


def answering(*messages: Mapping[str, Any], code: int = 0, heard: list[Mapping[str, Any]] | None = None) -> Verb:
    """Return a verb that says ``messages`` and notes what it was asked."""

    async def answer(request: Mapping[str, Any], reply: Reply) -> int:
        if heard is not None:
            heard.append(request)
        for message in messages:
            await reply.send(message)
        return code

    return answer


def test_a_line_for_each_job() -> None:
    """What matters, in words and in lengths of time: nobody adds up dates at three in the morning."""
    failing = ROW | {
        "job": "a-much-longer-name",
        "state": "failing",
        "overdue": True,
        "running": {"phase": "headers", "attempts": 2, "pages": 0, "bytes": 0},
        "failures": 7,
        "last_outcome": "fetch_failed",
        "last_reason": "timeout_read",
        "last_message": "nothing came\nfor \x1b[2J 10 s",
        "last_success": (NOW - timedelta(days=3, hours=2)).isoformat(),
        "backing_off_until": (NOW + timedelta(minutes=10)).isoformat(),
        "owed": 3,
        "dead": 1,
    }
    paused = ROW | {"job": "p", "state": "paused", "last_outcome": None, "last_success": None}
    *head, blank, headings, first, second, third = standing.lines(HEAD, [failing, ROW, paused])
    assert head == [
        "fetchd 1.2.3, process 4711, up 1d2h, 60.0 MiB",
        "configuration 4, /etc/fetchd/config.toml, in force for 3m",
        "it does its work",
    ]
    assert (blank, headings.split("  ")[0]) == ("", "JOB")
    assert [cell.strip() for cell in first.split("  ") if cell] == [
        "a-much-longer-name",
        "failing, overdue, running (headers)",
        "3d2h ago",
        "in 10m",
        "3",
        "1",
        "7 x fetch_failed (timeout_read): nothing came for ?[2J 10 s",
    ]
    assert second.split() == ["rates", "well", "12s", "ago", "in", "48s", "0", "0", "succeeded"]
    assert third.split() == ["p", "paused", "-", "-", "0", "0", "-"]


@pytest.mark.parametrize(
    ("width", "headings", "line"),
    [
        (80, None, "rates  well   12s ago       in 48s     0     0     fetch_failed (timeout_read..."),
        (
            72,
            "JOB    STATE  NEXT SLOT  OWED  DEAD  LAST RUN",
            "rates  well   in 48s     0     0     fetch_failed (timeout_read): no ...",
        ),
        (60, "JOB    STATE  NEXT SLOT  DEAD  LAST RUN", "rates  well   in 48s     0     fetch_failed (timeout_read..."),
        (50, "JOB    STATE  NEXT SLOT  LAST RUN", "rates  well   in 48s     fetch_failed (timeout_..."),
        (40, "JOB    STATE  LAST RUN", "rates  well   fetch_failed (timeout_r..."),
        (20, "JOB    STATE  LAST RUN", "rates  well   fetch_failed (timeout..."),
    ],
)
def test_a_narrow_terminal_leaves_columns_out(width: int, headings: str | None, line: str) -> None:
    """A line that is broken by the terminal is read as two; the names of jobs, which other verbs want, stay whole."""
    failing = ROW | {"last_outcome": "fetch_failed", "last_reason": "timeout_read", "last_message": "no response"}
    *_, head, last = standing.lines(HEAD, [failing], width)
    assert (head if headings else None, last) == (headings, line)


@pytest.mark.parametrize(
    ("backing_off", "held", "shown"),
    [(None, None, "in 48s"), (600, 60, "in 10m"), (60, 600, "in 10m"), (None, 5, "in 48s")],
)
def test_the_next_slot_is_one_that_is_run(backing_off: int | None, held: int | None, shown: str) -> None:
    """What is left out before it, because the job or its host wants a rest, is none."""
    times = {"backing_off_until": backing_off, "held_until": held}
    row = ROW | {key: (NOW + timedelta(seconds=wait)).isoformat() if wait else None for key, wait in times.items()}
    assert standing.cells(row, NOW)[standing.HEADINGS.index("NEXT SLOT")] == shown


def test_what_is_wrong_stands_at_the_top() -> None:
    """Why it does not work, why the last configuration does not count, and what became of the process before."""
    head = HEAD | {
        "ready": False,
        "problems": ["a", "b"],
        "warnings": ["c"],
        "config_error": "c.toml:1: x\nc.toml:2: y",
        "before": "the daemon was down for 2h",
    }
    assert list(standing.headline(head))[1:] == [
        "before that: the daemon was down for 2h",
        "configuration 4, /etc/fetchd/config.toml, in force for 3m",
        "the last one that was offered was refused:",
        "  c.toml:1: x",
        "  c.toml:2: y",
        "IT DOES NOT DO ITS WORK: a; b",
        "c",
    ]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (-3, "0s"), (59.6, "1m"), (61, "1m1s"), (3600, "1h"), (3605, "1h5s"), (90000, "1d1h")],
)
def test_lengths_of_time(seconds: float, text: str) -> None:
    """Two units say enough."""
    assert standing.span(timedelta(seconds=seconds)) == text


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 bytes"), (1023, "1023 bytes"), (1536, "1.5 KiB"), (2**31, "2.0 GiB")]
)
def test_sizes(count: int, text: str) -> None:
    """In a unit that suits them."""
    assert standing.size(count) == text


def drawing(rows: Sequence[Mapping[str, Any]], width: int, height: int) -> list[str]:
    """Return the lines that are drawn on a terminal of that size."""
    console = Console(width=width, height=height, force_terminal=False)
    with console.capture() as shown:
        console.print(watching.drawn(HEAD, rows, width, height))
    return [line.rstrip() for line in shown.get().splitlines()]


def test_a_drawing_shows_the_same() -> None:
    """Names of jobs and messages are no mark-up."""
    *head, _, headings, row = drawing([ROW | {"job": "[red]rates", "last_message": "[/] x"}], 120, 40)
    assert "it does its work" in head
    assert headings.split("  ")[0] == "JOB"
    assert row.startswith("[red]rates")
    assert "succeeded: [/] x" in row


@pytest.mark.parametrize("width", [30, 60, 80, 100, 160])
def test_a_drawing_fits_the_terminal(width: int) -> None:
    """A line for each job, with its name, its state and how its last run ended; and how many there is no room for."""
    long = {"job": "a-name-that-is-rather-long", "state": "failing", "last_message": "x" * 300}
    lines = drawing([ROW | long | {"job": f"{number}-{long['job']}"} for number in range(50)], width, 24)
    assert len(lines) == 24
    assert max(map(len, lines)) <= width
    assert lines[-1] == "and 32 more"
    *_, headings, first, second = lines[:7]
    assert all(heading in headings for heading in ("JOB", "STATE", "LAST"))
    assert ("NEXT SLOT" in headings, "LAST SUCCESS" in headings) == (width >= 80, width >= 110)
    assert (first[:4], second[:4]) == ("0-a-", "1-a-")
    assert "failing" in first
    assert " succ" in first


def test_status_as_json_and_as_a_health_check(tmp_path: Path) -> None:
    """A script takes all of it as one object; a health check wants the exit status, and why."""
    lost = {"owed_to": "gone webhook", "count": 2}
    bad = HEAD | {"ready": False, "problems": ["the loop stood still"]}
    heard: list[Mapping[str, Any]] = []
    status = answering({"data": bad}, {"data": ROW}, {"data": lost}, code=1, heard=heard)
    with served(tmp_path, {"status": status}):
        done = CliRunner().invoke(main, ["status", "--json", "--state-dir", str(tmp_path)])
        shown = json.loads(done.stdout)
        assert (done.exit_code, shown["jobs"], shown["owed_to_none"], shown["pid"]) == (1, [ROW], [lost], 4711)
        done = CliRunner().invoke(main, ["status", "-q", "--state-dir", str(tmp_path)])
        assert (done.exit_code, done.stdout, done.stderr) == (1, "", "the loop stood still\n")
        assert [request.get("jobs") for request in heard] == [True, None]
        done = CliRunner().invoke(main, ["status", "--watch", "--state-dir", str(tmp_path)])
        assert (done.exit_code, "terminal" in done.stderr) == (2, True)


@pytest.mark.parametrize("code", [0, 1, 75, 78])
def test_an_answer_is_shown_as_it_comes(tmp_path: Path, code: int) -> None:
    """Good news to stdout, bad news to stderr, how far it has come to nobody but a terminal."""
    told = answering({"progress": {"phase": "headers"}}, {"out": "one"}, {"err": "two"}, code=code)
    with served(tmp_path, {"reload": told}):
        done = CliRunner().invoke(main, ["reload", "--state-dir", str(tmp_path)])
    assert (done.exit_code, done.stdout, done.stderr) == (code, "one\n", "two\n")


def test_what_is_asked_for(tmp_path: Path) -> None:
    """Each verb says what its user said; all jobs are meant only where that is said."""
    heard: list[Mapping[str, Any]] = []
    verbs = {verb: answering(heard=heard) for verb in ("trigger", "pause", "resume")}
    where = ["--state-dir", str(tmp_path)]
    with served(tmp_path, verbs):
        for words in (["trigger", "a"], ["trigger", "a", "--no-wait"], ["pause", "a", "b"], ["resume", "--all"]):
            assert CliRunner().invoke(main, [*words, *where]).exit_code == 0
        for words in (["pause"], ["resume", "a", "--all"], ["trigger"]):
            assert CliRunner().invoke(main, [*words, *where]).exit_code == 2
    assert heard == [
        {"verb": "trigger", "job": "a", "wait": True},
        {"verb": "trigger", "job": "a", "wait": False},
        {"verb": "pause", "jobs": ["a", "b"]},
        {"verb": "resume", "all": True},
    ]


def test_where_there_is_no_daemon(tmp_path: Path) -> None:
    """A status of its own, and which state directory it was looked for in."""
    for verb in (["status"], ["status", "-q"], ["status", "--json"], ["trigger", "a"], ["pause", "a"], ["reload"]):
        done = CliRunner().invoke(main, [*verb, "--state-dir", str(tmp_path)])
        assert (done.exit_code, done.stdout) == (69, "")
        assert done.stderr == f"no fetchd runs with the state directory {tmp_path}; name another one's by --state-dir\n"
