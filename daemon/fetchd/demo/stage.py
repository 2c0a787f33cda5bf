"""What the tour shows: five jobs, a folder for them, and the real daemon and its upstream as processes."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from fetchd.demo.processes import PATIENCE, children, daemon, memory, upstream
from fetchd.errors import Reason

INTERVAL: Final = 1.0


@dataclass(frozen=True, slots=True)
class Scene:
    """One job: the upstream's mode that it fetches, that in at most 28 characters, and how its Runs end; "" is well."""

    job: str
    mode: str
    words: str
    ends: str = ""
    settings: str = ""


SCENES: Final = (
    Scene(
        "rates",
        "ok",
        "answers at once",
        settings="""\
sinks = [
  { kind = "file", path = "rates/latest.json" },
  { kind = "sqlite", path = "rates.db", table = "rates" },
  { kind = "command", argv = ["sh", "-c", "wc -c >> rates/sizes.txt"] },
]
""",
    ),
    Scene(
        "weather",
        "slow/0.3",
        "answers after 0.3 s",
        settings='sinks = [{ kind = "file", path = "weather.jsonl", mode = "append" }]\n',
    ),
    Scene("hung", "hang", "accepts, then never answers", Reason.TIMEOUT_READ),
    Scene("dripping", "drip/0.1", "a byte each 0.1 s, for ever", Reason.TIMEOUT_READ),
    Scene("flooding", "flood", "never stops sending", Reason.TOO_LARGE, 'max_body = "256KiB"\n'),
)

_CONFIG: Final = """\
[daemon]
state_dir = "state"
listen = "127.0.0.1:0"
shutdown_grace = "2s"

[log]
format = "json"

[defaults]
interval = "1s"
deadline = "900ms"
timeout = "600ms"
retries = 0
"""

_JOB: Final = """
[jobs.{scene.job}]
url = "{url}/{scene.mode}"
{scene.settings}"""


class Stage:
    """The running daemon, seen from outside: its log's lines, its process, and the files that it writes."""

    def __init__(self, folder: Path, process: subprocess.Popen[bytes]) -> None:
        self.out = folder / "state" / "out"
        self._process = process
        self._unread = b""
        self._log_ended = False

    @property
    def pid(self) -> int:
        """The daemon's process id."""
        return self._process.pid

    @property
    def memory(self) -> int:
        """The daemon's resident bytes; 0 if it is gone."""
        return memory(self.pid)

    @property
    def commands(self) -> int:
        """How many commands the daemon's sinks have running: children of its one process."""
        return children(self.pid)

    def lines(self, wait: float) -> list[str] | None:
        """Return the lines that come within ``wait`` seconds, perhaps none; None once the log has ended."""
        assert self._process.stderr is not None
        end = time.monotonic() + wait
        before = len(self._unread)
        while not self._log_ended and (left := end - time.monotonic()) > 0:
            if select.select([self._process.stderr], [], [], left)[0]:
                piece = os.read(self._process.stderr.fileno(), 65536)
                self._unread += piece
                self._log_ended = not piece
        if self._log_ended and not self._unread and not before:
            return None
        *lines, self._unread = self._unread.split(b"\n")
        return [line.decode(errors="replace") for line in lines]

    def ask_to_stop(self) -> None:
        """Send SIGTERM."""
        self._process.send_signal(signal.SIGTERM)

    def status(self) -> int | None:
        """Return the exit status; None if the daemon does not end within `PATIENCE`."""
        try:
            return self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            return None


@contextmanager
def staged() -> Iterator[Stage]:
    """Start everything, in a folder that goes with it.

    Raises:
        DemoError: the upstream did not start.
    """
    with tempfile.TemporaryDirectory(prefix="fetchd-demo-") as name, upstream() as (_, url):
        folder = Path(name)
        config = folder / "fetchd.toml"
        config.write_text(_CONFIG + "".join(_JOB.format(scene=scene, url=url) for scene in SCENES))
        with daemon(config, subprocess.PIPE) as process:
            yield Stage(folder, process)
