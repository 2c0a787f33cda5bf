"""A container engine for one look at the image: buildah builds, podman runs with runc, all of it below one folder."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

PACKAGES: Final[Mapping[str, str]] = {
    "buildah": "buildah",
    "podman": "podman",
    "runc": "runc",
    "conmon": "conmon",
    "mmdebstrap": "mmdebstrap",
    "ip": "iproute2",
    "unshare": "util-linux",
    "nsenter": "util-linux",
}
"""The programs that are needed, each with the Debian package that has it."""
MOST: Final = 4096
"""Open files, and processes, that a container may have; it cannot be more than this process may have."""

STORAGE: Final = """
[storage]
driver = "{driver}"
graphroot = "{folder}/graph"
runroot = "{folder}/run"
"""
REGISTRIES: Final = """
unqualified-search-registries = []
short-name-mode = "disabled"
[aliases]
"python" = "{python}"
"""
ENGINE: Final = """
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
lock_type = "file"
runtime = "runc"
tmp_dir = "{folder}/libpod"
[containers]
default_ulimits = ["nofile={files}:{files}", "nproc={processes}:{processes}"]
log_driver = "k8s-file"
"""


class EngineError(Exception):
    """A program of the engine failed; its last words say why."""


class Engine:
    """Calls buildah and podman with a storage and a configuration of their own: the machine's stay as they are."""

    def __init__(self, folder: Path, *, python: str = "localhost/python") -> None:
        self.folder = folder
        self.cgroup = f"/fetchd-image-{os.getpid()}"
        (folder / "cwd").mkdir(exist_ok=True)  # conmon leaves a file where it was started
        files, processes = _most(resource.RLIMIT_NOFILE), _most(resource.RLIMIT_NPROC)
        texts = {"STORAGE_CONF": STORAGE, "REGISTRIES_CONF": REGISTRIES, "CONF": ENGINE}
        self._environment = {**os.environ, "TMPDIR": str(folder)}
        # Where the folder itself is an overlay, as in a container, it cannot carry another one.
        driver = "vfs" if _file_system(folder) == "overlay" else "overlay"
        for name, text in texts.items():
            path = folder / f"{name.lower()}.conf"
            path.write_text(text.format(folder=folder, driver=driver, python=python, files=files, processes=processes))
            self._environment[f"CONTAINERS_{name}"] = str(path)

    def call(self, *command: str, timeout: float = 60.0, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Call a program to its end.

        Raises:
            EngineError: it failed, unless that is to be judged by the caller, or took too long.
        """
        process = subprocess.Popen(
            _quiet(command),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            cwd=self.folder / "cwd",
            env=self._environment,
            start_new_session=True,
        )
        try:
            output, errors = process.communicate(timeout=timeout)
        except BaseException as error:
            _end_group(process)
            if isinstance(error, subprocess.TimeoutExpired):
                raise EngineError(f"{' '.join(command[:3])} took longer than {timeout:g} s") from None
            raise
        if check and process.returncode:
            raise EngineError(f"{' '.join(command[:3])} exited with {process.returncode}:\n{(output + errors)[-3000:]}")
        return subprocess.CompletedProcess(command, process.returncode, output, errors)

    def begin(self, *command: str) -> subprocess.Popen[bytes]:
        """Begin to call a program; what it says is not of interest, and leaving its context waits for its end."""
        return subprocess.Popen(
            _quiet(command),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd=self.folder / "cwd",
            env=self._environment,
        )

    def inspect(self, kind: str, name: str) -> dict[str, Any]:
        """Return what podman knows of the image or container called ``name``."""
        found: list[dict[str, Any]] = json.loads(self.call("podman", kind, "inspect", name).stdout)
        return found[0]

    def close(self) -> None:
        """Remove every container, image and mount of this engine, and nobody else's."""
        for command in (["podman", "rm", "-fa", "-t", "1"], ["buildah", "rm", "-a"], ["podman", "umount", "-fa"]):
            with contextlib.suppress(EngineError):
                self.call(*command, check=False)
        mounts = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
        for mount in sorted((mount for mount in mounts if mount.startswith(f"{self.folder}/")), reverse=True):
            subprocess.run(["umount", mount], check=False)
        for folder in sorted(Path("/sys/fs/cgroup").glob(f"*{self.cgroup}")):
            _remove_cgroup(folder)
        _remove_cgroup(Path("/sys/fs/cgroup") / self.cgroup[1:])


@contextmanager
def opened(folder: Path, *, python: str = "localhost/python") -> Iterator[Engine]:
    """Give an engine that is closed afterwards, come what may."""
    engine = Engine(folder, python=python)
    try:
        yield engine
    finally:
        engine.close()


def missing_packages() -> list[str]:
    """Return the Debian packages whose programs are not there."""
    return sorted({package for program, package in PACKAGES.items() if shutil.which(program) is None})


def build_arguments(values: Mapping[str, str]) -> Sequence[str]:
    """Return ``values``, and this machine's proxies, as build arguments."""
    proxies = ("http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")
    named = {**values, **{name: os.environ[name] for name in proxies if os.environ.get(name)}}
    return [part for name, value in named.items() for part in ("--build-arg", f"{name}={value}")]


def said(process: subprocess.CompletedProcess[str]) -> str:
    """Return all that a program has said."""
    return process.stdout + process.stderr


def _quiet(command: Sequence[str]) -> list[str]:
    """Have podman not complain of each health check that no systemd is there to time it."""
    return [*command[:1], "--log-level=fatal", *command[1:]] if command[0] == "podman" else [*command]


def _most(limit: int) -> int:
    allowed = resource.getrlimit(limit)[1]
    return MOST if allowed == resource.RLIM_INFINITY else min(MOST, allowed)


def _file_system(folder: Path) -> str:
    """Return the kind of file system that ``folder`` is on."""
    mounts = [line.split()[1:3] for line in Path("/proc/mounts").read_text().splitlines()]
    holding = [(place, kind) for place, kind in mounts if folder.is_relative_to(place)]
    return max(holding, key=lambda mount: len(mount[0]))[1]


def _end_group(process: subprocess.Popen[str]) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.communicate(timeout=5)
            return


def _remove_cgroup(folder: Path) -> None:
    """Remove an empty control group with those below it; the kernel takes a moment to let go of its processes."""
    end = time.monotonic() + 2
    while folder.is_dir() and time.monotonic() < end:
        for inner in sorted(folder.glob("**/"), reverse=True):
            with contextlib.suppress(OSError):
                inner.rmdir()
        time.sleep(0.05)
