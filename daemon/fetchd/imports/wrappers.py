"""Commands that start another one: what they are put before is what counts, and some of them say something of it."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

_ASSIGNMENT: Final = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)=(.*)", re.DOTALL)
_TIME: Final = re.compile(r"(\d{1,9}(?:\.\d{1,6})?)([smhd]?)")
_UNITS: Final = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}
_SHELLS: Final = frozenset({"sh", "bash", "dash", "ash", "zsh", "ksh"})


@dataclass(slots=True)
class Started:
    """What is started in the end: ``words``, or the command line ``line``."""

    words: list[str]
    line: str | None = None
    deadline: float | None = None
    known: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def started(words: Sequence[str]) -> Started:
    """Return what ``words`` start, when flock, timeout, nice, env, a shell and the like have done their part."""
    found = Started(list(words))
    while found.words and found.line is None:
        if match := _ASSIGNMENT.fullmatch(found.words[0]):
            found.known[match[1]] = match[2]
            found.words.pop(0)
            continue
        name = found.words[0].rpartition("/")[2]
        if name in _SHELLS:
            _shell(found)
            break
        if name not in _WRAPPERS:
            break
        _WRAPPERS[name](found)
    return found


def _past(words: list[str], valued: str = "") -> list[str]:
    """Return ``words`` from the first on that is no option; each of ``valued`` takes the next word with it."""
    takes = valued.split()
    while words and words[0].startswith("-") and words[0] != "-":
        option = words.pop(0)
        if option == "--":
            break
        if option in takes and words:
            words.pop(0)
    return words


def _plain(valued: str = "", note: str = "") -> Callable[[Started], None]:
    def strip(found: Started) -> None:
        found.words = _past(found.words[1:], valued)
        found.notes += [note] if note else []

    return strip


def _env(found: Started) -> None:
    found.words = _past(found.words[1:], "-u --unset -C --chdir -S --split-string")


def _timeout(found: Started) -> None:
    found.words = _past(found.words[1:], "-k --kill-after -s --signal")
    if found.words and (match := _TIME.fullmatch(found.words.pop(0))):
        found.deadline = float(match[1]) * _UNITS[match[2]] or None
    else:
        found.notes.append("timeout: the time is not known")


def _flock(found: Started) -> None:
    words = _past(found.words[1:], "-w --wait --timeout -E --conflict-exit-code")[1:]
    found.notes.append("flock is not needed: a job has one run at a time")
    if words[:1] in (["-c"], ["--command"]) and len(words) > 1:
        found.line = words[1]
    found.words = words


def _su(found: Started) -> None:
    words = found.words[1:]
    found.notes.append("su: the daemon runs everything as its own user")
    found.line = next((words[at + 1] for at in range(len(words) - 1) if words[at] in {"-c", "--command"}), None)
    found.words = []


def _shell(found: Started) -> None:
    words = found.words[1:]
    while words and words[0][:1] in {"-", "+"}:
        option = words.pop(0)
        if re.fullmatch(r"-[a-z]*c", option) and words:
            found.line = words[0]
            return
        if option in {"-o", "-O", "+o"} or re.fullmatch(r"-[a-z]*o", option):
            words = words[1:]


_WRAPPERS: Final[dict[str, Callable[[Started], None]]] = {
    "$": _plain(),  # the prompt, as documents have it
    "builtin": _plain(),
    "chronic": _plain(),
    "command": _plain(),
    "cronic": _plain(),
    "env": _env,
    "exec": _plain("-a"),
    "flock": _flock,
    "ionice": _plain("-c --class -n --classdata"),
    "nice": _plain("-n --adjustment"),
    "nohup": _plain(),
    "run-one": _plain(note="run-one is not needed: a job has one run at a time"),
    "setsid": _plain(),
    "stdbuf": _plain("-i -o -e --input --output --error"),
    "su": _su,
    "sudo": _plain("-u --user -g --group -p -C", "sudo: the daemon runs everything as its own user"),
    "systemd-cat": _plain("-t --identifier -p --priority"),
    "time": _plain("-f -o"),
    "timeout": _timeout,
}
