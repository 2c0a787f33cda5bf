"""Containers as careful operators run them: read-only, without privileges, with little memory and few processes."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from tests.image.engine import Engine, said

MEMORY: Final = "96m"
HARDENED: Final = (
    "--read-only",
    "--read-only-tmpfs=false",
    "--tmpfs=/tmp:size=16m,mode=1777",
    f"--memory={MEMORY}",
    f"--memory-swap={MEMORY}",
    "--pids-limit=96",
    "--cap-drop=all",
    "--security-opt=no-new-privileges",
)
PATIENCE: Final = 20.0


@dataclass(frozen=True, slots=True)
class Place:
    """Where containers run: the image, the network that they share with the upstream, and what they all get."""

    engine: Engine
    image: str
    network: str

    def command(self, *options: str, arguments: Sequence[str] = ()) -> list[str]:
        """Return podman's arguments for a hardened container."""
        where = [f"--network={self.network}", f"--cgroup-parent={self.engine.cgroup}"]
        return ["podman", "run", *HARDENED, *where, *options, self.image, *arguments]

    def once(self, *options: str, arguments: Sequence[str]) -> subprocess.CompletedProcess[str]:
        """Run a container to its end."""
        return self.engine.call(*self.command("--rm", *options, arguments=arguments), check=False)


class Container:
    """A container that runs the daemon; it is gone when the context is left."""

    def __init__(self, place: Place, name: str, *options: str) -> None:
        self.name = name
        self._engine = place.engine
        self._command = place.command("--detach", f"--name={name}", *options, arguments=["run"])

    def __enter__(self) -> Self:
        self._engine.call(*self._command)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._engine.call("podman", "rm", "--force", "--time=1", self.name, check=False)

    @property
    def state(self) -> dict[str, Any]:
        """What podman knows of its state."""
        state: dict[str, Any] = self._engine.inspect("container", self.name)["State"]
        return state

    @property
    def health(self) -> str:
        """What its health checks have come to."""
        return str(self.state["Health"]["Status"])

    def last_health_check(self) -> str:
        """Return what the last health check has said."""
        return str(self.state["Health"]["Log"][-1]["Output"])

    def check_health(self) -> int:
        """Have its health check run once, as the engine does on its own; return the exit status."""
        return self._engine.call("podman", "healthcheck", "run", self.name, check=False).returncode

    def exec(self, *command: str, user: str = "10001") -> subprocess.CompletedProcess[str]:
        """Run a command inside."""
        return self._engine.call("podman", "exec", f"--user={user}", self.name, *command, check=False)

    def text(self) -> str:
        """Return what it has logged."""
        return said(self._engine.call("podman", "logs", self.name))

    def lines(self, event: str, **fields: Any) -> list[dict[str, Any]]:
        """Return the lines of ``event`` in its log, with these values."""
        found = []
        for text in self.text().splitlines():
            with contextlib.suppress(ValueError):
                found.append(json.loads(text))
        wanted = {"event": event, **fields}
        return [line for line in found if isinstance(line, dict) and wanted.items() <= line.items()]

    def wait_for(self, event: str, **fields: Any) -> bool:
        """Wait until such a line is in the log; return whether it came."""
        return until(lambda: bool(self.lines(event, **fields)))

    def hang_up(self) -> None:
        """Send SIGHUP to process 1, as an engine does."""
        self._engine.call("podman", "kill", "--signal=HUP", self.name)

    def kill(self, number: signal.Signals) -> None:
        """Send a signal to the daemon itself, past process 1."""
        os.kill(self.inside().daemon, number)

    def stop(self, patience: int) -> tuple[int, float]:
        """Stop it as an engine does; return the exit status, 137 if it had to be killed, and how long it took."""
        begun = time.monotonic()
        self._engine.call("podman", "stop", f"--time={patience}", self.name, timeout=patience + 30)
        return int(self.state["ExitCode"]), time.monotonic() - begun

    def inside(self) -> Inside:
        """Return its processes, seen from this machine."""
        return Inside(int(self.state["Pid"]))


class Inside:
    """The processes of a container, and the memory that they are counted for."""

    def __init__(self, first: int) -> None:
        self.first = first

    @property
    def daemon(self) -> int:
        """The daemon's process: the first one that process 1 has started, or process 1 itself."""
        if "tini" not in Path(f"/proc/{self.first}/cmdline").read_text():
            return self.first
        return min(pid for pid, (_, parent) in self.processes().items() if parent == self.first)

    def processes(self) -> dict[int, tuple[str, int]]:
        """Return the state and the parent of each process in the first one's PID namespace."""
        found: dict[int, tuple[str, int]] = {}
        try:
            namespace = os.readlink(f"/proc/{self.first}/ns/pid")
        except OSError:  # the container has ended
            return found
        for entry in Path("/proc").iterdir():
            with contextlib.suppress(OSError):
                if entry.name.isdigit() and os.readlink(entry / "ns/pid") == namespace:
                    state, parent = (entry / "stat").read_text().rpartition(")")[2].split()[:2]
                    found[int(entry.name)] = (state, int(parent))
        return found

    def zombies(self, seconds: float) -> list[int]:
        """Return the processes that have ended and that nobody reaps within ``seconds``."""
        ended = {pid for pid, (state, _) in self.processes().items() if state == "Z"}
        time.sleep(seconds)
        return sorted(pid for pid, (state, _) in self.processes().items() if state == "Z" and pid in ended)

    def status(self, key: str) -> float:
        """Return a figure of the daemon's /proc/PID/status, in MiB."""
        for line in Path(f"/proc/{self.daemon}/status").read_text().splitlines():
            if line.startswith(f"{key}:"):
                return int(line.split()[1]) / 1024
        raise KeyError(key)

    def killed_for_memory(self) -> int:
        """Return how many of its processes the kernel has killed for want of memory."""
        texts = [path.read_text() for path in self._memory_files("memory.oom_control", "memory.events")]
        return sum(int(line.split()[1]) for text in texts for line in text.splitlines() if line.startswith("oom_kill "))

    def peak(self) -> float:
        """Return the most memory that it was counted for, the kernel's caches included, in MiB."""
        files = self._memory_files("memory.max_usage_in_bytes", "memory.peak")
        return max((int(path.read_text()) / 2**20 for path in files), default=0.0)

    def _memory_files(self, first: str, second: str) -> list[Path]:
        """Return the file ``first`` of control groups of version 1, or ``second`` of version 2."""
        for line in Path(f"/proc/{self.first}/cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if "memory" in controllers.split(","):
                return [Path(f"/sys/fs/cgroup/memory{path}/{first}")]
        unified = Path(f"/proc/{self.first}/cgroup").read_text().rpartition("0::")[2].strip()
        return [path for path in [Path(f"/sys/fs/cgroup{unified}/{second}")] if path.exists()]


def until(reached: Callable[[], bool], patience: float = PATIENCE) -> bool:
    """Ask ``reached`` until it says so; return whether it did."""
    end = time.monotonic() + patience
    while not reached():
        if time.monotonic() > end:
            return False
        time.sleep(0.2)
    return True
