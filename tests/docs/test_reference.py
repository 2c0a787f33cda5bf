"""The reference says what the code says."""

from __future__ import annotations

import pytest

from docs.generating import PAGES
from tests.docs.book import DOCS


@pytest.mark.parametrize("name", PAGES)
def test_a_generated_page_is_up_to_date(name: str) -> None:
    """`make generate` writes it anew; nobody writes it by hand."""
    assert (DOCS / "reference" / name).read_text(encoding="utf-8") == PAGES[name](), "run make generate"
