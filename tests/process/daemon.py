"""A real daemon for a test: started with a configuration, read line by line, ended with a signal."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

ROOT: Final = Path(__file__).parents[2]
PATHS: Final = f"{ROOT}:{ROOT / 'daemon'}"
PATIENCE: Final = 15.0

Line = dict[str, Any]


class Daemon:
    """``fetchd run`` on ``config``; entering the context waits until it is ready."""

    def __init__(
        self,
        folder: Path,
        config: str,
        *,
        environment: Mapping[str, str] | None = None,
        arguments: Sequence[str] = (),
    ) -> None:
        self.folder = folder
        self.state = folder / "state"
        self.config = folder / "fetchd.toml"
        self.write(config)
        self._environment = {**os.environ, "PYTHONPATH": PATHS, **(environment or {})}
        self._arguments = arguments
        self._changed = threading.Condition()
        self._lines: list[Line] = []
        self.raw: list[str] = []
        self.process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        try:
            self.wait_for("daemon_ready")
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        if self.process is not None:
            self._reader.join(PATIENCE)
            assert self.process.stderr is not None
            self.process.stderr.close()

    def write(self, config: str) -> None:
        """Write the configuration; without an address to serve a page at, unless it names one."""
        quiet = "" if "listen" in config else 'listen = ""\n'
        self.config.write_text(f'[daemon]\nstate_dir = "state"\n{quiet}{config}')

    def start(self) -> None:
        """Start the process, without waiting for anything."""
        command = [sys.executable, "-m", "fetchd", "run", "-c", str(self.config), *self._arguments]
        self.process = subprocess.Popen(command, env=self._environment, cwd=self.folder, stderr=subprocess.PIPE)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        """The daemon's process id."""
        assert self.process is not None
        return self.process.pid

    def lines(self, event: str | None = None, **fields: Any) -> list[Line]:
        """Return the log lines so far: those of ``event``, with these values."""
        wanted = {**({"event": event} if event else {}), **fields}
        with self._changed:
            return [line for line in self._lines if wanted.items() <= line.items()]

    def wait_for(self, event: str, count: int = 1, *, patience: float = PATIENCE, **fields: Any) -> list[Line]:
        """Wait until ``count`` such lines have come and return them."""
        end = time.monotonic() + patience
        with self._changed:
            while len(found := self.lines(event, **fields)) < count:
                if not self._changed.wait(end - time.monotonic()):
                    raise AssertionError(
                        f"no {count} x {event} {fields} within {patience} s:\n" + "".join(self.raw[-30:])
                    )
        return found

    def wait_until(self, reached: Callable[[], bool]) -> None:
        """Wait until ``reached`` says so; it is asked after each line."""
        end = time.monotonic() + PATIENCE
        with self._changed:
            while not reached():
                if time.monotonic() > end:
                    raise AssertionError("it was not reached:\n" + "".join(self.raw[-30:]))
                self._changed.wait(0.2)

    def signal(self, number: signal.Signals = signal.SIGTERM) -> None:
        """Send a signal to the daemon alone."""
        os.kill(self.pid, number)

    def wait(self, patience: float = PATIENCE) -> int:
        """Wait for the end and return the exit status, with every line read."""
        assert self.process is not None
        code = self.process.wait(patience)
        self._reader.join(PATIENCE)
        return code

    def stop(self) -> int:
        """Stop it in order and return the exit status."""
        self.signal()
        return self.wait()

    def status(self, key: str) -> int:
        """Return a figure of /proc/PID/status: VmRSS and VmHWM in KiB, Threads."""
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith(f"{key}:"):
                return int(line.split()[1])
        raise KeyError(key)

    def descriptors(self) -> int:
        """Return how many files and sockets it holds open."""
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def _read(self) -> None:
        assert self.process is not None
        assert self.process.stderr is not None
        for raw in self.process.stderr:
            text = raw.decode("utf-8", "replace")
            with self._changed:
                self.raw.append(text)
                try:
                    self._lines.append(json.loads(text))
                except ValueError:
                    self._lines.append({"event": "not_json", "text": text})
                self._changed.notify_all()


UNPRIVILEGED: Final = ("setpriv", "--bounding-set=-all", "--inh-caps=-all") if os.geteuid() == 0 else ()
"""Takes from root what lets it read and write whatever it likes."""


def fetchd(
    *arguments: str, folder: Path, environment: Mapping[str, str] | None = None, before: Sequence[str] = ()
) -> subprocess.CompletedProcess[str]:
    """Run another verb to its end; ``before`` is the command that begins it."""
    return subprocess.run(
        [*before, sys.executable, "-m", "fetchd", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": PATHS, **(environment or {})},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
