"""What a command line asks for, before it is a job: one request, and what is to become of the answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from fetchd.secret import is_sensitive


def _nothing_there(name: str) -> bytes:
    raise FileNotFoundError(name)


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What is known of where a command runs.

    ``folder`` is where the files that it reads start from, and ``out`` those that it writes, where that is known;
    ``known`` are variables with their values; ``read`` reads the files that a command sends, and raises OSError for
    one that cannot be read. With ``hides``, nothing that is called a secret is known, so that none is printed.
    """

    folder: str | None = None
    out: str | None = None
    known: Mapping[str, str] = field(default_factory=dict)
    read: Callable[[str], bytes] = _nothing_there
    stdin: str | None = None
    shell: str = "sh"
    hides: bool = False

    def knowing(self, more: Mapping[str, str]) -> Surroundings:
        """Return them with further variables; those that are hidden stay variables."""
        kept = {name: value for name, value in self.known.items() if name not in more}
        shown = {name: value for name, value in more.items() if not (self.hides and is_sensitive(name))}
        return replace(self, known={**kept, **shown})


@dataclass(slots=True)
class Wanted:
    """One request. Texts may hold marked variables. What is in ``blocks`` keeps the job from being used as it is."""

    url: str = ""
    method: str | None = None
    headers: list[tuple[str, str]] = field(default_factory=list)
    removed: set[str] = field(default_factory=set)
    """Headers, in small letters, that shall not be sent."""
    body: str | None = None
    body_file: str | None = None
    """A file that holds the body, byte by byte but for line ends at its end."""
    content_type: str | None = None
    """Sent with the body unless a header says otherwise."""
    auth: dict[str, str] | None = None
    tls: dict[str, Any] = field(default_factory=dict)
    keys: dict[str, Any] = field(default_factory=dict)
    """Further keys of the job, as they are written there."""
    deadline: float | None = None
    connect: float | None = None
    silence: float | None = None
    """Seconds: the longest wait for the next piece."""
    sinks: list[dict[str, Any]] = field(default_factory=list)
    shows: bool = True
    """Whether the command printed the answer."""
    notes: list[str] = field(default_factory=list)
    blocks: list[str] = field(default_factory=list)

    def note(self, message: str) -> None:
        """Say ``message`` in a comment, once."""
        if message not in self.notes:
            self.notes.append(message)

    def block(self, message: str) -> None:
        """Keep the job from being used, and say why."""
        if message not in self.blocks:
            self.blocks.append(message)

    def header(self, name: str) -> str | None:
        """Return the last value of the header ``name``; None if it is not set."""
        values = [value for given, value in self.headers if given.lower() == name.lower()]
        return values[-1] if values else None


@dataclass(frozen=True, slots=True)
class Leftover:
    """What is not imported: the text as it was, and why."""

    text: str
    why: str
