"""What a terminal is shown while something goes on, on a real one; and that nobody else is shown any of it."""

from __future__ import annotations

import os
import pty
import re
import select
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner

from fetchd.cli import main
from fetchd.store import letters
from tests.process.daemon import PATHS, Daemon, fetchd
from tests.upstream import UpstreamProcess

PATIENCE = 15.0
DRAWN = re.compile(r"headers, attempt 1, 0 bytes")
COLOURS = re.compile(r"\x1b\[[0-9;]*m")


@pytest.fixture(scope="module")
def upstream() -> Iterator[UpstreamProcess]:
    """Give an upstream that is slow enough to be watched."""
    with UpstreamProcess() as process:
        yield process


class Screen:
    """A terminal on which a verb writes its stderr; its stdout is a pipe."""

    def __init__(self, folder: Path, *arguments: str, **environment: str) -> None:
        self._ours, theirs = pty.openpty()
        inherited = {name: value for name, value in os.environ.items() if name not in {"NO_COLOR", "TERM"}}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "fetchd", *arguments],
            cwd=folder,
            env={**inherited, "TERM": "xterm-256color", "PYTHONPATH": PATHS, **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=theirs,
        )
        os.close(theirs)
        self.seen = ""

    def read(self) -> bool:
        """Take what the verb has drawn since; return False once it has ended."""
        assert select.select([self._ours], [], [], PATIENCE)[0], self.seen
        try:
            self.seen += os.read(self._ours, 65536).decode()
        except OSError:  # EIO: the last one who had it open has gone
            return False
        return True

    def until(self, pattern: re.Pattern[str]) -> None:
        """Wait until ``pattern`` is drawn."""
        while not pattern.search(self.seen):
            assert self.read(), self.seen

    def end(self) -> tuple[int, str]:
        """Return the exit status, and what came on stdout."""
        while self.read():
            """Until it is over."""
        out, _ = self.process.communicate(timeout=PATIENCE)
        return self.process.returncode, out.decode()

    def close(self) -> None:
        """Let go of it."""
        self.process.kill()
        self.process.communicate()
        os.close(self._ours)


@contextmanager
def screens(folder: Path, *calls: tuple[tuple[str, ...], Mapping[str, str]]) -> Iterator[list[Screen]]:
    """Give a terminal for each call, all at one time."""
    found = [Screen(folder, *arguments, **environment) for arguments, environment in calls]
    try:
        yield found
    finally:
        for screen in found:
            screen.close()


def left_on(seen: str) -> str:
    """Return what a terminal shows in the end of what was written to it, of one line at a time."""
    line, lines = "", []
    for part in re.split(r"(\x1b\[2K|\x1b\[1A|\r|\n|\x1b\[[?0-9;]*[a-zA-Z])", seen):
        if part == "\x1b[2K":
            line = ""
        elif part == "\n":
            lines.append(line)
            line = ""
        elif part == "\x1b[1A":
            line = lines.pop()
        elif not part.startswith("\x1b") and part != "\r":
            line += part
    return "\n".join([*lines, line]).strip()


def test_a_run_is_followed_on_a_terminal(tmp_path: Path, upstream: UpstreamProcess) -> None:
    """Phase, attempt and bytes, in a line that is gone afterwards; NO_COLOR and a dumb terminal are respected."""
    path = tmp_path / "fetchd.toml"
    path.write_text(f'[daemon]\nstate_dir = "state"\n[jobs.slow]\nurl = "{upstream.url("lat/0.6")}"\n')
    call = ("once", "slow", "--dry-run", "-c", str(path))
    with screens(tmp_path, (call, {}), (call, {"NO_COLOR": "1"}), (call, {"TERM": "dumb"})) as (plain, bare, dumb):
        assert [screen.end()[0] for screen in (plain, bare, dumb)] == [0, 0, 0]
    assert DRAWN.search(plain.seen)
    assert COLOURS.search(plain.seen)
    assert left_on(plain.seen) == ""
    assert DRAWN.search(bare.seen)
    assert set(COLOURS.findall(bare.seen)) <= {"\x1b[0m"}
    assert dumb.seen == ""
    piped = fetchd(*call, folder=tmp_path)
    assert (piped.returncode, piped.stderr) == (0, "")
    assert "\x1b" not in piped.stdout


def test_what_is_connected_to_is_counted(tmp_path: Path, upstream: UpstreamProcess) -> None:
    """Findings stay on the terminal; the count of servers goes."""
    path = tmp_path / "fetchd.toml"
    path.write_text(
        f"""[daemon]
        state_dir = "state"
        [jobs.gone]
        url = "http://127.0.0.1:1/"
        [jobs.silent]
        url = "https://127.0.0.1:{upstream.ports["silent"]}/"
        timeout = "500ms"
        """
    )
    with screens(tmp_path, (("check", "--online", "-c", str(path)), {})) as (screen,):
        code, out = screen.end()
    assert code == 78
    assert "1 of 2 servers connected to" in screen.seen
    lines = left_on(screen.seen).splitlines()
    assert [line.partition(" (")[0].partition(": ")[0] for line in lines] == [
        "failed 127.0.0.1:1",
        f"failed 127.0.0.1:{upstream.ports['silent']}",
    ]
    assert out.endswith("2 things wrong\n")


def test_dead_letters_are_looked_after_until_they_are_delivered(tmp_path: Path, upstream: UpstreamProcess) -> None:
    """With a daemon, ``--wait`` ends with the last delivery; else it says at once that nobody would make any."""
    command = f"test -e {tmp_path}/open || exit 65; sleep 0.5; cat >> {tmp_path}/taken"
    config = f"""
    [jobs.a]
    url = "{upstream.url("ok")}"
    interval = "1h"
    sinks = [{{ kind = "command", argv = ["sh", "-c", "{command}"] }}]
    """
    with Daemon(tmp_path, config) as daemon:
        where = ("-c", str(daemon.config))
        assert CliRunner().invoke(main, ["trigger", "a", *where]).exit_code == 1
        again = CliRunner().invoke(main, ["dead", "replay", "--all", "--wait", *where])
        assert (again.exit_code, again.stderr) == (1, "")
        assert again.stdout == "1 delivery to be tried again\n0 delivered, 0 still owed, 1 dead again\n"
        (tmp_path / "open").touch()
        with screens(tmp_path, (("dead", "replay", "--all", "--wait", *where), {})) as (screen,):
            code, out = screen.end()
        assert (code, out) == (0, "1 delivery to be tried again\n1 delivered, 0 still owed\n")
        assert "0 delivered, 1 still owed" in screen.seen
        assert left_on(screen.seen) == ""
        assert (tmp_path / "taken").exists()
        none = CliRunner().invoke(main, ["dead", "replay", "--all", "--wait", *where])
        assert (none.exit_code, none.stdout) == (0, "no dead letters\n")
        assert daemon.stop() == 0
    assert letters.memory(daemon.state, "a").dead == 0
    alone = CliRunner().invoke(main, ["dead", "replay", "--all", "--wait", *where])
    assert (alone.exit_code, alone.stderr.startswith("no fetchd runs")) == (69, True)
