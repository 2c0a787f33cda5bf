"""What stands in braces in a job's address, parameters and body, and becomes another text with each Run."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from urllib.parse import quote

from fetchd.job import Cursor, Job
from fetchd.units import parse_duration

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
"""What ``{last_success}`` is before there was one."""

_PLACEHOLDER: Final = re.compile(
    r"\{(?P<literal>\{)?"
    r"(?P<name>cursor|last_success|now|slot)(?P<offset>[+-][0-9][0-9a-z.]{0,40})?(?::(?P<format>[^\s{}][^{}]{0,100}))?"
    r"\}(?(literal)\})"
)
_DIRECTIVES: Final = re.compile(r"(?:[^%]|%%|%[aAbBdeDfFgGhHIjmMpRSTuUVwWyYzZ]|%-[deHIjmMSUVWy])+")
"""What strftime does alike everywhere; ``%s`` is not among it, for it takes every time for a local one."""
_A_FORMAT: Final = 'write iso, unix, unix_ms, or one of strftime such as "%Y-%m-%d"'
_LITERAL: Final = "{{now}}, with double braces, stands for the text itself"

Path = tuple[int | str, ...]


@dataclass(frozen=True, slots=True)
class Known:
    """What the placeholders stand for, the same in all requests of a Run."""

    now: datetime
    slot: datetime
    last_success: datetime | None = None
    cursor: str = ""


def texts(job: Job) -> Iterator[tuple[Path, str]]:
    """Yield each text of ``job`` in which a placeholder counts, with its place in the job's table."""
    if job.url is not None:
        yield ("url",), job.url.reveal()
    for key, pairs in (("params", job.params), ("form", job.form or {})):
        for name, value in pairs.items():
            yield (key, name), value.reveal()
    if job.body is not None:
        yield ("body",), job.body.reveal()
    if job.json_body is not None:
        yield from _texts_in(job.json_body, ("json",))


def _texts_in(value: Any, path: Path) -> Iterator[tuple[Path, str]]:
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _texts_in(item, (*path, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _texts_in(item, (*path, index))


def varies(job: Job) -> bool:
    """Return whether the requests of ``job`` differ from Run to Run."""
    return any("{" in text and _PLACEHOLDER.search(text) for _, text in texts(job))


def names(text: str) -> set[str]:
    """Return which placeholders ``text`` holds."""
    return {match["name"] for match in _PLACEHOLDER.finditer(text) if not match["literal"]}


def used(job: Job) -> set[str]:
    """Return which placeholders ``job`` holds."""
    return {name for _, text in texts(job) if "{" in text for name in names(text)}


def around(text: str) -> list[str]:
    """Return what ``text`` holds besides its placeholders; all of it where there are none."""
    pieces, end = [], 0
    for match in _PLACEHOLDER.finditer(text):
        pieces.append(text[end : match.start()])
        end = match.end()
    return [*pieces, text[end:]]


def escaped(text: str) -> str:
    """Return ``text`` as a job has to have it for `fill` to make just that of it, whatever stands in braces."""
    return _PLACEHOLDER.sub(lambda match: f"{{{match[0]}}}", text)


def fill(text: str, known: Known, *, quoted: bool = False) -> str:
    """Return ``text`` with each placeholder replaced, ``quoted`` as a URL needs it; other braces stay as they are.

    Of a time, slashes are not quoted: they can only be those of the format, which whoever wrote the URL has chosen.
    """
    if "{" not in text:
        return text

    def replaced(match: re.Match[str]) -> str:
        if match["literal"]:
            return match[0][1:-1]
        try:
            value = _value(match, known)
        except ValueError:
            return match[0]  # `problems` has said so
        return quote(value, safe="" if match["name"] == "cursor" else "/") if quoted else value

    return _PLACEHOLDER.sub(replaced, text)


def filled(value: Any, known: Known) -> Any:
    """Return ``value``, a JSON document, with the placeholders in all of its texts replaced."""
    if isinstance(value, str):
        return fill(value, known)
    if isinstance(value, dict):
        return {key: filled(item, known) for key, item in value.items()}
    if isinstance(value, list):
        return [filled(item, known) for item in value]
    return value


def problems(text: str, cursor: Cursor | None) -> Iterator[str]:
    """Yield what is wrong with the placeholders in ``text``, of a job with this ``cursor``."""
    for match in _PLACEHOLDER.finditer(text):
        if match["literal"]:
            continue
        plain = "{" + match["name"] + "}"
        if match["name"] == "cursor" and cursor is None:
            yield f"{plain} needs a cursor table that says where it comes from; {_LITERAL}"
        elif match["name"] == "cursor" and cursor and not cursor.slot and (match["offset"] or match["format"]):
            yield f"only times have formats and offsets, so write {plain}; with slot = true the cursor is a time"
        elif problem := _problem(match):
            yield f"{problem}; {_LITERAL}"


def written(moment: datetime) -> str:
    """Return ``moment`` as a cursor keeps it: RFC 3339 in UTC, with fractions where there are some."""
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


def read(text: str) -> datetime | None:
    """Return the time that ``text`` is, as `written` writes it or otherwise by RFC 3339; None if it is none."""
    try:
        moment = datetime.fromisoformat(text)
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def _problem(match: re.Match[str]) -> str | None:
    if match["offset"]:
        try:
            parse_duration(match["offset"][1:])
        except ValueError as error:
            return f"the offset of {{{match['name']}}} is wrong: {error}"
    try:
        _formatted(EPOCH, match["format"])
    except ValueError:
        return f"{{{match['name']}}} has an unknown format: {_A_FORMAT}"
    return None


def _value(match: re.Match[str], known: Known) -> str:
    name, offset, form = match["name"], match["offset"], match["format"]
    if name == "cursor" and not offset and not form:
        return known.cursor
    moment = {"now": known.now, "slot": known.slot, "last_success": known.last_success}.get(name)
    if name == "cursor":
        moment = read(known.cursor)
    moment = (moment or EPOCH).astimezone(UTC)
    if offset:
        seconds = timedelta(seconds=parse_duration(offset[1:]))
        moment = moment + seconds if offset[0] == "+" else moment - seconds
    return _formatted(max(moment, EPOCH), form)


def _formatted(moment: datetime, form: str | None) -> str:
    """Return ``moment`` as ``form`` says; what is cut off of it is earlier, so that nothing is skipped."""
    if form in {None, "iso"}:
        return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
    if form in {"unix", "unix_ms"}:
        return str((moment - EPOCH) // timedelta(seconds=1 if form == "unix" else 0.001))
    assert form is not None
    if not _DIRECTIVES.fullmatch(form) or "%" not in form.replace("%%", ""):
        raise ValueError
    return moment.strftime(form)
