"""What can be said of the units without booting anything; the rest is ``make test-systemd``."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.systemd.guest.unit import NEWER

SYSTEMD = Path(__file__).parents[2] / "systemd"
UNITS = [SYSTEMD / "fetchd.service", SYSTEMD / "fetchd@.service"]
EXAMPLES = sorted((SYSTEMD / "examples").glob("*.conf"))
MOST_EXPOSED = 15
"""Tenths, as systemd-analyze counts them."""

needs_systemd = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="systemd-analyze is missing; it comes with Debian's package systemd"
)


def assignments(path: Path) -> list[str]:
    """Return the lines that count."""
    return [line for line in path.read_text().splitlines() if line and not line.startswith("#")]


def test_the_template_is_the_same_unit() -> None:
    """systemd has no way to include one unit in another: what is mended in one must be mended in both."""
    single, template = map(assignments, UNITS)
    alike = [line.replace("/etc/fetchd/%i.toml", "/etc/fetchd/config.toml") for line in template]
    alike = [line.removesuffix(" (%i)").replace("=fetchd-%i", "=fetchd") for line in alike]
    alike.remove("User=fetchd")
    assert alike == single


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_examples_say_where_they_go(example: Path) -> None:
    """A drop-in in the wrong place, or under another name, does nothing and says nothing."""
    assert f"As /etc/systemd/system/fetchd.service.d/{example.name}\n" in example.read_text()
    assert assignments(example)[0] in ("[Unit]", "[Service]")


def test_units_name_examples_that_exist() -> None:
    """A unit's comments lead to the examples."""
    named = {name for unit in UNITS for name in re.findall(r"examples/([a-z-]+\.conf)", unit.read_text())}
    assert named
    assert named <= {path.name for path in EXAMPLES}


@needs_systemd
@pytest.mark.parametrize("unit", UNITS, ids=lambda path: path.stem)
def test_units_are_known_to_systemd(unit: Path, tmp_path: Path) -> None:
    """An unknown key is only a warning, and the status is 0: what is said is what counts."""
    shutil.copy(unit, tmp_path)
    drop_ins = tmp_path / f"{unit.name}.d"
    drop_ins.mkdir()
    for example in EXAMPLES:
        shutil.copy(example, drop_ins)
    name = unit.name.replace("@.", "@one.")
    if name != unit.name:
        shutil.copy(unit, tmp_path / name)
    said = analyzed("verify", "--man=no", str(tmp_path / name))
    passed_over = ("fetchd is not executable", *NEWER)
    assert not [line for line in said.splitlines() if not any(words in line for words in passed_over)]


@needs_systemd
@pytest.mark.parametrize("unit", UNITS, ids=lambda path: path.stem)
def test_units_are_little_exposed(unit: Path) -> None:
    """A line that is taken out for a command of one user must not go unnoticed."""
    analyzed("security", "--offline=true", f"--threshold={MOST_EXPOSED}", "--no-pager", str(unit), check=True)


def analyzed(*arguments: str, check: bool = False) -> str:
    """Return what systemd-analyze complains of."""
    command = ["systemd-analyze", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=20, check=check).stderr
