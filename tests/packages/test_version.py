"""The version is written once; all that shows one shows that."""

from __future__ import annotations

import json
import re

from fetchd import __version__
from fetchd.fetch.request import DEFAULT_HEADERS
from tests.packages.made import ROOT, kept
from tests.web.made import House, job

NAMED = re.compile(r"\bfetchd(?:[ :/@=]|==|-)v?(\d+\.\d+\.\d+)\b")


def test_it_is_written_once() -> None:
    """Two places would differ after the next release."""
    assert f'__version__ = "{__version__}"' in (ROOT / "daemon/fetchd/__init__.py").read_text()
    others = [path for path in (ROOT / "daemon").rglob("*.py") if f'"{__version__}"' in path.read_text()]
    assert others == [ROOT / "daemon/fetchd/__init__.py"]


def test_files_that_name_it_agree() -> None:
    """A deployment file that was not changed with a release would start the one before."""
    for name in kept():
        path = ROOT / name
        if path.name != "CHANGELOG.md" and "tests" not in path.relative_to(ROOT).parts:
            assert set(NAMED.findall(path.read_text(errors="replace"))) <= {__version__}, name


def test_upstreams_are_told() -> None:
    """It is what their administrators find in their logs."""
    assert DEFAULT_HEADERS["User-Agent"] == f"fetchd/{__version__}"


async def test_the_page_tells_it() -> None:
    """Who looks at the page of one machine among many wants to know what runs there; programs ask the API."""
    async with House({"rates": job("rates")}).served() as client:
        assert f"<dd>{__version__}</dd>" in await client.text("/")
        assert json.loads(await client.text("/api/status"))["version"] == __version__
