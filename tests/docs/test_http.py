"""The page about HTTP names the paths that there are, and the fields that they answer with."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

import pytest

from tests.docs.book import DOCS
from tests.web.made import House, job

PAGE: Final = DOCS / "reference" / "http.md"


def rows(heading: str) -> Iterator[list[str]]:
    """Yield what is set as code in the first column of the table below ``heading``."""
    section = f"\n{PAGE.read_text(encoding='utf-8')}".split(f"\n{heading}\n", 1)[1].split("\n## ")[0]
    for line in section.splitlines():
        if line.startswith("| `"):
            yield re.findall(r"`([^`]+)`", line.split("|")[1])


def fields(path: str) -> set[str]:
    """Return the fields that the page names for ``path``."""
    return {name for row in rows(f"## `{path}`") for name in row}


@pytest.mark.parametrize("path", [row[0] for row in rows("# HTTP")])
async def test_a_path_is_there(path: str) -> None:
    """Nothing else is promised."""
    house = House({"NAME": job("NAME")})
    async with house.served() as client:
        assert (await client.get(path)).status == 200


async def test_the_fields_are_those_of_the_answers() -> None:
    """Who reads the page writes a program by it."""
    house = House({"a": job("a")})
    house.ran("a")
    async with house.served() as client:
        assert fields("/readyz") == set(await client.json("/readyz"))
        assert fields("/api/status") == set(await client.json("/api/status"))
        one, *_ = await client.json("/api/jobs")
        assert fields("/api/jobs") == set(one)
        assert fields("/api/jobs/NAME") == set(await client.json("/api/jobs/a")) - set(one)
        run, *_ = await client.json("/api/jobs/a/runs")
        assert fields("/api/jobs/NAME/runs") == set(run)
