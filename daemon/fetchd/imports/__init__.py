"""Jobs from what people have already: command lines of curl and wget, and crontabs.

Texts go in, and the text of a configuration comes out, which `fetchd check` finds nothing wrong with but that files or
variables are missing. A job sends what the command would have sent, but for its User-Agent and the codings that it
accepts. What cannot be said in a job is a comment; where the request would be another one without it, so is the job.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from fetchd.imports.commands import Found, read, read_arguments
from fetchd.imports.crontab import Crontab
from fetchd.imports.names import job_name, unused
from fetchd.imports.tables import Secrets, When, table
from fetchd.imports.wanted import Leftover, Surroundings, Wanted
from fetchd.imports.written import Entry, Imported, imported
from fetchd.units import format_duration

__all__ = ["Choices", "Imported", "Surroundings", "from_command", "from_crontab"]


@dataclass(frozen=True, slots=True)
class Choices:
    """What the user says of the jobs: their name, how often they run (seconds), what becomes of secrets."""

    name: str | None = None
    interval: float = 300.0
    secrets: Secrets = "inline"


def from_command(command: str | Sequence[str], surroundings: Surroundings, choices: Choices) -> Imported:
    """Return the jobs of a command line, or of curl's arguments as a shell has read them."""
    surroundings = replace(surroundings, hides=choices.secrets == "env")
    found = read(command, surroundings) if isinstance(command, str) else read_arguments(command, surroundings)
    when = When({"interval": format_duration(choices.interval)}, choices.interval)
    return imported(_entries(((one, when) for one in found), choices), [])


def from_crontab(
    text: str, surroundings: Surroundings, choices: Choices, *, timezone: str = "UTC", system: bool = False
) -> Imported:
    """Return the jobs of a crontab.

    Args:
        text: the crontab.
        surroundings: of its commands.
        choices: what the user says; the interval does not count.
        timezone: the one that cron runs in.
        system: whether a user stands before each command, as in /etc/crontab.
    """
    crontab = Crontab(replace(surroundings, hides=choices.secrets == "env"), timezone, system)
    lines = [(line.found, line.when) for line in crontab.lines(text)]
    return imported(_entries(lines, choices), crontab.remarks)


def _entries(found: Iterable[tuple[Found, When | None]], choices: Choices) -> list[Entry | Leftover]:
    entries: list[Entry | Leftover] = []
    taken: set[str] = set()
    for one, when in found:
        if not isinstance(one, Wanted) or when is None:
            entries += [one] if isinstance(one, Leftover) else []
            continue
        name = unused(choices.name, taken) if choices.name else job_name(one, taken)
        taken.add(name)
        made = table(one, name, when, choices.secrets)
        if one.shows:
            one.note("what it printed goes nowhere yet: add sinks")
        entries.append(Entry(name, made, one.notes, one.blocks))
    return entries
