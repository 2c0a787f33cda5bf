"""Results piped to commands: real ones, well-behaved and not."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import anyio
import pytest
from pydantic import ValidationError
from structlog.testing import capture_logs

from fetchd.errors import SinkError
from fetchd.sinks.command import CommandSink
from tests.processes import alive, births, descriptors, until
from tests.sinks.made import delivery, options, resources


def sink(out: Path, *argv: str, **values: Any) -> CommandSink:
    """Return a sink that starts ``argv``."""
    return CommandSink(options("command", argv=list(argv), **values), resources(out))


def sh(out: Path, script: str, **values: Any) -> CommandSink:
    """Return a sink that runs a shell's script."""
    return sink(out, "sh", "-c", script, **values)


class TestOptions:
    """What can be said before anything is started."""

    @pytest.mark.parametrize(
        ("values", "message"),
        [
            ({"argv": []}, "name a command"),
            ({"argv": [""]}, "name a command"),
            ({"argv": ["a", "\0"]}, "NUL"),
            ({"argv": "python x.py"}, "tuple"),
            ({"argv": ["a"], "cwd": ""}, "at least 1"),
            ({"argv": ["a"], "env": {"A=B": "x"}}, "cannot be set"),
            ({"argv": ["a"], "env": {"": "x"}}, "cannot be set"),
            ({"argv": ["a"], "env": {"A": "x\0"}}, "cannot be set"),
            ({"argv": ["a"], "env": {"FETCHD_JOB": "x"}}, "not yours to set"),
        ],
    )
    def test_unsound_options_are_findings(self, values: dict[str, Any], message: str) -> None:
        """They are told at the check, not at the first delivery."""
        with pytest.raises(ValidationError, match=message):
            options("command", **values)

    def test_what_the_machine_lacks_is_a_problem(self, tmp_path: Path) -> None:
        """As far as it can be told from here."""

        def problems(**values: Any) -> list[tuple[str, str]]:
            return list(options("command", **values).problems())

        assert problems(argv=["sh"]) == []
        assert problems(argv=["no-such-thing"]) == [("argv", "there is no command no-such-thing")]
        [(_, hint)] = problems(argv=["python manage.py"])
        assert "write each argument as a text of its own" in hint
        assert problems(argv=["sh"], env={"PATH": str(tmp_path)}) == [("argv", "there is no command sh")]
        assert problems(argv=["sh"], cwd="/nowhere") == [("cwd", "there is no folder /nowhere")]
        assert problems(argv=["./run"]) == []  # relative to a folder that only the daemon knows
        assert problems(argv=["./run"], cwd=str(tmp_path)) == [("argv", "there is no command ./run")]
        (tmp_path / "run").write_text("#!/bin/sh\n")
        (tmp_path / "run").chmod(0o755)
        assert problems(argv=["./run"], cwd=str(tmp_path)) == []
        assert problems(argv=["/nowhere/run"]) == [("argv", "there is no command /nowhere/run")]


async def test_the_command_gets_body_and_environment(tmp_path: Path) -> None:
    """A script needs nothing else to know what it is given; of the daemon's own environment it gets no secrets."""
    code = "import json,os,sys; json.dump([sys.stdin.read(), dict(os.environ), os.getcwd()], open('got', 'w'))"
    inherited = {"PATH": os.environ["PATH"], "HOME": "/home/x", "LC_ALL": "C.UTF-8", "RATES_TOKEN": "s3cret"}
    made = options("command", argv=[sys.executable, "-c", code], env={"MODE": "full", "HOME": "/home/y"})
    await CommandSink(made, resources(tmp_path), inherited).deliver(delivery())
    body, environment, folder = json.loads((tmp_path / "got").read_text())
    assert body == '{"rate": 1.10}'
    assert folder == str(tmp_path)
    assert environment == {
        "PATH": os.environ["PATH"],
        "HOME": "/home/y",
        "LC_ALL": "C.UTF-8",
        "MODE": "full",
        "FETCHD_JOB": "rates",
        "FETCHD_RUN": "r1",
        "FETCHD_SLOT": "2026-03-02T00:30:00+01:00",
        "FETCHD_DELIVERY": "d1",
        "FETCHD_STATUS": "200",
        "FETCHD_URL": "https://upstream.test/v1/rates",
        "FETCHD_CONTENT_TYPE": "application/json",
    }


async def test_the_folder_is_relative_to_out(tmp_path: Path) -> None:
    """As other relative paths of sinks are; absolute ones are taken as they are."""
    (tmp_path / "sub").mkdir()
    await sh(tmp_path, "pwd > here", cwd="sub").deliver(delivery())
    assert (tmp_path / "sub/here").read_text().strip() == str(tmp_path / "sub")
    await sh(tmp_path / "nowhere", "pwd > there", cwd=str(tmp_path)).deliver(delivery())
    assert (tmp_path / "there").read_text().strip() == str(tmp_path)


@pytest.mark.parametrize("spooled", [False, True])
async def test_a_large_body_arrives_whole(tmp_path: Path, spooled: bool) -> None:
    """More than a pipe holds, from memory and from a file."""
    content = os.urandom(300_000)
    (tmp_path / "spooled").write_bytes(content)
    await sh(tmp_path, "cat > got").deliver(delivery(tmp_path / "spooled" if spooled else content))
    assert (tmp_path / "got").read_bytes() == content


