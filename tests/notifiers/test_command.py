"""Messages piped to real commands."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from fetchd.notifiers.command import CommandNotifier
from fetchd.notifiers.message import NotifyError
from tests.notifiers.made import MESSAGE, notifier, options
from tests.processes import alive, until
from tests.sinks.made import resources


async def test_the_command_gets_the_message_and_no_secret_of_the_daemon(tmp_path: Path) -> None:
    """As fields on its input, and as words in its environment for a line of shell."""
    code = "import json,os,sys; json.dump([json.load(sys.stdin), dict(os.environ), os.getcwd()], open('got', 'w'))"
    made = options("command", argv=[sys.executable, "-c", code], env={"TO": "ops"})
    inherited = {"PATH": os.environ["PATH"], "TOKEN": "s3cret"}
    await CommandNotifier(made, resources(tmp_path), inherited).notify(MESSAGE)
    payload, environment, folder = json.loads((tmp_path / "got").read_text())
    assert payload == MESSAGE.payload() | {"jobs": list(MESSAGE.jobs), "daemon": []}
    assert folder == str(tmp_path)
    environment.pop("LC_CTYPE", None)
    assert environment == {
        "PATH": os.environ["PATH"],
        "TO": "ops",
        "FETCHD_ALERT_ID": "m1",
        "FETCHD_ALERT_TIME": "2026-03-02T12:00:00+00:00",
        "FETCHD_ALERT_HOST": "box",
        "FETCHD_ALERT_STATE": "problem",
        "FETCHD_ALERT_TITLE": "fetchd on box: a is failing: dns",
        "FETCHD_ALERT_TEXT": "3 in a row: <no> & such",
        "FETCHD_ALERT_JOBS": "a",
    }


async def test_a_failure_says_what_the_command_said(tmp_path: Path) -> None:
    """Its last words, as far as they are short."""
    with pytest.raises(NotifyError, match="sh exited with status 3: no mail today"):
        await notifier("command", tmp_path, argv=["sh", "-c", "echo no mail today >&2; exit 3"]).notify(MESSAGE)
    with pytest.raises(NotifyError, match=r"cannot start /nowhere/x: .*No such file"):
        await notifier("command", tmp_path, argv=["/nowhere/x"]).notify(MESSAGE)


async def test_one_that_is_cut_off_is_killed_with_its_group(tmp_path: Path) -> None:
    """A notifier that hangs must not pile up either."""
    hung = notifier("command", tmp_path, argv=["sh", "-c", "sleep 60 & echo $! > pid; wait"])
    task = asyncio.create_task(hung.notify(MESSAGE))
    await until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text().endswith("\n"))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    pid = int((tmp_path / "pid").read_text())
    await until(lambda: not alive(pid))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"argv": []}, "name a command"),
        ({"argv": ["a", "\0"]}, "NUL"),
        ({"argv": ["a"], "env": {"A=B": "x"}}, "cannot be set"),
        ({"argv": ["a"], "env": {"FETCHD_ALERT_ID": "x"}}, "not yours to set"),
    ],
)
def test_unsound_options_are_findings(values: dict[str, Any], message: str) -> None:
    """They are told at the check, not in the first outage."""
    with pytest.raises(ValidationError, match=message):
        options("command", **values)


def test_a_command_that_is_not_there_is_a_problem() -> None:
    """As far as it can be told from here."""
    assert list(options("command", argv=["sh"]).problems()) == []
    [(key, message)] = options("command", argv=["no such thing"]).problems()
    assert (key, message) == ("argv", "there is no command no such thing; write each argument as a text of its own")
