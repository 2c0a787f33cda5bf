"""What the pages say that is for a machine with a service manager: typed in it, in the order in which people read."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from tests.docs.book import DOCS, Block, blocks

PAGES: Final = ("tutorial.md", "how-to/service.md", "how-to/install.md")
SOURCE: Final = "/opt/source"
"""The source of fetchd, which its reader has in a folder."""
STAND_INS: Final = {"https://api.example.com/v1/": "http://127.0.0.1:8070/n/"}
_BEGIN: Final = "cd {source}\nexport HOME=/root\necho sesame > token\n"


def scripts() -> dict[str, str]:
    """Return what is typed, by a name for it: each begins with nothing installed, and ends so."""
    tutorial, service, install = (list(_machine(page)) for page in PAGES)
    upgrade = next(number for number, block in enumerate(install) if "systemctl restart" in block.text)
    return {"service": _script([*tutorial, *service, *install[upgrade:]]), "install": _script(install[:upgrade])}


def _machine(page: str) -> Iterator[Block]:
    return (block for block in blocks(DOCS / page) if block.mark == "machine")


def _script(typed: list[Block]) -> str:
    """Return one script: what a line sets is there for the next ones."""
    text = _BEGIN.format(source=SOURCE) + "".join(_as_shell(block) for block in typed)
    for written, used in STAND_INS.items():
        text = text.replace(written, used)
    return text


def _as_shell(block: Block) -> str:
    if block.what:
        return f"cat > {block.what} <<'END_OF_FILE'\n{block.text}END_OF_FILE\n"
    return f": {block}\n{block.text}"
