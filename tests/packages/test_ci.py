"""The commands of whoever works here: all of them can be found, and CI says which of them it ran."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import Final

import pytest

from tests.packages.made import ROOT

TARGETS: Final = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
needs_ci = pytest.mark.skipif(not (ROOT / ".ci/run").exists(), reason="this tree is an unpacked sdist")


def test_help_tells_every_target() -> None:
    """A target that is not shown is not used; one that is not phony stands still once a file has its name."""
    said = subprocess.run(["make", "-s", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert [line.split()[0] for line in said.splitlines()] == TARGETS
    assert all(len(line.split(maxsplit=1)) == 2 for line in said.splitlines())
    phony = re.search(r"^\.PHONY:(.*)", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert phony
    assert sorted(phony[1].split()) == sorted(TARGETS)


def test_an_environment_that_is_half_made_is_made_anew(tmp_path: Path) -> None:
    """Where python3-venv is missing, the first try leaves one without pip; the second try must not go on with that."""
    (tmp_path / "Makefile").write_text((ROOT / "Makefile").read_text())
    for name in ("pyproject.toml", "requirements/runtime.txt", ".venv/bin/python"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch(0o755)
    pip = ".venv/bin/pip"
    made = f"echo '#!/bin/sh' > {pip}; chmod +x {pip}"
    (tmp_path / "python").write_text(f'#!/bin/sh\necho "$@" >> asked\n[ "$1" = -c ] || {{ {made}; }}\n')
    (tmp_path / "python").chmod(0o755)
    subprocess.run(["make", "-s", ".venv/run.stamp", "PYTHON=./python"], cwd=tmp_path, check=True)
    assert (tmp_path / "asked").read_text().splitlines()[-1] == "-m venv --clear .venv"


def ci(folder: Path, make: str) -> subprocess.CompletedProcess[str]:
    """Run what CI runs beside programs, all that it wants, that only write down what they are asked for."""
    (folder / ".ci").mkdir()
    for name in ("Makefile", ".ci/run"):
        (folder / name).write_text((ROOT / name).read_text())
    programs = folder / "bin"
    programs.mkdir()
    wanted = re.findall(r"(?<=\s)([a-z-]+):[a-z]+", (ROOT / ".ci/run").read_text())
    assert {"nginx", "chromium"} <= set(wanted)
    for name, script in (("make", make), ("apt-get", "false"), *((name, "") for name in wanted)):
        (programs / name).write_text(f'#!/bin/sh\necho "{name} $*" >> {folder}/asked\n{script}\n')
        (programs / name).chmod(0o755)
    path = f"{programs}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(
        ["bash", ".ci/run"], cwd=folder, env={"PATH": path}, capture_output=True, text=True, check=False
    )


@needs_ci
def test_ci_says_what_it_ran(tmp_path: Path) -> None:
    """Whoever reads that all is well should see how much all is."""
    done = ci(tmp_path, "true")
    assert done.returncode == 0, done.stderr
    asked = (tmp_path / "asked").read_text().splitlines()
    targets = ["check", "docs", "test", "test-browser"]
    assert [line for line in asked if line.startswith("make")] == [f"make {target}" for target in targets]
    ran, left = done.stdout.partition("== ran")[2].split("== left out\n")
    assert re.findall(r"^make ([a-z-]+): \d+ s$", ran, re.MULTILINE) == targets
    heavy = [target for target in TARGETS if target.startswith("test-") or target == "soak"]
    heavy.remove("test-browser")
    assert re.findall(r"^make ([a-z-]+): \S", left, re.MULTILINE) == heavy


@needs_ci
def test_ci_fails_with_what_it_runs(tmp_path: Path) -> None:
    """Saying so at the end must not turn a failure into a success."""
    done = ci(tmp_path, '[ "$1" != test ]')
    assert done.returncode != 0
    assert "make check: " in done.stdout.partition("== ran")[2]
    assert "make test: " not in done.stdout.partition("== ran")[2]
