"""``python -m docs.generating`` writes every generated page anew."""

from __future__ import annotations

from pathlib import Path

from docs.generating import PAGES

for name, page in PAGES.items():
    (Path(__file__).parents[1] / "reference" / name).write_text(page(), encoding="utf-8")
