"""What is handed out: the archive of the sources, the wheel, and the program that comes of it."""

from __future__ import annotations

import json
import tarfile
import tomllib
import zipfile
from email import message_from_string
from email.message import Message
from pathlib import Path, PurePosixPath
from typing import Any, Final

import pytest

from fetchd import __version__
from tests.packages.made import ROOT, Packages, build, call, install, kept, make

LEFT_OUT: Final = {".ci", ".github"}
"""What the sdist leaves out of what is kept in git: nobody but this repository runs it."""
MADE: Final = {"PKG-INFO"}
OWN: Final = {
    *(
        ".dockerignore",
        ".gitignore",
        "CHANGELOG.md",
        "CONTRIBUTING.md",
        "Dockerfile",
        "LICENSE",
        "Makefile",
        "README.md",
    ),
    *("benchmarks", "compose.yaml", "config.example.toml", "config.schema.json", "daemon", "docs", "kubernetes", "man"),
    *("mkdocs.yml", "monitoring", "pyproject.toml", "requirements", "systemd", "tests"),
}
"""All that may be at the top of the sdist beside what was made for it."""
WORDS: Final = ("METADATA", "RECORD", "WHEEL", "entry_points.txt", "licenses/LICENSE")

pytestmark = pytest.mark.timeout(120)


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Packages:
    """Make both once."""
    return make(tmp_path_factory.mktemp("packages"))


@pytest.fixture(scope="module")
def programs(packages: Packages, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install the wheel once."""
    return install(packages.wheel, tmp_path_factory.mktemp("installed") / "venv")


@pytest.fixture(scope="module")
def metadata(packages: Packages) -> Message:
    """Read what the wheel says of itself."""
    with zipfile.ZipFile(packages.wheel) as wheel:
        return message_from_string(wheel.read(f"fetchd-{__version__}.dist-info/METADATA").decode())


@pytest.fixture(scope="module")
def project() -> dict[str, Any]:
    """Read pyproject.toml."""
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def sources(packages: Packages) -> set[str]:
    """Return the files in the sdist, without the folder around them all."""
    with tarfile.open(packages.sdist) as archive:
        return {str(PurePosixPath(*PurePosixPath(name).parts[1:])) for name in archive.getnames()}


def test_the_sdist_has_what_is_kept(packages: Packages) -> None:
    """A distributor needs the tests, the units, the manual page and the locks, not only the code."""
    wanted = {name for name in kept() if PurePosixPath(name).parts[0] not in LEFT_OUT}
    assert wanted - sources(packages) == set()


def test_the_sdist_has_nothing_else(packages: Packages) -> None:
    """Somebody's own configuration, with its secrets, may lie in the folder that it is made in."""
    found = sources(packages)
    assert {PurePosixPath(name).parts[0] for name in found} - OWN - MADE == set()
    assert not [name for name in found if "__pycache__" in name or name.endswith((".pyc", ".db", ".log"))]
    assert {PurePosixPath(name).parts[1] for name in found if name.startswith("daemon/")} == {"fetchd"}


def test_the_wheel_is_the_package(packages: Packages, project: dict[str, Any]) -> None:
    """Templates and styles of the page are easily forgotten; tests and this tree's other folders do not belong in."""
    package = packages.unpacked / "daemon/fetchd"
    files = {str(path.relative_to(package.parent)) for path in package.rglob("*") if path.is_file()}
    assert "fetchd/py.typed" in files
    shared = project["tool"]["hatch"]["build"]["targets"]["wheel"].get("shared-data", {}).values()
    files |= {f"fetchd-{__version__}.data/data/{name}" for name in shared}
    files |= {f"fetchd-{__version__}.dist-info/{name}" for name in WORDS}
    with zipfile.ZipFile(packages.wheel) as wheel:
        assert set(wheel.namelist()) == files


def test_the_wheel_of_the_tree_is_that_of_the_sdist(packages: Packages, tmp_path: Path) -> None:
    """The image makes its wheel of the tree, distributors make theirs of the sdist: users get the same bytes."""
    assert build(ROOT, "wheel", tmp_path).read_bytes() == packages.wheel.read_bytes()


def test_what_the_wheel_says_of_itself(metadata: Message, project: dict[str, Any]) -> None:
    """Its version is the package's, and there are the extras that there is code for."""
    assert metadata["Version"] == __version__
    assert metadata["Requires-Python"] == ">=3.11"
    assert metadata["License-Expression"] == "MIT"
    assert set(metadata.get_all("Provides-Extra") or ()) == {"feeds", "notify"}
    assert "version" not in project["project"]


def test_the_installed_program_runs(programs: Path, tmp_path: Path) -> None:
    """It finds its own modules, and nothing of this tree."""
    said = call(str(programs / "fetchd"), "--version", folder=tmp_path)
    assert said.stdout == f"fetchd {__version__}\n"
    found = call(str(programs / "python"), "-c", "import fetchd; print(fetchd.__file__)", folder=tmp_path)
    assert Path(found.stdout).is_relative_to(programs.parent)


def test_the_installed_program_checks(programs: Path, tmp_path: Path) -> None:
    """A configuration is judged."""
    path = tmp_path / "fetchd.toml"
    path.write_text('[daemon]\nstate_dir = "state"\n[jobs.rates]\nurl = "http://127.0.0.1:1/"\n')
    checked = call(str(programs / "fetchd"), "check", "-c", str(path), folder=tmp_path)
    assert checked.stdout == f"{path}: 1 job, nothing wrong\n"


def test_the_installed_program_prints_the_schema(programs: Path, tmp_path: Path) -> None:
    """Editors get the one that is in the tree."""
    schema = call(str(programs / "fetchd"), "schema", folder=tmp_path)
    assert json.loads(schema.stdout) == json.loads((ROOT / "config.schema.json").read_text())


def test_the_installed_program_prints_the_example(programs: Path, tmp_path: Path) -> None:
    """Who installs it with pip has no other file to begin with; there is but one, and the sdist has it at the top."""
    example = call(str(programs / "fetchd"), "example", folder=tmp_path)
    assert example.stdout == (ROOT / "config.example.toml").read_text()


def test_the_installed_program_works(programs: Path, tmp_path: Path) -> None:
    """The demo is the whole daemon, with processes of its own that must find the package too."""
    shown = call(str(programs / "fetchd"), "demo", "--for", "1s", folder=tmp_path, HOME=str(tmp_path))
    assert "slots fetched and delivered" in shown.stdout
