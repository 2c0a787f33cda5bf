"""What commands, functions and receivers are told of a delivery, and what fetchd itself reads of its environment."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields
from datetime import UTC, datetime
from typing import Final

from docs.generating.markdown import code, document, table
from fetchd.body import Body
from fetchd.job.commands import INHERITED
from fetchd.notifiers.command import _told
from fetchd.notifiers.message import Message
from fetchd.run import Delivery, Fetched
from fetchd.sinks.command import EX_DATAERR
from fetchd.usercode import Result

DELIVERY: Final[Mapping[str, str]] = {
    "FETCHD_JOB": "the job's name",
    "FETCHD_RUN": "the Run's id; ids sort by time",
    "FETCHD_SLOT": "when the Run was due, RFC 3339 in UTC",
    "FETCHD_DELIVERY": "the delivery's id: the same each time that it is tried, so what came twice can be told",
    "FETCHD_STATUS": "the HTTP status; empty for a `collect` job",
    "FETCHD_URL": "where the result is from, without user, query and fragment; empty for a `collect` job",
    "FETCHD_CONTENT_TYPE": "what the server says that the body is",
}
ALERT: Final[Mapping[str, str]] = {
    "FETCHD_ALERT_ID": "the message's id, the same each time that it is tried",
    "FETCHD_ALERT_TIME": "when it was written",
    "FETCHD_ALERT_HOST": "the name of the machine that fetchd runs on",
    "FETCHD_ALERT_STATE": "`problem`, `recovered`, `mixed`, `info` or `test`",
    "FETCHD_ALERT_TITLE": "the message in one line",
    "FETCHD_ALERT_TEXT": "the lines below it; may be empty",
    "FETCHD_ALERT_JOBS": "the jobs that it is about, with spaces between them",
}
RESULT: Final[Mapping[str, str]] = {
    "job": "the job's name",
    "run": "the Run's id",
    "slot": "when the Run was due, a `datetime` in UTC",
    "delivery": "the delivery's id, the same each time that it is tried",
    "status": "the HTTP status, or `None` for a `collect` job",
    "url": "where the result is from, without user, query and fragment",
    "content_type": "what the server says that the body is",
    "headers": "some of the response's headers",
    "body": "the body, `bytes`",
}
HEADERS: Final[Mapping[str, str]] = {
    "Idempotency-Key": "the delivery's id; of a batch, with the batch's number behind it",
    "Content-Type": "as the server declared it, unless the sink's `headers` say otherwise",
    "X-Fetchd-Job": "the job's name",
    "X-Fetchd-Run": "the Run's id",
    "X-Fetchd-Slot": "when the Run was due",
    "X-Fetchd-Delivery": "the delivery's id",
}
READ: Final[Mapping[str, str]] = {
    "FETCHD_CONFIG": "the configuration file, unless `-c` names one",
    "STATE_DIRECTORY": "the state directory, unless `daemon.state_dir` names one; systemd sets it",
    "XDG_STATE_HOME": "else, the state is in its folder `fetchd`",
    "XDG_CONFIG_HOME": "where the user's own configuration is looked for",
    "HOME": "stands in for both (`~/.local/state`, `~/.config`)",
    "CREDENTIALS_DIRECTORY": "where `{ credential = … }` is read from; systemd sets it",
    "JOURNAL_STREAM": "whether the log goes to journald, which is then told how bad each line is",
    "NOTIFY_SOCKET, WATCHDOG_USEC, WATCHDOG_PID": "how systemd is told that the daemon is ready and alive",
    "HTTP_PROXY, HTTPS_PROXY, ALL_PROXY, NO_PROXY": 'count only for jobs with `proxy = "env"`',
    "NO_COLOR": "no colours on a terminal",
}
COMMAND: Final = f"""
A command finds the body on its standard input. Exit status 0 says that it took the result. {EX_DATAERR} (`EX_DATAERR`)
says that this result will never do: the delivery becomes a dead letter at once. Any other is tried again. What it
prints is logged as `command_output`. It is killed, with all that it started, when its time is over.
"""
_AT: Final = datetime(2026, 1, 1, tzinfo=UTC)


def page() -> str:
    """Return the page."""
    heads = ("Variable", "Holds")
    inherited = ", ".join(map(code, sorted(INHERITED)))
    return document(
        "Environment of commands and functions",
        "## Commands of sinks",
        COMMAND,
        table(heads, _rows(_of_deliveries(), DELIVERY)),
        f"Besides these it has {inherited} and `LC_*` from the daemon's environment, and what the sink's `env` names. "
        "Of the daemon's other variables it has none.",
        "## Functions of sinks",
        "A function is called with the result. What it returns is ignored; what it raises is a failed try.",
        table(("Attribute", "Holds"), _rows([one.name for one in fields(Result)], RESULT)),
        "`result.text()` is the body as text, `result.json()` the body parsed as JSON.",
        "## Receivers of webhooks",
        "A status from 200 to 299 says that the result was taken. 408, 425, 429 and 5xx are tried again, and so is a "
        "connection that fails. Any other status makes a dead letter. Redirects are not followed.",
        table(("Header", "Holds"), ((code(name), words) for name, words in HEADERS.items())),
        "## Commands of notifiers",
        "The message is on the standard input, as JSON. Exit status 0 says that it was taken.",
        table(heads, _rows(_of_alerts(), ALERT)),
        "## What fetchd reads itself",
        table(heads, ((", ".join(map(code, name.split(", "))), words) for name, words in READ.items())),
    )


def _of_deliveries() -> Iterable[str]:
    result = Fetched(200, "", "", {}, Body.of(b""))
    return Delivery("", "", "", _AT, "", result).environment()


def _of_alerts() -> Iterable[str]:
    return _told(Message("", _AT, "", "test", "", ""))


def _rows(names: Iterable[str], words: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    for name in names:
        yield code(name), words[name]
