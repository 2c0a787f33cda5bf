"""A hook of MkDocs: it adds the decisions to the navigation, and lets nothing through that is loaded from elsewhere."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Final

_LOADED: Final = re.compile(r"<(?:script|img|iframe)[^>]*\ssrc=\"?https?:[^>]*>|<link[^>]*\shref=\"?https?:[^>]*>")


def on_config(config: Any) -> Any:
    """Add each page of ``adr`` behind the others, whichever there are."""
    folder = Path(config.docs_dir) / "adr"
    config.nav.append({"Decisions": [f"adr/{path.name}" for path in sorted(folder.glob("*.md"))]})
    return config


def on_post_page(output: str, page: Any, config: Any) -> str:
    """Return the page as it is.

    Raises:
        ValueError: it needs a network to be read.
    """
    if found := _LOADED.search(output):
        raise ValueError(f"{page.file.src_uri} loads {found[0]}")
    return output
