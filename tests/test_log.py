from __future__ import annotations

import gc
import json
import logging
import os
import re
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from enum import StrEnum
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest
import structlog
from structlog.testing import capture_logs

from fetchd.log import LONGEST_LINE, LONGEST_TEXT, Log, LogWriter, describe, open_log
from fetchd.secret import MASK, Redactor

CANARY = "canary-7f3a"

module_log = structlog.get_logger()


class Colour(StrEnum):
    RED = "red"


class Unshowable:
    def __str__(self) -> str:
        raise ValueError("no")


class BrokenError(SyntaxError):
    """Fails whatever asks about it."""

    def __str__(self) -> str:
        raise ValueError("no")

    @property
    def filename(self) -> str:  # type: ignore[override]
        raise ValueError("no")


class Chatty:
    """Logs while it is being logged, as a destructor may."""

    def __str__(self) -> str:
        module_log.info("inner")
        return "chatty"


@pytest.fixture
def written(tmp_path: Path) -> Callable[[], str]:
    """Return what stands in the file that the tests log to."""
    return lambda: (tmp_path / "log").read_text(encoding="utf-8")


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Callable[..., Log]]:
    """Open logs on a file, and close them after the test."""
    fd = os.open(tmp_path / "log", os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    logs = []

    def opener(level: Any = "info", form: Any = "json", secrets: tuple[str, ...] = (CANARY,), **more: Any) -> Log:
        logs.append(open_log(level, form, Redactor(secrets), fd, **more))
        return logs[-1]

    yield opener
    for log in logs:
        log.close()
    os.close(fd)


def parsed(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.split("\n")[:-1]]


@contextmanager
def pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    try:
        yield ends
    finally:
        for end in ends:
            os.close(end)


def read_lines(fd: int, count: int) -> list[dict[str, Any]]:
    data = b""
    while data.count(b"\n") < count:
        data += os.read(fd, 2**20)
    return parsed(data.decode())


def test_canonical_line(opened: Callable[..., Log], written: Callable[[], str]) -> None:
    """Machines and people look for time, level and event first; a Run's own fields follow in their order."""
    log = opened()
    bound = module_log.bind(job="rates", run="0190")
    bound.info("run_finished", outcome=Colour.RED, reason=None, status=HTTPStatus.OK, duration_s=0.25, ok=True)
    assert log.close()
    line = written()
    assert re.match(r'\{"ts":"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z","level":"info","event":"run_finished",', line)
    assert line.endswith(
        '"job":"rates","run":"0190","outcome":"red","reason":null,"status":200,"duration_s":0.25,"ok":true}\n'
    )


def test_the_log_s_own_keys_are_kept(opened: Callable[..., Log], written: Callable[[], str]) -> None:
    """A field that is called like one of ours must not forge the level or the time."""
    with closing(opened()):
        module_log.info("x", level="critical", ts="never")
    (line,) = parsed(written())
    assert (line["level"], line["level_"], line["ts_"]) == ("info", "critical", "never")


def test_lines_below_the_level_are_not_written(opened: Callable[..., Log], written: Callable[[], str]) -> None:
    """The level holds for our own loggers and for everybody else's."""
    with closing(opened("warning")):
        module_log.info("a")
        module_log.warning("b")
        logging.getLogger("shop").info("c")
        logging.getLogger("shop").error("d")
    assert [line["event"] for line in parsed(written())] == ["b", "d"]


def test_the_level_can_be_changed(opened: Callable[..., Log], written: Callable[[], str]) -> None:
    """A reload asks for more lines, or for fewer: of ours, and of those of the libraries, which stay quiet."""
    with closing(opened("error")) as log:
        module_log.info("before")
        log.set_level("debug")
        module_log.debug("between")
        logging.getLogger("some.library").debug("theirs")
        logging.getLogger("aiohttp").info("quiet")
        log.set_level("warning")
        module_log.info("after")
        module_log.warning("last")
    assert [line["event"] for line in parsed(written())] == ["between", "theirs", "last"]


def test_secrets_never_reach_a_line(opened: Callable[..., Log], written: Callable[[], str]) -> None:
    """Whatever value holds a secret, however deep, and whoever logs it."""

    def fail() -> None:
        password = CANARY + "-local"
        raise RuntimeError(f"no access to http://user:{CANARY}@host, {len(password)}")

    with closing(opened()):
        try:
            fail()
        except RuntimeError as error:
            module_log.exception(f"event {CANARY}", error=error, path=Path(CANARY), raw=CANARY.encode())
            logging.getLogger("shop").exception("GET %s", CANARY)
        module_log.info("x", table={CANARY: [{"deep": (CANARY, {CANARY}, Path(CANARY))}]})
    text = written()
    assert CANARY not in text
    assert text.count(MASK) == 11
    assert "-local" not in text, "local values are not shown"


def test_the_log_s_own_words_are_never_hidden(opened: Callable[..., Log], written: Callable[[], str]) -> None:
    """Lines are found by them; a password "read" must not turn timeout_read into what no alert looks for."""
    own = {"job": "readers", "run": "0190-read", "slot": "2026-01-02T00:00:00+00:00", "outcome": "read_failed"}
    own |= {"reason": "timeout_read", "phase": "read"}
    with closing(opened(secrets=("read", "finished", "2026"))):
        module_log.warning("read_finished", **own, message="read it", list=["read"])
        module_log.warning("cannot read", reason="cannot read")
        logging.getLogger("shop").warning("read_finished")
    first, second, third = parsed(written())
    assert {key: first[key] for key in ("event", *own)} == {"event": "read_finished", **own}
    assert (first["message"], first["list"]) == (f"{MASK} it", [MASK])
    assert (second["event"], second["reason"]) == (f"cannot {MASK}",) * 2, "sentences are not its vocabulary"
    assert third["event"] == f"{MASK}_{MASK}", "nor is what other code logs"


def test_no_half_of_a_secret_is_shown(opened: Callable[..., Log], written: Callable[[], str]) -> None:
    """Texts are cut after they are searched: a secret that lies on the cut would otherwise show its half."""
    secret = "s3cr3t" * 100
    with closing(opened(secrets=(secret,))):
        for before in (LONGEST_TEXT // 2 - 300, LONGEST_TEXT - 300, 8 * LONGEST_TEXT // 2 - 300):
            module_log.info("x", text="." * before + secret + "." * 20 * LONGEST_TEXT)
    assert "s3cr3t" not in written()


def test_traceback_is_one_chained_bounded_text(opened: Callable[..., Log], written: Callable[[], str]) -> None:
    """The cause of a failure is in the line, and a huge message is not."""
    with closing(opened()):
        try:
            try:
                raise TimeoutError
            except TimeoutError as error:
                raise ValueError("v" * 10 * LONGEST_TEXT + " the end") from error
        except ValueError:
            module_log.exception("failed")
    (line,) = parsed(written())
    assert line["level"] == "error"
    assert line["exception"].startswith("Traceback (most recent call last):")
    assert "TimeoutError" in line["exception"]
    assert line["exception"].endswith(" the end")
    assert len(line["exception"]) < LONGEST_TEXT + 100


def test_exception_without_a_message_is_named() -> None:
    """Half the exceptions of timeouts have an empty message."""
    assert describe(TimeoutError()) == "TimeoutError"
    assert describe(OSError(5, "gone")) == "OSError: [Errno 5] gone"


HOSTILE = "a\nb\r\x1b[2J\x9b31m\x7f\u2028\u202e\x85\x00\ud800 end"


def test_json_line_is_printable_ascii(opened: Callable[..., Log], written: Callable[[], str]) -> None:
    """What an upstream sends neither breaks the line nor moves the cursor of who reads it; and it comes back whole."""
    with closing(opened()):
        module_log.info(HOSTILE, **{"text": HOSTILE, "key\n": {HOSTILE: HOSTILE}})
    text = written()
    assert re.fullmatch(r"[ -~]+\n", text)
    (line,) = parsed(text)
    assert line["text"] == HOSTILE
    assert line["key\n"] == {HOSTILE: HOSTILE}


def test_console_line_is_escaped(opened: Callable[..., Log], written: Callable[[], str]) -> None:
    """On a terminal, an escape sequence from outside would be obeyed."""
    with closing(opened(form="console")):
        module_log.info(HOSTILE, text=HOSTILE, **{"key\x1b": [HOSTILE]})
        try:
            raise ValueError(HOSTILE)
        except ValueError:
            module_log.exception("failed")
    lines = written().split("\n")
    assert all(line.isprintable() for line in lines)
    assert r"a\nb\r\x1b[2J\x9b31m" in lines[0]
    assert all(line.startswith("    | ") for line in lines[2:-1]), "nothing in a traceback looks like a line of its own"


def test_console_line_reads_well(opened: Callable[..., Log], written: Callable[[], str]) -> None:
    """Plain words stand bare, others in quotes, and what is not there is left out."""
    with closing(opened(form="console", colour=True)):
        module_log.warning("run_finished", job="rates", reason=None, message="two words", bytes=12, city="Plzeň")
    line = written().split(" ", 1)[1]
    assert line == ('\x1b[33mwarning\x1b[0m run_finished       job=rates message="two words" bytes=12 city="Plzeň"\n')


@pytest.mark.parametrize("form", ["json", "console"])
def test_the_journal_is_told_how_bad_it_is(
    tmp_path: Path, opened: Callable[..., Log], written: Callable[[], str], form: str
) -> None:
    """``journalctl -p warning`` finds what it shall; each line of a traceback is an entry of its own there."""
    with closing(opened("debug", form)):
        module_log.info("before")
    stream = (tmp_path / "log").stat()
    with closing(opened("debug", form, journal=f"{stream.st_dev}:{stream.st_ino}")):
        module_log.debug("a")
        module_log.info("b")
        module_log.warning("c")
        module_log.error("d", exc_info=ValueError("e"))
    plain, *lines = written().splitlines()
    assert not plain.startswith("<")
    assert [line[:3] for line in lines[:4]] == ["<7>", "<6>", "<4>", "<3>"]
    assert all(line.startswith("<3>") for line in lines[4:])
    assert (len(lines) > 4) == (form == "console")


def test_another_stream_than_the_journals_is_left_alone(opened: Callable[..., Log], written: Callable[[], str]) -> None:
    """The variable is inherited by whatever the service starts, also where its stderr leads elsewhere."""
    with closing(opened(journal="1:2")):
        module_log.error("x")
    assert parsed(written())[0]["level"] == "error"


def test_auto_is_json_where_no_terminal_is(opened: Callable[..., Log], written: Callable[[], str]) -> None:
    """A collector reads files and pipes; it wants JSON without being asked."""
    with closing(opened(form="auto")):
        module_log.info("x")
    assert parsed(written())[0]["event"] == "x"


def test_auto_is_the_console_form_on_a_terminal() -> None:
    """A person who starts the daemon in a terminal reads lines, not JSON."""
    ours, terminal = os.openpty()
    with closing(open_log("info", "auto", str, terminal)):
        module_log.info("daemon_started", version="1")
    assert os.read(ours, 1000).split(b" ", 1)[1] == b"info    daemon_started     version=1\r\n"
    os.close(ours)
    os.close(terminal)


def test_every_value_can_be_logged(opened: Callable[..., Log], written: Callable[[], str]) -> None:
    """A log call is the last place that may raise, least of all in the handling of an error."""
    loop: dict[str, Any] = {}
    loop["self"] = loop
    with closing(opened()):
        module_log.info(
            "odd",
            broken=Unshowable(),
            bytes=b"\xff\x00a",
            error=TimeoutError(),
            huge=10**5000,
            infinite=float("inf"),
            loop=loop,
            many=list(range(100)),
            slot=datetime(2026, 1, 2, tzinfo=UTC),
            some={1},
            table={1: None},
        )
        module_log.info("broken", error=BrokenError(), exc_info=BrokenError())
        module_log.info("no exception at hand", exc_info=True)
        module_log.info("not a tuple of three", exc_info=(1, 2))
    line, broken, second, third = parsed(written())
    assert broken["error"] == broken["exception"] == "BrokenError"
    assert line["broken"] == "<Unshowable that cannot be shown: ValueError>"
    assert line["bytes"] == "\\xff\x00a"
    assert line["error"] == "TimeoutError"
    assert line["huge"].startswith("<int that cannot be shown")
    assert line["infinite"] == "inf"
    assert line["many"][31:] == [31, "... 68 more"]
    assert line["slot"] == "2026-01-02T00:00:00+00:00"
    assert (line["some"], line["table"]) == ([1], {"1": None})
    assert "exception" not in second
    assert "exception" not in third


def test_line_is_bounded(opened: Callable[..., Log], written: Callable[[], str]) -> None:
    """No event may fill the queue on its own; what it was and whose remains."""
    with closing(opened()):
        module_log.info("big", job="rates", values=["x" * 5000] * 30)
    (line,) = parsed(written())
    assert (line["event"], line["job"]) == ("big", "rates")
    assert line["line_too_long"] > LONGEST_LINE
    assert "values" not in line


def test_a_line_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    """A failing redactor hides the line, not the fact; nothing is raised and nothing shown unredacted."""

    def fail(_value: Any) -> Any:
        raise RecursionError

    fd = os.open(tmp_path / "log", os.O_CREAT | os.O_WRONLY)
    with closing(open_log("info", "json", fail, fd)):
        module_log.info("x", password=CANARY)
    os.close(fd)
    (line,) = parsed((tmp_path / "log").read_text())
    assert (line["event"], line["error"]) == ("log_line_failed", "RecursionError")
    assert "password" not in line


def test_logging_within_logging(opened: Callable[..., Log], written: Callable[[], str]) -> None:
    """A destructor can log at any instruction; it must neither deadlock nor be lost."""
    with closing(opened()):
        module_log.info("outer", value=Chatty())
    assert [line["event"] for line in parsed(written())] == ["inner", "outer"]


def test_the_standard_library_s_loggers_are_bridged(opened: Callable[..., Log], written: Callable[[], str]) -> None:
    """The lines of libraries and of the user's code come out in the same form, bad arguments included."""
    with closing(opened()):
        logging.getLogger("shop.tasks").info("imported %d of %s", 3, "rates")
        logging.getLogger("shop.tasks").warning("bad %d", "arguments")
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            warnings.warn("old\nthing", DeprecationWarning, stacklevel=1)
    first, second, third = parsed(written())
    assert (first["event"], first["logger"], first["level"]) == ("imported 3 of rates", "shop.tasks", "info")
    assert second["event"] == "bad %d (TypeError in its arguments)"
    assert third["logger"] == "py.warnings"
    assert "old\nthing" in third["event"]


@pytest.mark.parametrize("name", ["aiohttp.client", "asyncio", "httpcore.http11", "httpx", "apscheduler.scheduler"])
def test_noisy_libraries_are_quiet(opened: Callable[..., Log], written: Callable[[], str], name: str) -> None:
    """At info the client logs URLs with their secrets; at debug its headers, whatever level is asked for."""
    with closing(opened("debug")):
        logging.getLogger(name).info("HTTP Request: GET http://host/?api_key=1")
        logging.getLogger(name).error("seen")
    assert [line["event"] for line in parsed(written())] == ["seen"]


def test_repeated_skips_of_the_scheduler_are_quiet(opened: Callable[..., Log], written: Callable[[], str]) -> None:
    """A hung job would otherwise bring a warning each slot; the daemon counts them itself."""
    with closing(opened()):
        logging.getLogger("apscheduler.executors.default").warning("skipped: maximum number of running instances")
    assert written() == ""


def test_stray_errors_become_lines(opened: Callable[..., Log], written: Callable[[], str]) -> None:
    """Python prints them to stderr at once: many lines, unredacted, and the loop waits for the reader."""

    class Falling:
        def __del__(self) -> None:
            raise RuntimeError(CANARY)

    def fail() -> None:
        raise ValueError(CANARY)

    with closing(opened()):
        thread = threading.Thread(target=fail, name="worker-1")
        thread.start()
        thread.join()
        Falling()
        gc.collect()
    first, second = parsed(written())
    assert (first["event"], first["thread"]) == ("thread_failed", "worker-1")
    assert first["exception"].endswith(f"ValueError: {MASK}")
    assert second["event"] == "unraisable_exception"
    assert second["exception"].endswith(f"RuntimeError: {MASK}")


def test_context_variables_do_not_leak_into_lines(opened: Callable[..., Log], written: Callable[[], str]) -> None:
    """A line says what its own logger was given; a scheduler's timer would carry a stranger's context for ever."""
    with closing(opened()), structlog.contextvars.bound_contextvars(request="req-42"):
        module_log.info("x")
    assert "req-42" not in written()


def test_lines_can_be_captured_while_the_log_is_open(opened: Callable[..., Log]) -> None:
    """Tests of other rooms assert on lines; bound loggers must be caught too."""
    with closing(opened()):
        bound = module_log.bind(job="rates")
        with capture_logs() as captured:
            bound.info("x")
    assert captured == [{"event": "x", "job": "rates", "log_level": "info"}]


def test_close_puts_everything_back(opened: Callable[..., Log], written: Callable[[], str]) -> None:
    """One test's log must not be the next one's, not even in a logger that was used meanwhile."""
    root = logging.getLogger()
    before = (structlog.get_config(), root.handlers, root.level, logging.getLogger("httpx").level)
    hooks = (threading.excepthook, warnings.showwarning)
    log = opened()
    bound = module_log.bind(job="rates")
    bound.info("x")
    assert log.close()
    bound.info("late")
    assert (structlog.get_config(), root.handlers, root.level, logging.getLogger("httpx").level) == before
    assert (threading.excepthook, warnings.showwarning) == hooks
    assert log.dropped == 1
    assert log.close(), "closing twice is harmless"
    assert [line["event"] for line in parsed(written())] == ["x"]


def test_a_stalled_reader_holds_nobody_up() -> None:
    """The queue is bounded, what does not fit is counted, and one line says so once the reader is back."""
    with pipe() as (reader, stream), closing(open_log("info", "json", str, stream)) as log:
        for number in range(25_000):
            module_log.info("x", number=number)
        dropped = log.dropped
        assert dropped > 10_000
        lines = read_lines(reader, 25_000 - dropped + 1)
        assert [line["count"] for line in lines if line["event"] == "log_lines_dropped"] == [dropped]
        assert [line["number"] for line in lines if line["event"] == "x"] == list(range(25_000 - dropped))
        module_log.info("after")
        assert [line["event"] for line in read_lines(reader, 1)] == ["after"]


def test_bytes_are_bounded_too() -> None:
    """Long lines, such as tracebacks, would fill the memory long before their number does."""
    writer = LogWriter(2, lambda _count: b"", max_bytes=1000)
    for _ in range(4):
        writer.put(b"x" * 299 + b"\n")
    assert writer.dropped == 1


def test_close_does_not_wait_for_a_stalled_reader() -> None:
    """Stopping is bounded, whoever reads."""
    reader, stream = os.pipe()
    log = open_log("info", "json", str, stream)
    for _ in range(5000):
        module_log.info("x", text="y" * 100)
    assert not log.close(0.1)
    assert log.dropped > 0
    os.close(reader)  # frees the thread
    assert log.close()
    os.close(stream)


def test_a_reader_that_went_away_is_survived(tmp_path: Path) -> None:
    """Nobody reads, nothing is raised; what is written once somebody does begins on a line of its own."""
    reader, stream = os.pipe()
    with closing(LogWriter(stream, lambda count: b"dropped %d\n" % count)) as writer:
        writer.start()
        writer.put(b"a" * 2**17 + b"\n")
        os.read(reader, 2**16)
        os.close(reader)
        while not writer.dropped:
            time.sleep(0.001)
        file = os.open(tmp_path / "log", os.O_CREAT | os.O_WRONLY)
        os.dup2(file, stream)
        writer.put(b"back\n")
        assert writer.close(5)
    os.close(file)
    os.close(stream)
    assert (tmp_path / "log").read_bytes() == b"\nback\ndropped 1\n"


def test_a_non_blocking_stream_loses_nothing() -> None:
    """Another process that shares the terminal may have set it non-blocking; a full pipe is then an error."""
    with pipe() as (reader, stream):
        os.set_blocking(stream, False)
        with closing(open_log("info", "json", str, stream)) as log:
            for number in range(2000):
                module_log.info("x", number=number, text="y" * 100)
            assert [line["number"] for line in read_lines(reader, 2000)] == list(range(2000))
            assert log.dropped == 0
