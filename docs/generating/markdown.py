"""The little Markdown that the generated pages are made of."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Final

_CODE: Final = re.compile(r"`([^`|]*\|[^`]*)`")
NOTICE: Final = "<!-- Written by `make generate` from the code. Change the code, not this page. -->"


def document(title: str, *parts: str) -> str:
    """Return a page."""
    return "\n\n".join([NOTICE, f"# {title}", *(part.strip() for part in parts if part.strip())]) + "\n"


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table."""
    lines = [heads, ["---"] * len(heads), *([_cell(cell) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def code(text: str) -> str:
    """Return ``text`` as code."""
    return f"`{text}`"


def one_line(text: str) -> str:
    """Return a docstring's text on one line, its double back-ticks as Markdown has them."""
    return " ".join(text.split()).replace("``", "`")


def _cell(text: str) -> str:
    """Return ``text`` for a cell, which a bar would end; within code no dialect of Markdown escapes it as others do."""
    text = _CODE.sub(lambda found: f"<code>{found[1].replace('|', '&#124;')}</code>", text)
    return text.replace("|", "&#124;").replace("\n", " ")
