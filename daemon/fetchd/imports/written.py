"""Imported jobs as the text of a configuration, in which whatever cannot be used is a comment."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from fetchd.config.document import Document
from fetchd.config.load import build
from fetchd.config.written import key_text, toml_value
from fetchd.errors import ConfigError
from fetchd.imports.wanted import Leftover

WIDTH: Final = 118
_NOT_IN_COMMENTS: Final = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_STAND_INS: Final = {
    "url": "http://import.invalid/",
    "proxy": "http://import.invalid:1",
    "ping": "http://import.invalid/",
}
_PREAMBLE: Final = (
    "Imported by fetchd. Read what the comments say, then: fetchd check -c FILE",
    "A status from 200 to 299 is a result, any other a failure; set expect.status where others are results as well.",
    "What the commands leave open (deadline, timeout, retries, max_body) is what [defaults] says.",
)


@dataclass(slots=True)
class Entry:
    """A job, with what is to be said of it. With ``blocks`` all of it is a comment."""

    name: str
    table: dict[str, Any]
    notes: list[str] = field(default_factory=list)
    blocks: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Imported:
    """What was imported: the text, how many jobs are in it, and how many things are comments only."""

    text: str
    jobs: int
    left: int


def imported(entries: list[Entry | Leftover], remarks: list[str]) -> Imported:
    """Return ``entries`` as a text, those blocked that the configuration would refuse.

    Args:
        entries: jobs, and what is none, in their order.
        remarks: what is to be said of all of them.
    """
    jobs = [entry for entry in entries if isinstance(entry, Entry)]
    while refused := _refused({job.name: job.table for job in jobs if not job.blocks}):
        for job in jobs:
            job.blocks += refused.get(job.name, [])
    sections = ["".join(comment(line) for line in (*_PREAMBLE, *remarks))]
    sections += ["".join(_leftover(one) if isinstance(one, Leftover) else _job(one)) for one in entries]
    used = sum(not job.blocks for job in jobs)
    return Imported("\n".join(sections), used, len(entries) - used)


def comment(text: str) -> str:
    """Return ``text`` as lines of a comment."""
    safe = _NOT_IN_COMMENTS.sub(lambda match: ascii(match[0])[1:-1], text.replace("\r\n", "\n"))
    return "".join(f"# {line}".rstrip() + "\n" for line in safe.split("\n"))


def _leftover(one: Leftover) -> Iterator[str]:
    yield comment(f"Not imported: {one.why}.")
    yield comment("\n".join(f"    {line}" for line in one.text.split("\n")))


def _job(entry: Entry) -> Iterator[str]:
    for reason in entry.blocks:
        yield comment(f"NOT USABLE AS IT IS: {reason}.")
    lines = list(_lines(entry))
    if entry.blocks:
        yield "".join(comment(line) for line in lines)
    else:
        yield "".join(f"{line}\n" for line in lines)


def _lines(entry: Entry) -> Iterator[str]:
    yield f"[{key_text(('jobs', entry.name))}]"
    for note in entry.notes:
        yield from comment(note).splitlines()
    for key, value in entry.table.items():
        line = f"{key} = {toml_value(value)}"
        if key == "sinks" and len(line) > WIDTH:
            yield "sinks = ["
            yield from (f"  {toml_value(sink)}," for sink in value)
            yield "]"
        else:
            yield line


def _refused(tables: Mapping[str, dict[str, Any]]) -> dict[str, list[str]]:
    """Return what keeps each of ``tables`` from being used; not whether its files and variables are there already."""
    if not tables:
        return {}
    stripped = {name: _stripped(table) for name, table in tables.items()}
    document = Document(Path("imported.toml"), "", {"jobs": stripped})
    try:
        build(document, environment={"HOME": "/"}, functions=False)
    except ConfigError as error:
        found: dict[str, list[str]] = {}
        for finding in error.findings:
            name = next(name for name in tables if f"{finding.key}.".startswith(f"{key_text(('jobs', name))}."))
            key = finding.key.removeprefix(key_text(("jobs", name))).lstrip(".")
            found.setdefault(name, []).append(f"{key}: {finding.message}" if key else finding.message)
        return found
    return {}


def _stripped(table: Mapping[str, Any]) -> dict[str, Any]:
    return {key: _known(value, _STAND_INS.get(key, "x")) for key, value in table.items() if key != "tls"}


def _known(value: Any, stand_in: str) -> Any:
    """Return ``value`` with something in the place of what is read elsewhere."""
    if isinstance(value, dict):
        elsewhere = (
            len(value) == 1 and next(iter(value)) in {"env", "file"} and isinstance(next(iter(value.values())), str)
        )
        return stand_in if elsewhere else {key: _known(item, stand_in) for key, item in value.items()}
    if isinstance(value, list):
        return [_known(item, stand_in) for item in value]
    return value
