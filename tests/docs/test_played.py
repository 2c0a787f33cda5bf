"""What the pages tell their reader to do is done, line by line, and comes to what they say."""

from __future__ import annotations

import importlib.util
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.docs.book import DOCS, blocks, played
from tests.docs.declared import API, ENVIRONMENT, api, furnish, project
from tests.docs.shell import Zygote, free_port, shell

NEEDS = {"django": ("django-command.md", "django-function.md"), "feedparser": ("feeds-and-csv.md",)}
"""Packages without which pages cannot be played."""


@pytest.fixture(scope="module")
def zygote() -> Iterator[Zygote]:
    """Give what starts fetchd."""
    opened = Zygote()
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def upstream() -> Iterator[str]:
    """Give the address of what stands for api.example.com."""
    with api() as address:
        yield address


@pytest.mark.parametrize("page", played(), ids=lambda page: str(page.relative_to(DOCS)))
def test_a_page_can_be_followed(page: Path, zygote: Zygote, upstream: str, tmp_path: Path) -> None:
    """A reader does it literally, and so does this."""
    for package, names in NEEDS.items():
        if page.name in names and importlib.util.find_spec(package) is None:
            pytest.skip(f"needs the package {package} from the Python index")
    ports = {port: str(free_port()) for port in ("8000", "8001", "9475")}
    project(tmp_path / "shop")
    furnish(tmp_path)
    places = {"/srv/shop/venv/bin/python": sys.executable, "/srv/shop": str(tmp_path / "shop")}
    with shell(tmp_path, zygote, {API: upstream, **places, **ports}, ENVIRONMENT) as opened:
        for block in blocks(page):
            opened.play(block)
    if page.name.startswith("django"):
        assert prices(tmp_path / "shop") == [("A1", 9.9)]


def prices(project: Path) -> list[tuple[str, float]]:
    """Return what is in the table of prices."""
    with closing(sqlite3.connect(project / "db.sqlite3")) as database:
        return database.execute("SELECT sku, price FROM prices_price").fetchall()
