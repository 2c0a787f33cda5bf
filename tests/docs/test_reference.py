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
