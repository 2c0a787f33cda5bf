"""The documents, and the blocks of code in them with what the invisible comment above each says of it.

``<!-- file: NAME -->``   the block is a file of that name, which later blocks of its page find
``<!-- run -->``          the lines are played, and end well; ``<!-- run: exit 78 -->`` if the last one ends otherwise
``<!-- output -->``       what the lines played last have printed; digits count as any digits, ``…`` as anything
``<!-- machine -->``      the lines are typed into a machine of their own, as root, and end well: ``make test-systemd``;
                          ``<!-- machine: /etc/… -->`` if the block is a file there
``<!-- elsewhere: … -->`` the file of the tests that does what the lines say
``<!-- other -->``        the block is another program's
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
DOCS: Final = ROOT / "docs"
_BLOCK: Final = re.compile(
    r"^(?: *<!-- (?P<mark>file|run|output|machine|elsewhere|other)(?:: (?P<what>[^>]+))? -->\n\n?)?"
    r"(?P<indent> *)```(?P<language>\w+)[^\n]*\n(?P<text>.*?)^(?P=indent)```",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True)
class Block:
    """A block of code; ``line`` is where it begins."""

    page: Path
    line: int
    language: str
    text: str
    mark: str = ""
    what: str = ""

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def pages() -> list[Path]:
    """Return the documents that people read: those of ``docs`` and those beside them."""
    return sorted([*DOCS.rglob("*.md"), *(ROOT / name for name in ("README.md", "CONTRIBUTING.md"))])


def blocks(page: Path) -> Iterator[Block]:
    """Yield the blocks of a page in their order."""
    text = page.read_text(encoding="utf-8")
    for found in _BLOCK.finditer(text):
        line = text.count("\n", 0, found.start("language")) + 1
        content = re.sub(rf"^{found['indent']}", "", found["text"], flags=re.MULTILINE)
        yield Block(page, line, found["language"], content, found["mark"] or "", found["what"] or "")


def all_blocks(*languages: str) -> list[Block]:
    """Return the blocks in these languages of all pages."""
    return [block for page in pages() for block in blocks(page) if block.language in languages]


def played() -> list[Path]:
    """Return the pages that have something to be played."""
    return [page for page in pages() if any(block.mark == "run" for block in blocks(page))]
