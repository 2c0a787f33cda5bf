"""Writes the pages of the reference from the code itself: what a page says of a key is what the key is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from docs.generating import commands, configuration, endings, environment, measures, said

PAGES: Final[Mapping[str, Callable[[], str]]] = {
    "configuration.md": configuration.page,
    "command-line.md": commands.page,
    "metrics.md": measures.page,
    "outcomes.md": endings.page,
    "log.md": said.page,
    "environment.md": environment.page,
}
"""The pages by their files in ``docs/reference``."""
