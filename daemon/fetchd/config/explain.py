"""What counts for a job, and where each value comes from; nothing secret among it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from fetchd.config.document import Document, read
from fetchd.config.lines import KeyPath
from fetchd.config.load import build, defaults_of
from fetchd.config.model import host_name
from fetchd.config.sharing import Shared, shared
from fetchd.config.written import key_text, toml_value
from fetchd.errors import ConfigError, Finding
from fetchd.fetch.auth import OAuth2Auth
from fetchd.fetch.retry import passing_by
from fetchd.fetch.verdict import ANY
from fetchd.job import ENVIRONMENT, Job, Policy, public_url
from fetchd.overdue import SLOTS
from fetchd.secret import INLINE, MASK, Secret
from fetchd.shorten import meant
from fetchd.units import format_duration


class _Words(str):
    """A value that no file says so: what holds where a list is empty, or nothing is named."""


NO_LIMIT: Final = _Words("no limit")
_OF_A_URL: Final = ("method", "params", "expect")


@dataclass(frozen=True, slots=True)
class Row:
    """One value of a job: its key, the value as it would be written, and where it comes from."""

    key: str
    value: str
    origin: str


@dataclass(frozen=True, slots=True)
class Explained:
    """A job, and all that counts for it; its functions are not looked up.

    ``shared`` says in words with which others it shares its host; "" if it has none.
    """

    job: Job = field(repr=False)
    rows: list[Row]
    shared: str = ""


def explain(path: Path, name: str, *, environment: Mapping[str, str]) -> Explained:
    """Return what counts for the job ``name`` of the file at ``path``.

    Raises:
        ConfigError: something is wrong with the file, or it has no such job.
    """
    document = read(path)
    config = build(document, environment=environment, functions=False)
    job = config.jobs.get(name)
    if job is None:
        message = f"there is no such job; {meant(name, document.data['jobs'])}"
        raise ConfigError([Finding(str(path), None, f"jobs.{name}", message)])
    origins = _Origins(document, job, defaults_of(document, environment=environment))
    rows = [Row(key_text(place), _written(value), origins.of(place)) for place, value in _leaves(_shown(job))]
    host = shared(config, job)
    return Explained(job, [*rows, *_limits(host, origins)], host.in_words()) if host else Explained(job, rows)


def values_of(job: Job) -> list[tuple[str, str]]:
    """Return what counts for ``job``, whatever its file says by now: each key, and the value as it would be written."""
    return [(key_text(place), _written(value)) for place, value in _leaves(_shown(job))]


def _limits(host: Shared, origins: _Origins) -> Iterator[Row]:
    """Yield what the host of the job is spared."""
    key = next((key for key in origins.document.data.get("hosts", {}) if host_name(key) == host.table), host.host)
    limits = host.limits
    spacing = format_duration(limits.min_spacing) if limits.min_spacing else NO_LIMIT
    for name, value in (("max_concurrent", limits.max_concurrent or NO_LIMIT), ("min_spacing", spacing)):
        place = ("hosts", key, name)
        yield Row(key_text(place), _written(value), origins.of_table(place))


def _shown(job: Job) -> dict[str, Any]:
    """Return the values of ``job`` that count, by key, fit to be shown: what it fetches first, its sinks last."""
    values = job.model_dump(mode="json", by_alias=True, exclude={"name"}, exclude_none=True)
    for key in _without_effect(job):
        del values[key]
    if job.url is not None:
        values["url"] = _address(job.url)
    if isinstance(job.auth, OAuth2Auth):
        values["auth"]["token_url"] = _address(job.auth.token_url)
    if job.proxy.reveal() in ("", ENVIRONMENT):
        values["proxy"] = job.proxy.reveal()
    if "json" in values:
        values["json"] = MASK
    for header, value in job.headers.items():
        if header.lower() in job.PUBLIC_HEADERS and value.origin == INLINE:
            values["headers"][header] = value.reveal()
    for sink, sink_name in zip(values["sinks"], job.sink_names(), strict=True):
        sink["name"] = sink_name
    _say_what_is_not_named(job, values)
    policy = {key: values.pop(key) for key in Policy.model_fields if key in values}
    sinks = values.pop("sinks")
    return {**values, **policy, "sinks": sinks}


def _say_what_is_not_named(job: Job, values: dict[str, Any]) -> None:
    """Put in words what counts where ``job`` leaves it open: an empty list looks as if nothing did."""
    if "expect" in values and not job.expect.status:
        values["expect"]["status"] = _Words(f"{ANY[0]} to {ANY[-1]}")
    if not job.retry.on:
        values["retry"]["on"] = _Words(passing_by())
    if job.overdue_after is None:
        values["overdue_after"] = _Words(f"{SLOTS} slots and the deadline")


def _without_effect(job: Job) -> Iterator[str]:
    """Yield the keys that mean nothing for ``job``: to show them would suggest that they did."""
    if job.collect:
        yield from _OF_A_URL
    yield "interval" if job.cron else "timezone"
    if job.parse == "json" and not (job.extract or job.split or job.unique):
        yield "parse"
    if job.parse != "csv":
        yield "delimiter"


def _address(url: Secret) -> str:
    """Return ``url`` as far as it may be shown: of one that is kept elsewhere, where it leads alone."""
    text = url.reveal()
    if url.origin != INLINE:
        parts = urlsplit(text)
        return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}/{url.masked()}"
    return public_url(text) + (f"?{MASK}" if urlsplit(text).query else "")


def _leaves(value: Any, place: KeyPath = ()) -> Iterator[tuple[KeyPath, Any]]:
    if isinstance(value, dict) and value:
        for key, item in value.items():
            yield from _leaves(item, (*place, key))
    elif isinstance(value, list) and any(isinstance(item, dict) for item in value):
        for index, item in enumerate(value):
            yield from _leaves(item, (*place, index))
    else:
        yield place, value


def _written(value: Any) -> str:
    as_it_is = isinstance(value, _Words) or (isinstance(value, str) and value.startswith(MASK[:-1]))
    return value if as_it_is else toml_value(value)


@dataclass(frozen=True)
class _Origins:
    document: Document
    job: Job
    defaults: Policy

    def of(self, place: KeyPath) -> str:
        """Return where the value of the job's key at ``place`` comes from."""
        data = self.document.data
        if _reaches(data["jobs"][self.job.name], place):
            return self._line(("jobs", self.job.name, *place))
        if place[0] == "deadline" and self.job.deadline != self.defaults.deadline:
            return "shrunk to fit the interval"
        if place[0] == "timeout" and self._shrunk(str(place[1])):
            return "shrunk to the deadline"
        if place[0] in Policy.model_fields and _reaches(data.get("defaults", {}), place):
            return self._line(("defaults", *place)) + " [defaults]"
        return "built-in"

    def of_table(self, place: KeyPath) -> str:
        """Return where the value at ``place``, which is no job's, comes from."""
        return self._line(place) if _reaches(self.document.data, place) else "built-in"

    def _shrunk(self, phase: str) -> bool:
        return bool(getattr(self.job.timeout, phase) != getattr(self.defaults.timeout, phase))

    def _line(self, path: KeyPath) -> str:
        return f"{self.document.path.name}:{self.document.line(path)}"


def _reaches(raw: Any, place: KeyPath) -> bool:
    """Return whether ``raw`` holds the key at ``place``, or one value for it and all its neighbours."""
    for part in place:
        if isinstance(raw, dict):
            if part not in raw:
                return False
            raw = raw[part]
        elif isinstance(raw, list):
            raw = raw[int(part)]
        else:
            return True
    return True
