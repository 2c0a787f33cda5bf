"""What the code imports and what the project says that it needs are the same."""

from __future__ import annotations

import ast
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from typing import Any, Final

import pytest

from tests.packages.made import ROOT

CARRIED: Final = {"markupsafe": "jinja2", "multidict": "aiohttp", "pydantic-core": "pydantic", "yarl": "aiohttp"}
"""What is part of another one in all but its name, and comes in the version that suits it."""
UNSEEN: Final = {"aiodns", "tzdata"}
"""What is imported by aiohttp for us, or is data."""


def imported() -> Iterator[str]:
    """Yield the packages that the code imports, its own aside."""
    for path in (ROOT / "daemon").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                yield from (name.name.partition(".")[0] for name in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                yield node.module.partition(".")[0]


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
    owners = packages_distributions()
    outside = set(imported()) - set(sys.stdlib_module_names) - {"fetchd"}
    needed = {normal(owners.get(name, [name])[0]) for name in outside}
    assert {CARRIED.get(name, name) for name in needed} == declared - UNSEEN


def test_all_that_is_declared_is_locked(project: dict[str, Any]) -> None:
    """The image and the service install what is locked, and nothing else."""
    for file, wanted in (
        ("runtime.txt", project["dependencies"]),
        ("dev.txt", [one for extra in project["optional-dependencies"].values() for one in extra]),
    ):
        lines = (ROOT / "requirements" / file).read_text().splitlines()
        locked = {normal(line) for line in lines if "==" in line}
        assert {normal(one) for one in wanted} - locked == set(), file
