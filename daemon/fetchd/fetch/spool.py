"""Where a body goes while it arrives."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from fetchd.body import BodyWriter, MemoryBudget


@dataclass(frozen=True, slots=True)
class Spool:
    """The memory that bodies share, and the folder for those above ``above`` bytes or without memory left."""

    folder: Path
    above: int
    budget: MemoryBudget

    def writer(self) -> BodyWriter:
        """Return a writer for one body."""
        return BodyWriter(self.budget, self.folder, spool_above=self.above)