@pytest.mark.parametrize("script", ["true", "head -c 1 > /dev/null", "exec 0<&-; true"])
async def test_a_command_need_not_read(tmp_path: Path, script: str) -> None:
    """Its exit status is its answer."""
    await sh(tmp_path, script).deliver(delivery(b"x" * 1_000_000))


@pytest.mark.parametrize(
    ("script", "permanent", "message"),
    [
        ("exit 1", False, "sh exited with status 1"),
        ("exit 75", False, "sh exited with status 75"),
        ("exit 65", True, "sh exited with status 65"),
        ("kill -KILL $$", False, "sh was ended by SIGKILL"),
        ("seq 9 >&2; echo noise; exit 2", False, "sh exited with status 2: 5\n6\n7\n8\n9"),
        ("echo only this; exit 2", False, "sh exited with status 2: only this"),
    ],
)
async def test_any_other_end_is_a_failure(tmp_path: Path, script: str, permanent: bool, message: str) -> None:
    """With the last words that the command had for it."""
    with pytest.raises(SinkError) as caught:
        await sh(tmp_path, script).deliver(delivery())
    assert str(caught.value) == message
    assert caught.value.permanent is permanent


async def test_what_cannot_be_started_is_permanent(tmp_path: Path) -> None:
    """A missing command is a mistake in the configuration; a missing folder may be a disk that is not there yet."""
    (tmp_path / "plain").write_text("#!/bin/sh\n")
    (tmp_path / "garbage").write_bytes(b"\x00\x01")
    (tmp_path / "garbage").chmod(0o755)
    for argv in ("no-such-thing", "/nowhere/run", "./plain", "./garbage", "./plain/x"):
        with pytest.raises(SinkError, match="cannot start") as caught:
            await sink(tmp_path, argv).deliver(delivery())
        assert caught.value.permanent, argv
    with pytest.raises(SinkError, match=r"cannot start true: .*nowhere") as caught:
        await sink(tmp_path, "true", cwd="nowhere").deliver(delivery())
    assert not caught.value.permanent
    (tmp_path / "gone").write_bytes(b"x")
    gone = delivery(tmp_path / "gone")
    (tmp_path / "gone").unlink()
    with pytest.raises(SinkError, match=r"No such file or directory.*gone") as caught:
        await sink(tmp_path, "true").deliver(gone)
    assert not caught.value.permanent


async def test_what_an_environment_cannot_hold_is_left_out(tmp_path: Path) -> None:
    """An upstream's header must not keep the command from starting."""
    target = sh(tmp_path, 'printf %s "$FETCHD_CONTENT_TYPE" > got')
    await target.deliver(delivery(content_type="text/\0\udcff"))
    assert (tmp_path / "got").read_text() == "text/??"


async def test_output_is_logged_and_bounded(tmp_path: Path) -> None:
    """It belongs to the delivery, and its end says the most."""
    with capture_logs() as logs:
        await sh(tmp_path, "echo said; head -c 200000 /dev/zero | tr '\\0' x >&2").deliver(delivery())
        await sh(tmp_path, "true").deliver(delivery())
    [line] = logs
    assert len(line.pop("stderr")) == 16 * 1024
    assert line == {
        "event": "command_output",
        "log_level": "info",
        "job": "rates",
        "run": "r1",
        "sink": "target",
        "command": "sh",
        "exit_status": 0,
        "stdout": "said",
    }


async def test_a_deadline_kills_the_whole_group(tmp_path: Path) -> None:
    """And what the command had said by then is logged."""
    born = births()
    began = time.monotonic()
    with capture_logs() as logs:
        script = "cat > /dev/null; echo so far; sleep 60 & echo $! > pid; wait"  # goes on once it is being listened to
        task = asyncio.create_task(sh(tmp_path, script).deliver(delivery()))
        await until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text().strip())
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert time.monotonic() - began < 5
    await until(lambda: not alive(int((tmp_path / "pid").read_text())))
    assert born() == set()
    assert [(line["stdout"], line["exit_status"]) for line in logs] == [("so far", None)]


@pytest.mark.parametrize("start", ["", "setsid "])
async def test_what_a_command_leaves_running_holds_nobody(tmp_path: Path, start: str) -> None:
    """It has the pipes, and may have left the group; the command itself is done."""
    began = time.monotonic()
    await sh(tmp_path, f"{start}sleep 60 & echo $! > pid").deliver(delivery())
    assert time.monotonic() - began < 5
    os.kill(int((tmp_path / "pid").read_text()), signal.SIGKILL)


async def test_a_grandchild_that_left_the_group_does_not_hold_a_deadline(tmp_path: Path) -> None:
    """It cannot be killed from here; it must not be waited for either."""
    born = births()
    script = "setsid sh -c 'echo $$ > pid; exec sleep 60' & wait"
    with anyio.move_on_after(5) as scope:
        task = asyncio.create_task(sh(tmp_path, script).deliver(delivery()))
        await until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text().strip())
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert not scope.cancelled_caught
    assert born() == set()
    os.kill(int((tmp_path / "pid").read_text()), signal.SIGKILL)


async def test_nothing_is_left_after_many(tmp_path: Path) -> None:
    """No zombie, no descriptor, no warning; neither of those that end nor of those that are cut off."""
    born = births()
    target = sh(tmp_path, "cat > /dev/null; sleep 0.02")
    await target.deliver(delivery())
    before = descriptors()
    for number in range(8):
        with anyio.move_on_after(0.004 * number):
            await target.deliver(delivery(b"x" * 100_000))
    await until(lambda: born() == set() and descriptors() == before)
