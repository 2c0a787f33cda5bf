"""Where lines go: rendered where they arise, written by a thread, so that a stalled reader holds nobody up."""

from __future__ import annotations

import json
import logging
import math
import os
import re
import sys
import threading
import traceback
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from datetime import UTC, datetime
from itertools import islice
from typing import Any, Final, Literal

import structlog
from structlog.typing import EventDict

from fetchd.lines import LogWriter, journalled

Level = Literal["debug", "info", "warning", "error"]
Format = Literal["auto", "console", "json"]
Redact = Callable[[Any], Any]

LONGEST_LINE: Final = 47 * 2**10
"""journald breaks longer ones than 48 KiB in two, and half a line is no JSON."""
LONGEST_TEXT: Final = 8 * 2**10

# Secrets are sought in this much of a text before it is cut, or one would be cut in half and half shown.
_SEARCHED: Final = 8 * LONGEST_TEXT
_DEPTH: Final = 3
_ITEMS: Final = 32

_QUIET: Final = {  # below these levels they tell URLs and headers with secrets, or repeat what a Run's line says
    "aiohttp": logging.WARNING,
    "apscheduler": logging.ERROR,
    "asyncio": logging.WARNING,
    "httpcore": logging.WARNING,
    "httpx": logging.WARNING,
    "oauthlib": logging.WARNING,
}
_PRIORITIES: Final = {"debug": 7, "warning": 4, "error": 3, "critical": 2}
"""As syslog counts them; whatever else there is has 6, "info"."""
_COLOURS: Final = {"debug": "2", "warning": "33", "error": "31", "critical": "1;31"}
_BARE: Final = re.compile(r"[\w./:@%+,*-]+", re.ASCII)
# The log's own words, by which lines are found: a secret that happens to be part of one does not blank it out.
_EVENT: Final = re.compile(r"[a-z]+(_[a-z]+)+")
_OWN: Final = re.compile(r"(job|run|slot)=[\w.:+-]{1,64}|(outcome|phase|reason)=[a-z]+(_[a-z0-9]+)*", re.ASCII)


