"""The reference says what the code says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from docs.generating import PAGES
from tests.docs.book import DOCS, ROOT, pages


@pytest.mark.parametrize("name", PAGES)
def test_a_generated_page_is_up_to_date(name: str) -> None:
    """`make generate` writes it anew; nobody writes it by hand."""
    assert (DOCS / "reference" / name).read_text(encoding="utf-8") == PAGES[name](), "run make generate"


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_metrics_that_are_named_are_there(page: Path) -> None:
    """An alert on a metric that was renamed never comes."""
    there = set(re.findall(r"^\| `(\w+)`", PAGES["metrics.md"](), re.MULTILINE))
    named = re.findall(r"\bfetchd_[a-z_]+[a-z]\b", page.read_text(encoding="utf-8"))
    assert {re.sub(r"_(bucket|count|sum)$", "", name) for name in named} <= there


def test_where_trouble_is_seen_is_there() -> None:
    """What somebody waits for, in the log or in a message, has that name."""
    page = (DOCS / "how-to" / "alerts.md").read_text(encoding="utf-8")
    table = page.partition("| what happens |")[2].partition("\n\n")[0]
    rows = [row.strip("| ").split(" | ") for row in table.splitlines()[2:]]
    events = set(re.findall(r"^\| `(\w+)`", PAGES["log.md"](), re.MULTILINE))
    fields = "".join(row for row in page.splitlines() if row.startswith(("| `jobs` |", "| `daemon` |")))
    assert len(rows) >= 8
    for _what, _noticed, log, metrics, message in rows:
        assert log.strip("`") in events
        assert metrics.startswith("`")
        kinds = re.findall(r"`([a-z_]+)`", message)
        assert f"`{kinds[0]}`" in fields
