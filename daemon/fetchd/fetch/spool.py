"""Where a body goes while it arrives."""

from __future__ import annotations

from collections.abc import AsyncIterable
from dataclasses import dataclass
from pathlib import Path

from fetchd.body import UNWRITTEN, Body, BodyWriter, MemoryBudget
from fetchd.errors import FetchError, Reason


@dataclass(frozen=True, slots=True)
class Spool:
    """The memory that bodies share, and the folder for those above ``above`` bytes or without memory left."""

    folder: Path
    above: int
    budget: MemoryBudget

    async def keep(self, pieces: AsyncIterable[bytes]) -> Body:
        """Return the body that ``pieces`` make up. The first is asked for once there is memory to read them with.

        Raises:
            FetchError: the spool file cannot be written.
        """
        await self.budget.take(UNWRITTEN)
        writer = BodyWriter(self.budget, self.folder, spool_above=self.above)
        try:
            async for piece in pieces:
                await writer.write(piece)
            return await writer.finish()
        except OSError as error:
            message = f"cannot spool the body in {self.folder}: {error.strerror or error}"
            raise FetchError(Reason.LOCAL_RESOURCE, message, transient=True, phase="body") from error
        finally:
            writer.abort()
            self.budget.give(UNWRITTEN)