class Renderer:
    """Makes one line of an event and its fields: redacted, bounded, without a control character.

    For journald each line begins with its priority, as sd-daemon(3) has it, which is taken off again.
    """

    def __init__(self, redact: Redact, *, console: bool = False, colour: bool = False, journal: bool = False) -> None:
        self._redact = redact
        self._format = self._console if console else self._json
        self._colour = colour
        self._journal = journal
        self._encode = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode

    def __call__(self, level: str, event: str, fields: Mapping[str, Any]) -> bytes:
        """Return the line; whatever the values are, it does not raise."""
        head = {"ts": datetime.now(UTC).isoformat(timespec="milliseconds")[:-6] + "Z", "level": level}
        try:
            own = "logger" not in fields and _EVENT.fullmatch(event)
            shown = head | {"event": str(event) if own else self._text(event)} | self._fields(fields)
            line = self._format(shown)
            if len(line) > LONGEST_LINE:
                kept = {key: shown[key] for key in ("ts", "level", "event", "job", "run") if key in shown}
                line = self._format(kept | {"line_too_long": len(line)})
        except Exception as error:
            line = self._format(head | {"event": "log_line_failed", "error": type(error).__name__})
        if self._journal:
            mark = f"<{_PRIORITIES.get(level, 6)}>"
            line = "".join(mark + part for part in line.splitlines(keepends=True))
        return line.encode("utf-8", "backslashreplace")

    def _fields(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        shown: dict[str, Any] = {}
        for key, value in fields.items():
            if key == "exc_info":
                if error := _exception(value):
                    shown["exception"] = self._text(_traceback(error))
            elif key in {"ts", "level", "event"}:
                shown[f"{key}_"] = self._clean(value)
            else:
                own = isinstance(value, str) and _OWN.fullmatch(f"{key}={value}")
                shown[key] = str(value) if own else self._clean(value)
        return shown

    def _clean(self, value: Any, depth: int = _DEPTH) -> Any:
        if isinstance(value, str):
            return self._text(value)
        if value is None or (isinstance(value, int) and abs(value) < 2**63):
            return value
        if isinstance(value, float):
            return value if math.isfinite(value) else str(value)
        if depth and isinstance(value, Mapping):
            first = islice(value.items(), _ITEMS)
            items = {self._text(_shown(key)): self._clean(item, depth - 1) for key, item in first}
            return items if len(value) <= _ITEMS else items | {"...": len(value) - _ITEMS}
        if depth and isinstance(value, list | tuple | set | frozenset):
            shown = [self._clean(item, depth - 1) for item in islice(value, _ITEMS)]
            return shown if len(value) <= _ITEMS else [*shown, f"... {len(value) - _ITEMS} more"]
        return self._text(_shown(value))

    def _text(self, text: str) -> str:
        if type(text) is not str:
            text = str.__str__(text)  # an enum's own text, not its name
        if len(text) > _SEARCHED:
            text = text[: _SEARCHED // 2] + text[-_SEARCHED // 2 :]
        text = self._redact(text)
        half = LONGEST_TEXT // 2
        return text if len(text) <= LONGEST_TEXT else f"{text[:half]} [... cut ...] {text[-half:]}"

    def _json(self, shown: dict[str, Any]) -> str:
        return self._encode(shown) + "\n"  # ASCII alone: no line separator, no escape sequence of a terminal

    def _console(self, shown: dict[str, Any]) -> str:
        rest = dict(shown)
        level = f"{rest['level']:<7}"
        if self._colour and (code := _COLOURS.get(rest["level"])):
            level = f"\x1b[{code}m{level}\x1b[0m"
        head = f"{rest.pop('ts')} {level} {printable(rest.pop('event')):<18}"
        del rest["level"]
        trace = rest.pop("exception", "")
        words = [f"{printable(key)}={_word(value)}" for key, value in rest.items() if value is not None]
        lines = [" ".join([head, *words]).rstrip(), *map(printable, trace.splitlines())]
        return "\n    | ".join(lines) + "\n"


class Log:
    """The open log of this process; ``close`` puts everything back as it was."""

    def __init__(self, render: Renderer, writer: LogWriter) -> None:
        self._render = render
        self._writer = writer
        self._undo = ExitStack()

    @property
    def dropped(self) -> int:
        """Lines that nobody will read, since the start."""
        return self._writer.dropped

    def emit(self, level: str, event: str, fields: Mapping[str, Any]) -> None:
        """Write one line. It may be called from any thread, neither waits nor raises."""
        self._writer.put(self._render(level, event, fields))

    def close(self, timeout: float = 2.0) -> bool:
        """Write what is queued, for at most ``timeout`` seconds; return whether all of it was written."""
        written = self._writer.close(timeout)
        self._undo.close()
        return written

    def set_level(self, level: Level) -> None:
        """Write lines of ``level`` and above from here on."""
        least = _number(level)
        structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(least))
        for name, of_logger in _levels(least).items():
            logging.getLogger(name).setLevel(of_logger)

    def install(self, level: int) -> None:
        """Take over structlog, the standard library's logging and warnings, and stray errors that Python prints."""
        self._writer.start()
        self._install_structlog(level)
        self._install_logging(level)
        self._install_hooks()

    def _install_structlog(self, level: int) -> None:
        before = structlog.get_config()
        if structlog.is_configured():
            self._undo.callback(lambda: structlog.configure(**before))
        else:
            self._undo.callback(structlog.reset_defaults)

        def process(_logger: Any, method: str, event_dict: EventDict) -> EventDict:
            self.emit(method, event_dict.pop("event", ""), event_dict)
            raise structlog.DropEvent

        # Nothing is cached on the modules' loggers, or a closed log would live on in them. The processors are a
        # list, for structlog.testing.capture_logs changes it in place.
        structlog.configure(
            processors=[process],
            wrapper_class=structlog.make_filtering_bound_logger(level),
            context_class=dict,
            logger_factory=lambda *_: None,
            cache_logger_on_first_use=False,
        )

    def _install_logging(self, level: int) -> None:
        root = logging.getLogger()
        self._undo.callback(setattr, root, "handlers", root.handlers)
        root.handlers = [_Bridge(self.emit)]
        for name, of_logger in _levels(level).items():
            logger = logging.getLogger(name)
            self._undo.callback(logger.setLevel, logger.level)
            logger.setLevel(of_logger)
        self._undo.callback(logging.captureWarnings, False)
        logging.captureWarnings(True)

    def _install_hooks(self) -> None:
        """Python's own hooks write to stderr at once, in many lines: a stalled reader would hold the loop."""
        self._undo.callback(setattr, sys, "unraisablehook", sys.unraisablehook)
        self._undo.callback(setattr, threading, "excepthook", threading.excepthook)

        def unraisable(args: sys.UnraisableHookArgs) -> None:
            fields = {"message": args.err_msg, "object": args.object, "exc_info": args.exc_value}
            self.emit("error", "unraisable_exception", fields)

        def stray(args: threading.ExceptHookArgs) -> None:
            if not isinstance(args.exc_value, SystemExit):
                name = args.thread.name if args.thread else None
                self.emit("error", "thread_failed", {"thread": name, "exc_info": args.exc_value})

        sys.unraisablehook = unraisable
        threading.excepthook = stray


class _Bridge(logging.Handler):
    """Brings the records of the standard library's loggers into the one log."""

    def __init__(self, emit: Callable[[str, str, Mapping[str, Any]], None]) -> None:
        super().__init__()
        self._emit = emit

    def emit(self, record: logging.LogRecord) -> None:
        try:
            message = record.getMessage()
        except Exception as error:
            message = f"{record.msg} ({type(error).__name__} in its arguments)"
        self._emit(record.levelname.lower(), message, {"logger": record.name, "exc_info": record.exc_info})


def open_log(
    level: Level, format: Format, redact: Redact, stream_fd: int = 2, *, colour: bool = False, journal: str = ""
) -> Log:
    """Open the process's log on ``stream_fd``.

    ``redact`` takes secrets out of a text; ``colour`` paints the levels of the console form; ``journal`` is which file
    leads to journald, as $JOURNAL_STREAM says it.
    """
    console = format == "console" or (format == "auto" and os.isatty(stream_fd))
    render = Renderer(redact, console=console, colour=colour and console, journal=journalled(stream_fd, journal))
    writer = LogWriter(stream_fd, lambda count: render("warning", "log_lines_dropped", {"count": count}))
    log = Log(render, writer)
    log.install(_number(level))
    return log


def _number(level: Level) -> int:
    number: int = getattr(logging, level.upper())
    return number


def _levels(level: int) -> dict[str | None, int]:
    """Return the level of each of the standard library's loggers that has one of its own; of all others under None."""
    return {None: level, **{name: max(level, least) for name, least in _QUIET.items()}}


def describe(error: BaseException) -> str:
    """Return the type and the message of ``error``: half the exceptions of timeouts have no message."""
    name = type(error).__name__
    try:
        message = str(error)
    except Exception:
        return name
    return f"{name}: {message}" if message else name


def _exception(value: Any) -> BaseException | None:
    if isinstance(value, BaseException):
        return value
    if isinstance(value, tuple):
        return value[1] if len(value) == 3 else None
    return sys.exc_info()[1] if value else None


def _traceback(error: BaseException) -> str:
    """Return ``error`` with its causes as text, without local values."""
    try:
        found = traceback.TracebackException.from_exception(error, limit=-20, capture_locals=False, compact=True)
        return "".join(found.format()).rstrip("\n")
    except Exception:  # the user's own exception class can be broken in any way
        return describe(error)


def _shown(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, bytes):
        return value[:_SEARCHED].decode("utf-8", "backslashreplace")
    if isinstance(value, BaseException):
        return describe(value)
    try:
        return str(value)
    except Exception as error:
        return f"<{type(value).__name__} that cannot be shown: {type(error).__name__}>"


def _word(value: Any) -> str:
    if isinstance(value, str) and _BARE.fullmatch(value):
        return value
    return printable(json.dumps(value, ensure_ascii=False))


def printable(text: str, *, keep: str = "") -> str:
    """Return ``text`` with all that a terminal would obey, or that reorders a line, escaped; but for ``keep``."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in keep else c.encode("unicode_escape").decode("ascii") for c in text)
