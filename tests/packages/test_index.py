"""The wheel with all that it needs from a package index, into environments with nothing in them."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Final

import pytest

from fetchd import __version__
from tests.packages.made import ROOT, call, make

EXTRAS: Final = ("apprise", "feedparser")

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make it once."""
    return make(tmp_path_factory.mktemp("packages")).wheel


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    """Make an environment with pip and nothing else; return its programs."""
    call(sys.executable, "-m", "venv", str(tmp_path / "venv"), folder=tmp_path)
    return tmp_path / "venv/bin"


def test_locked(wheel: Path, programs: Path, tmp_path: Path) -> None:
    """With the versions that the tests have seen, each compared with its hash, the daemon works."""
    pip = (str(programs / "pip"), "--disable-pip-version-check")
    call(*pip, "install", "--quiet", "--require-hashes", "-r", str(ROOT / "requirements/runtime.txt"), folder=tmp_path)
    call(*pip, "install", "--quiet", "--no-index", "--no-deps", str(wheel), folder=tmp_path)
    call(*pip, "check", folder=tmp_path)
    shown = call(str(programs / "fetchd"), "demo", "--for", "1s", folder=tmp_path, HOME=str(tmp_path))
    assert "slots fetched and delivered" in shown.stdout


def test_newest_with_extras(wheel: Path, programs: Path, tmp_path: Path) -> None:
    """With whatever is newest, as ``pip install '.[feeds,notify]'`` finds it, the daemon works too."""
    pip = (str(programs / "pip"), "--disable-pip-version-check")
    call(*pip, "install", "--quiet", f"{wheel}[feeds,notify]", folder=tmp_path)
    call(*pip, "check", folder=tmp_path)
    call(str(programs / "python"), "-c", f"import {', '.join(EXTRAS)}", folder=tmp_path)
    shown = call(str(programs / "fetchd"), "demo", "--for", "1s", folder=tmp_path, HOME=str(tmp_path))
    assert "slots fetched and delivered" in shown.stdout


def test_pipx(wheel: Path, programs: Path, tmp_path: Path) -> None:
    """It is how a single user gets a program without touching the system's Python."""
    call(str(programs / "pip"), "--disable-pip-version-check", "install", "--quiet", "pipx", folder=tmp_path)
    folders = {"HOME": str(tmp_path), "PIPX_HOME": str(tmp_path / "pipx"), "PIPX_BIN_DIR": str(tmp_path / "bin")}
    folders |= {"PIPX_MAN_DIR": str(tmp_path / "man"), "PATH": f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}"}
    command = (str(programs / "pipx"), "install", "--python", sys.executable, str(wheel))
    call(*command, folder=tmp_path, **folders)
    said = call(str(tmp_path / "bin/fetchd"), "--version", folder=tmp_path)
    assert said.stdout == f"fetchd {__version__}\n"
