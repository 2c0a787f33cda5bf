"""A crontab, line by line: variables, times, users, and commands with what cron itself makes of them (crontab(5))."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Final
from zoneinfo import ZoneInfo

from fetchd.config.rules import smallest_gap
from fetchd.imports.commands import NO_FETCH, Found, read
from fetchd.imports.tables import When
from fetchd.imports.wanted import Leftover, Surroundings, Wanted
from fetchd.schedule import Cron
from fetchd.units import parse_duration

_VARIABLE: Final = re.compile(r"\s*(?:'([^']+)'|\"([^\"]+)\"|([A-Za-z_][A-Za-z0-9_]*))\s*=\s*(.*?)\s*")
_FIELD: Final = re.compile(r"[0-9*][0-9*/,~-]*|[A-Za-z]{3}(?:[-,/][A-Za-z0-9*]+)*|[0-9*][A-Za-z0-9*/,~-]*")
_USER: Final = re.compile(r"[a-z_][a-z0-9_.-]*")
_NICKNAMES: Final = {
    "@annually": "0 0 1 1 *",
    "@yearly": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
    "@every_minute": "* * * * *",
}
_EVEN: Final = re.compile(r"\*(?:/\d+)? \*(?:/\d+)? \* \* \*|\d+ \* \* \* \*")


@dataclass(frozen=True, slots=True)
class Line:
    """What became of one line: jobs with their times, or a leftover."""

    found: Found
    when: When | None = None


@dataclass(slots=True)
class Crontab:
    """Reads the lines of a crontab. ``system`` says that there is a user before each command.

    ``timezone`` is the one that cron runs in. What concerns all jobs is in ``remarks``.
    """

    surroundings: Surroundings
    timezone: str
    system: bool = False
    remarks: list[str] = field(default_factory=list)

    def lines(self, text: str) -> Iterator[Line]:
        """Yield what each line of ``text`` stands for."""
        for number, line in enumerate(text.replace("\r\n", "\n").split("\n"), 1):
            stripped = line.strip()
            if not stripped or stripped.startswith("#"):
                continue
            if match := _VARIABLE.fullmatch(line):
                self._set(match[1] or match[2] or match[3], _unquoted(match[4]))
            else:
                yield from self._entry(number, stripped)

    def _set(self, name: str, value: str) -> None:
        if name in {"CRON_TZ", "TZ"}:
            self._zone(name, value)
        elif name == "SHELL":
            self.surroundings = replace(self.surroundings, shell=value or "sh")
        elif name == "HOME":
            self.surroundings = replace(self.surroundings, folder=value or None, out=value or None)
        elif name in {"MAILTO", "MAILFROM"}:
            self._remark(f"{name}: who is told of failures is said by [notifiers]")
            return
        self.surroundings = self.surroundings.knowing({name: value})

    def _zone(self, name: str, value: str) -> None:
        try:
            ZoneInfo(value)
        except (KeyError, OSError, ValueError):
            self._remark(f'{name}: there is no time zone "{value}"')
            return
        self.timezone = value
        if name == "TZ":
            self._remark("TZ is taken for the time zone of the schedule; Debian's cron takes it for the commands alone")

    def _remark(self, text: str) -> None:
        if text not in self.remarks:
            self.remarks.append(text)

    def _entry(self, number: int, line: str) -> Iterator[Line]:
        times, rest = _times(line.removeprefix("-"))
        user = ""
        if self.system and times:
            user, rest = _first_word(rest)
        problem = _unlike(times, rest)
        when = None if problem else self._when(times)
        if problem or when is None:
            yield Line(Leftover(line, problem or f"line {number} has times that are none"))
            return
        command, stdin = _command(rest.strip())
        found = read(command, replace(self.surroundings, stdin=stdin))
        wanted = [one for one in found if isinstance(one, Wanted)]
        if not wanted:
            why = next((one.why for one in found if isinstance(one, Leftover)), NO_FETCH)
            yield Line(Leftover(line, why + self._perhaps_user(command)))
            return
        for one in found:
            if isinstance(one, Wanted):
                self._noted(one, number, times, user)
                yield Line(one, when)
            else:
                wanted[0].note(f"not imported from the same line, {one.why}: {one.text}")

    def _perhaps_user(self, command: str) -> str:
        """Return what else may be meant where a fetch follows the first word."""
        user, rest = _first_word(command)
        fetches = _USER.fullmatch(user) and any(
            isinstance(one, Wanted) and one.url for one in read(rest, self.surroundings)
        )
        return f"; if {user} is a user, say --system" if fetches and not self.system else ""

    def _noted(self, wanted: Wanted, number: int, times: str, user: str) -> None:
        wanted.notes.insert(0, f"from line {number}")
        if user:
            wanted.note(f"cron ran it as {user}, the daemon runs everything as its own user")
        if _EVEN.fullmatch(times):
            wanted.note("cron keeps to the clock; an interval instead would spread the load over it")

    def _when(self, times: str) -> When | None:
        if times.startswith("@every "):
            interval = times.removeprefix("@every ")
            try:
                return When({"interval": interval}, parse_duration(interval))
            except ValueError:
                return None
        try:
            Cron(times, self.timezone)
        except ValueError:
            return None
        zone = {} if self.timezone == "UTC" else {"timezone": self.timezone}
        return When({"cron": times, **zone}, smallest_gap(times, self.timezone))


def _times(line: str) -> tuple[str, str]:
    """Return the times that ``line`` begins with, as a cron expression, and the rest; "" for an unknown nickname."""
    if line.startswith("@every "):
        parts = line.split(None, 2)
        return " ".join(parts[:2]), parts[2] if len(parts) > 2 else ""
    if line.startswith("@"):
        nickname, rest = _first_word(line)
        return _NICKNAMES.get(nickname, ""), rest
    parts = line.split(None, 5)
    return " ".join(parts[:5]), parts[5] if len(parts) > 5 else ""


def _first_word(text: str) -> tuple[str, str]:
    """Return the first word of ``text``, and what stands behind it: Debian's own crontab has tabs between them."""
    user, *rest = text.split(None, 1) or [""]
    return user, "".join(rest)


def _unlike(times: str, rest: str) -> str:
    """Return why a line cannot be read; "" if it can."""
    if not times:
        return "fetchd has no such time; a job runs by its schedule alone, not when the machine starts"
    if not rest.strip():
        return "there is no command after its times"
    first = rest.split()[0]
    if _FIELD.fullmatch(first) and not first.isalpha():
        return "it has more than five fields of time"
    return ""


def _command(rest: str) -> tuple[str, str | None]:
    """Return the command, and its standard input: what stands after the first bare ``%``, itself a line end."""
    pieces = re.split(r"(?<!\\)%", rest)
    plain = [piece.replace("\\%", "%") for piece in pieces]
    return plain[0], "\n".join([*plain[1:], ""]) if len(plain) > 1 else None


def _unquoted(value: str) -> str:
    if len(value) > 1 and value[0] == value[-1] and value[0] in "'\"":
        return value[1:-1]
    return value
