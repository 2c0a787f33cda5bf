"""What one request of a Run asks for beyond what its job says, and what became of that."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fetchd.fetch.placeholders import Known

if TYPE_CHECKING:
    import httpx


@dataclass(frozen=True, slots=True)
class Place:
    """Where a page is: a path with its query, a cursor or a number, as the kind of the job's pages has it.

    None is the job's own request.
    """

    value: Any = None


@dataclass(slots=True)
class Ask:
    """One request in the making: the one mutable record of it.

    ``asked`` is the address that it goes to, and ``answered`` the one that the response came from after redirects.
    Neither is ever shown: their queries may hold secrets.
    """

    known: Known
    place: Place = Place()
    asked: httpx.URL | None = None
    answered: httpx.URL | None = None
