"""The machine to boot: Debian's packages, our wheel with its locked requirements, our units, and the checks."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from tests.systemd import cgroups, pages

ROOT: Final = Path(__file__).parents[2]
PYTHONS: Final = {"bookworm": "3.11", "trixie": "3.13"}
"""The suites of Debian that are known to work, each with its Python: systemd 252 and 257."""
PACKAGES: Final = ("systemd", "systemd-sysv", "dbus", "python3", "python3-venv")
"""No procps: a reload must not need /bin/kill."""
LEFT_OUT: Final = ("/usr/share/doc/*", "/usr/share/man/*", "/usr/share/locale/*")
SOURCE: Final = (
    *("daemon", "man", "requirements", "systemd"),
    *("pyproject.toml", "README.md", "LICENSE", "config.example.toml"),
)
"""What an install needs of the source, and what the pages name."""
VENV: Final = "opt/fetchd"
CHECK: Final = "opt/check"
RESULT: Final = f"{CHECK}/result.txt"

_BOOT: Final = """#!/bin/sh
# The container's mounts of version 1 are read-only: make them, not the hierarchies, writable.
mount -o remount,rw /sys/fs/cgroup
for mount in /sys/fs/cgroup/*/; do mount -o remount,bind,rw,nosuid,nodev,noexec "$mount"; done
exec /lib/systemd/systemd "$@"
"""
_UNIT: Final = f"""[Unit]
Description=The checks
Wants=dbus.socket
After=dbus.socket
SuccessAction=poweroff-force
FailureAction=poweroff-force

[Service]
Type=oneshot
WorkingDirectory=/{CHECK}
ExecStart=/usr/bin/python3 -B -m tests.systemd.guest
StandardOutput=file:/{RESULT}
StandardError=file:/{RESULT}
"""


class Machine:
    """The file system of a machine, in ``folder``, to be filled and then booted."""

    def __init__(self, folder: Path, suite: str, cache: Path) -> None:
        self.root = folder / "root"
        self._folder = folder
        self._suite = suite
        self._cache = cache
        cache.mkdir(parents=True, exist_ok=True)

    def fill(self, lock: Path) -> None:
        """Install Debian, what ``lock`` names, our wheel and our units."""
        key = _key(self._suite, *PACKAGES)
        ready = self._kept("ready", key, lock.read_text(), "with wheels")
        if ready.exists():
            self._unpack(ready)
        else:
            self._install_debian(self._kept("base", key))
            self._install_requirements(lock)
            self._pack(ready)
        self._install_ours()

    def boot(self, words: Sequence[str], patience: float, *, unified: bool) -> str:
        """Boot, wait until the checks have powered it off, and return what they have said.

        ``unified``: with control groups of version 2 alone, which on a machine that has both have no memory.
        """
        script = self.root / CHECK / "boot"
        script.write_text(_BOOT)
        script.chmod(0o755)
        (self.root / "etc/systemd/system/check.service").write_text(_UNIT)
        (self.root / CHECK / "words").write_text("\n".join(words))
        if unified:  # without leave to load a program into the kernel, IPAddressDeny= does nothing, and says nothing
            how = ["--system-call-filter=bpf", "--boot", "--", "--unit=check.service"]
        else:  # version 1 has the controllers; systemd 257 wants to be told that this is meant
            how = ["--setenv=SYSTEMD_CGROUP_ENABLE_LEGACY_FORCE=1", f"/{CHECK}/boot", "--unit=check.service"]
        result = self.root / RESULT
        result.unlink(missing_ok=True)
        _, console = self._contain(how, patience, SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=str(int(unified)))
        return result.read_text() if result.exists() else f"it did not come to the checks:\n{console}"

    def _install_debian(self, base: Path) -> None:
        if base.exists():
            self._unpack(base)
            return
        options = [f"--dpkgopt=path-exclude={path}" for path in LEFT_OUT]
        packages = f"--include={','.join(PACKAGES)}"
        _run(["mmdebstrap", "--quiet", "--variant=minbase", packages, *options, self._suite, str(self.root)])
        self._pack(base)

    def _install_requirements(self, lock: Path) -> None:
        """Install what is locked; it is fetched out here, so that nothing in there needs a network."""
        wheels = self.root / "opt/wheels"
        python = ["--python-version", PYTHONS[self._suite], "--only-binary", ":all:"]
        _run([*_pip("download"), "--require-hashes", *python, "-r", str(lock), "-d", str(wheels)])
        shutil.copy(lock, wheels / "lock.txt")
        self._inside(["/usr/bin/python3", "-m", "venv", f"/{VENV}"])
        self._install("--require-hashes", "-r", "/opt/wheels/lock.txt")

    def _install_ours(self) -> None:
        wheels = self.root / "opt/wheels"
        _run([*_pip("wheel"), "--no-deps", "--no-build-isolation", "--wheel-dir", str(wheels), str(ROOT)])
        (wheel,) = wheels.glob("fetchd-*.whl")
        self._install("--no-deps", f"/opt/wheels/{wheel.name}")
        (self.root / "usr/bin/fetchd").symlink_to(f"/{VENV}/bin/fetchd")
        for unit in (ROOT / "systemd").glob("*.service"):
            shutil.copy(unit, self.root / "etc/systemd/system")
        shutil.copytree(ROOT / "systemd/examples", self.root / CHECK / "examples")
        guest = "tests/systemd/guest"
        shutil.copytree(ROOT / guest, self.root / CHECK / guest, ignore=shutil.ignore_patterns("__pycache__"))
        self._place_source()

    def _place_source(self) -> None:
        """Place what the pages are followed with: the source, and an index that needs no network."""
        source = self.root / pages.SOURCE.lstrip("/")
        for name in SOURCE:
            found = ROOT / name
            if found.is_dir():
                shutil.copytree(found, source / name, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                source.mkdir(exist_ok=True)
                shutil.copy(found, source)
        (self.root / "etc/pip.conf").write_text("[global]\nno-index = true\nfind-links = /opt/wheels\n")
        (self.root / CHECK / "pages.json").write_text(json.dumps(pages.scripts()))

    def _install(self, *what: str) -> None:
        pip = [f"/{VENV}/bin/pip", "--quiet", "--disable-pip-version-check", "install", "--no-index"]
        self._inside([*pip, "--find-links", "/opt/wheels", *what])

    def _inside(self, command: Sequence[str]) -> None:
        status, console = self._contain([*command], 120.0)
        if status:
            raise SystemExit(f"{command[0]} ended with status {status}: {console}")

    def _contain(self, how: Sequence[str], patience: float, **environment: str) -> tuple[int, str]:
        """Run a container in control groups of its own; return its exit status, and what it has said."""
        name = f"fetchd-check-{os.getpid()}"
        options = [
            *("--quiet", "--register=no", "--keep-unit", "--private-network", "--link-journal=no", "--console=pipe"),
            *("--resolv-conf=off", "--timezone=off", f"--machine={name}", f"--directory={self.root}"),
        ]
        console = self._folder / "console.txt"
        with cgroups.own(name) as groups, console.open("wb") as file:
            container = subprocess.Popen(
                ["systemd-nspawn", *options, *how],
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                env={**os.environ, **environment},
                preexec_fn=lambda: cgroups.enter(groups),
            )
            try:
                container.wait(patience)
            except subprocess.TimeoutExpired:
                file.write(f"\nit was not over within {patience:.0f} s\n".encode())
            finally:
                container.kill()
                container.wait()
        return container.returncode, console.read_text(errors="replace").strip()

    def _kept(self, kind: str, *parts: str) -> Path:
        return self._cache / f"{kind}-{self._suite}-{_key(*parts)}.tar"

    def _pack(self, kept: Path) -> None:
        """Keep the file system as it is, in place of older ones of its kind."""
        kind = "-".join(kept.name.split("-")[:2])
        for old in self._cache.glob(f"{kind}-*.tar"):
            old.unlink()
        half = kept.with_suffix(f".{os.getpid()}")
        _run(["tar", "-C", str(self.root), "--one-file-system", "--numeric-owner", "-cpf", str(half), "."])
        half.rename(kept)

    def _unpack(self, kept: Path) -> None:
        self.root.mkdir()
        _run(["tar", "-C", str(self.root), "--numeric-owner", "-xpf", str(kept)])


def _key(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:12]


def _pip(verb: str) -> list[str]:
    return [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", verb]


def _run(command: Sequence[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{command[0]} ended with status {done.returncode}:\n{done.stderr[-2000:]}")
