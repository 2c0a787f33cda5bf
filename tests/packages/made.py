"""Packages made of this tree, as a distributor makes them, and an environment to install them into."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parents[2]
DEPENDENCIES: Final = sysconfig.get_path("purelib")
"""Where the locked versions of all that fetchd needs are."""
PATIENCE: Final = 120.0


@dataclass(frozen=True, slots=True)
class Packages:
    """What was made: the archive of the sources, its folder once unpacked, and the wheel that was made of that."""

    sdist: Path
    unpacked: Path
    wheel: Path


def make(folder: Path) -> Packages:
    """Make the sdist of this tree, and of that alone the wheel: what the sdist lacks is missed here."""
    sdist = build(ROOT, "sdist", folder)
    call("tar", "-xzf", str(sdist), folder=folder)  # Debian 12's tarfile does not know the filter that newer ones want
    unpacked = folder / sdist.name.removesuffix(".tar.gz")
    return Packages(sdist, unpacked, build(unpacked, "wheel", folder))


def build(tree: Path, target: str, folder: Path) -> Path:
    """Make ``target`` of ``tree`` with this environment's locked tool, which looks for nothing anywhere."""
    call(sys.executable, "-m", "hatchling", "build", "-t", target, "-d", str(folder), folder=tree)
    return next(folder.glob("*.tar.gz" if target == "sdist" else "*.whl"))


def kept() -> Iterator[str]:
    """Yield the files that are kept in git; without it, or outside of the repository, the test is skipped."""
    git = shutil.which("git")
    listed = subprocess.run([git, "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False) if git else None
    if listed is None or listed.returncode != 0:
        pytest.skip("needs git and the repository")
    for name in listed.stdout.decode().split("\0"):
        if name and (ROOT / name).is_file():
            yield name


def install(wheel: Path, folder: Path) -> Path:
    """Install the wheel alone into a new environment that sees what it needs; return the environment's programs."""
    call(sys.executable, "-m", "venv", "--without-pip", str(folder), folder=folder.parent)
    programs = folder / "bin"
    pip = (sys.executable, "-m", "pip", "--python", str(programs / "python"))
    call(*pip, "install", "--quiet", "--no-index", "--no-deps", str(wheel), folder=folder.parent)
    # A line in a .pth file adds a folder without obeying the .pth files in it: not the one of this tree either.
    next(folder.glob("lib/*/site-packages")).joinpath("dependencies.pth").write_text(f"{DEPENDENCIES}\n")
    return programs


def call(*command: str, folder: Path, check: bool = True, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command in ``folder``, without whatever would let it find this tree."""
    inherited = {name: value for name, value in os.environ.items() if name not in {"PYTHONPATH", "FETCHD_CONFIG"}}
    done = subprocess.run(
        command,
        cwd=folder,
        env=inherited | environment,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert not check or done.returncode == 0, f"{command} ended with {done.returncode}:\n{done.stdout}{done.stderr}"
    return done
