"""What the code imports and what the project says that it needs are the same."""

from __future__ import annotations

import ast
import sys
import tomllib
from importlib.metadata import packages_distributions
from typing import Any, Final

import pytest

from tests.packages.made import ROOT

CARRIED: Final = {
    **{"cryptography": "trustme", "markupsafe": "jinja2", "multidict": "aiohttp", "pydantic-core": "pydantic"},
    "yarl": "aiohttp",
}
"""What is part of another one in all but its name, and comes in the version that suits it."""
OURS: Final = {"benchmarks", "docs", "fetchd", "man", "tests"}
UNSEEN: Final = {"aiodns", "tzdata"}
"""What is imported by aiohttp for us, or is data."""


def imported(*folders: str) -> set[str]:
    """Return the packages that what is in ``folders`` imports, wherever in a module."""
    found: set[str] = set()
    for path in (path for folder in folders for path in (ROOT / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                found |= {name.name.partition(".")[0] for name in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                found.add(node.module.partition(".")[0])
    owners = packages_distributions()
    return {normal(owners.get(name, [name])[0]) for name in found - set(sys.stdlib_module_names) - OURS}


def normal(requirement: str) -> str:
    """Return the name in ``requirement`` as indexes compare it."""
    name = requirement
    for end in "<>=!~[; ":
        name = name.partition(end)[0]
    return name.lower().replace("_", "-")


@pytest.fixture(scope="module")
def project() -> dict[str, Any]:
    """Read what the project says."""
    found: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return found


def test_all_that_is_imported_is_declared(project: dict[str, Any]) -> None:
    """Here everything is installed, also what tests need: only an environment with nothing else would miss it."""
    extras = project["optional-dependencies"].values()
    declared = {normal(one) for one in [*project["dependencies"], *(one for extra in extras for one in extra)]}
    assert {CARRIED.get(name, name) for name in imported("daemon")} == declared - UNSEEN


def test_all_that_tests_import_is_wanted_by_name() -> None:
    """What comes along with something else today may not tomorrow."""
    named = {line for line in (ROOT / "requirements/dev.in").read_text().splitlines() if not line.startswith("#")}
    needed = imported("tests", "benchmarks", "man", "docs") - imported("daemon")
    assert {CARRIED.get(name, name) for name in needed} - named == set()


def test_all_that_is_declared_is_locked(project: dict[str, Any]) -> None:
    """The image and the service install what is locked, and nothing else."""
    for file, wanted in (
        ("runtime.txt", project["dependencies"]),
        ("dev.txt", [one for extra in project["optional-dependencies"].values() for one in extra]),
    ):
        lines = (ROOT / "requirements" / file).read_text().splitlines()
        locked = {normal(line) for line in lines if "==" in line}
        assert {normal(one) for one in wanted} - locked == set(), file
