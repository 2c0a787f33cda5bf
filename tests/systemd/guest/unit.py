"""One unit: what is done to it, and what it and the service manager say."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

PATIENCE: Final = 20.0
EXAMPLES: Final = Path("/opt/check/examples")
STEPS_SINCE: Final = 254
"""The first systemd that knows RestartSteps=."""
NEWER: Final = ("'RestartSteps'", "'RestartMaxDelaySec'")
"""What older ones say that they do not know, and pass over."""
FAST: Final = "[Service]\nRestartSec=500ms\n"


class WrongError(Exception):
    """Something is not as it shall be; the text says what was seen."""


def expect(true: object, seen: object) -> None:
    """Go on only if it is ``true``.

    Raises:
        WrongError: it is not.
    """
    if not true:
        raise WrongError(str(seen))


def until(reached: Callable[[], Any], what: str, patience: float = PATIENCE) -> Any:
    """Wait until ``reached`` returns something, and return it.

    Raises:
        WrongError: it does not in time.
    """
    end = time.monotonic() + patience
    while not (found := reached()):
        expect(time.monotonic() < end, f"not within {patience:g} s: {what}")
        time.sleep(0.1)
    return found


def version() -> int:
    """Return the service manager's."""
    return int(run("systemctl", "--version").stdout.split()[1])


def run(*command: str, patience: float = 60.0, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    return subprocess.run(command, capture_output=True, text=True, timeout=patience, check=False, **options)


class Unit:
    """A unit of fetchd, with its configuration and its state."""

    def __init__(self, name: str, config: Path, state: Path) -> None:
        self.name = name
        self.config = config
        self.state = state
        self._drop_ins = Path(f"/run/systemd/system/{name}.d")
        self._cursor = ""
        self.mark()

    def begin(self, config: str, *drop_ins: str) -> None:
        """Stop it, forget everything, and write another configuration and other drop-ins."""
        self.stop()
        run("systemctl", "reset-failed", self.name)
        for state in (self.state, self.state.parent / "private" / self.state.name):
            if state.is_symlink():
                state.unlink()
            shutil.rmtree(state, ignore_errors=True)
        self.write(config)
        self.drop_in(FAST, *drop_ins)
        self.mark()

    def write(self, config: str) -> None:
        """Write the configuration."""
        self.config.parent.mkdir(exist_ok=True)
        self.config.write_text(config)

    def drop_in(self, *texts: str) -> None:
        """Have these drop-ins and no others."""
        shutil.rmtree(self._drop_ins, ignore_errors=True)
        self._drop_ins.mkdir(parents=True)
        for number, text in enumerate(texts):
            (self._drop_ins / f"{number}.conf").write_text(text)
        done = run("systemctl", "daemon-reload")
        expect(done.returncode == 0, done.stderr)

    def start(self) -> None:
        """Start it, and wait until it is ready."""
        done = run("systemctl", "start", self.name)
        expect(done.returncode == 0, f"start: {done.stderr} {self.tail()}")

    def start_only(self) -> None:
        """Ask for the start and wait for nothing."""
        run("systemctl", "start", "--no-block", self.name)

    def stop(self) -> float:
        """Stop it; return the seconds that it took."""
        began = time.monotonic()
        run("systemctl", "stop", self.name)
        return time.monotonic() - began

    def reload(self) -> subprocess.CompletedProcess[str]:
        """Reload it."""
        return run("systemctl", "reload", self.name)

    def stopped_well(self) -> None:
        """Expect that the service manager has seen no failure; of a stopped unit it keeps no properties.

        Raises:
            WrongError: it has.
        """
        self.wait_said("Deactivated successfully")
        failures = [line for line in self.said() if "Failed with result" in line or "Killing process" in line]
        expect(not failures, failures)

    def show(self, key: str) -> str:
        """Return a property."""
        return run("systemctl", "show", self.name, "--value", "-p", key).stdout.strip()

    @property
    def pid(self) -> int:
        """The daemon's process id, 0 if there is none."""
        return int(self.show("MainPID"))

    @property
    def running(self) -> bool:
        """Whether it is ready."""
        return self.show("ActiveState") == "active" and self.show("SubState") == "running"

    def again(self, pid: int) -> int:
        """Wait until another process than ``pid`` is ready, and return its id."""
        until(lambda: self.pid not in (0, pid) and self.running, "a new process is ready")
        return self.pid

    def mark(self) -> None:
        """Look only at what is said from here on."""
        run("journalctl", "--sync")
        lines = run("journalctl", "-n", "0", "--show-cursor").stdout.splitlines()
        self._cursor = lines[-1].removeprefix("-- cursor: ") if lines else ""

    def said(self) -> list[str]:
        """Return the lines of the unit's journal since the mark, those about it included."""
        since = [f"--after-cursor={self._cursor}"] if self._cursor else []
        return run("journalctl", "-u", self.name, "-o", "cat", "--no-pager", *since).stdout.splitlines()

    def tail(self) -> str:
        """Return the last of what was said."""
        return " | ".join(line[:300] for line in self.said()[-8:])

    def events(self, event: str, **fields: Any) -> list[dict[str, Any]]:
        """Return the daemon's lines of ``event`` with these values."""
        wanted = {"event": event, **fields}
        found = []
        for line in self.said():
            if line.startswith("{"):
                try:
                    values = json.loads(line)
                except ValueError:
                    continue
                if wanted.items() <= values.items():
                    found.append(values)
        return found

    def wait_event(self, event: str, **fields: Any) -> dict[str, Any]:
        """Wait for such a line."""
        return until(lambda: self.events(event, **fields), f"{event} {fields}; {self.tail()}")[-1]

    def wait_said(self, words: str) -> str:
        """Wait for a line with these words."""
        return until(lambda: [line for line in self.said() if words in line], f"the words {words!r}")[-1]

    def out(self, name: str) -> Path:
        """Return the path of what a sink has written."""
        return self.state / "out" / name

    def numbers(self, job: str) -> list[int]:
        """Return the numbers of the results that the sinks of ``job`` have taken, in their order."""
        path = self.out(f"{job}.jsonl")
        if not path.exists():
            return []
        lines = map(json.loads, path.read_text().splitlines())
        return [line.get("body", line)["n"] for line in lines]  # the file sink's lines tell of the delivery, too


def config(jobs: str, **daemon: str) -> str:
    """Return a configuration; the page is off unless ``daemon`` has ``listen``."""
    daemon = {"listen": '""', "python_path": '["code"]', **daemon}
    return "[daemon]\n" + "".join(f"{key} = {value}\n" for key, value in daemon.items()) + jobs


def job(name: str, sink: str, *, path: str = "", more: str = 'interval = "500ms"') -> str:
    """Return a job that fetches from the upstream in here; each of its results has the next number."""
    url = f"http://127.0.0.1:8070/{path or f'n/{name}'}"
    return f'[jobs.{name}]\nurl = "{url}"\n{more}\nsinks = [{sink}]\n'


def to_file(name: str) -> str:
    """Return a sink that adds a line for each result."""
    return f'{{ kind = "file", path = "{name}.jsonl", mode = "append" }}'


def to_function(call: str) -> str:
    """Return a sink that is a function of shop.py."""
    return f'{{ kind = "function", call = "shop:{call}" }}'


def to_command(*argv: str, more: str = "") -> str:
    """Return a sink that is a command."""
    return f'{{ kind = "command", argv = {json.dumps(argv)}{more} }}'
