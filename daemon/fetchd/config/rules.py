"""What the keys of a job must be to one another. Decisions without I/O: each rule yields where, and what is wrong."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from itertools import islice
from typing import Any, Final
from urllib.parse import parse_qsl, urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

from cronsim import CronSim

from fetchd.config.lines import KeyPath
from fetchd.fetch.auth import OAuth2Auth
from fetchd.job import Auth, Job, Timeouts
from fetchd.schedule import Cron
from fetchd.units import MAX_DURATION, format_duration

Problems = Iterator[tuple[KeyPath, str]]
"""Keys, from the job's table on, with what is wrong with them."""

_OF_A_URL: Final = ("method", "params", "json", "form", "body", "auth", "expect", "pages", "cursor")
_BODIES: Final = ("json", "form", "body")
_SLOTS: Final = 64
"""Looked at for the smallest gap of a cron expression; more than a field can name, so that its wrap is among them."""
_FIRST: Final = datetime(2024, 1, 1, tzinfo=UTC)
"""Gaps are taken from here on: what is right today must not be wrong tomorrow."""


def together(raw: Mapping[str, Any]) -> Problems:
    """Judge which keys stand beside one another in ``raw``, a job's table."""
    yield from _source(raw)
    yield from _sent(raw)
    if "interval" in raw and "cron" in raw:
        yield ("cron",), "write either interval or cron, not both"
    if "timezone" in raw and "cron" not in raw:
        yield ("timezone",), "goes with cron only"


def _source(raw: Mapping[str, Any]) -> Problems:
    if "collect" not in raw:
        if "url" not in raw:
            yield (), "needs a url, or collect with a function"
        return
    if "url" in raw:
        yield ("collect",), "write either url or collect, not both"
        return
    for key in _OF_A_URL:
        if key in raw:
            yield (key,), "goes with url only: with collect, the function makes the requests"


def _sent(raw: Mapping[str, Any]) -> Problems:
    bodies = [key for key in raw if key in _BODIES]
    if not bodies or "collect" in raw:
        return
    for key in bodies[1:]:
        yield (key,), f"only one body can be sent, and {bodies[0]} is one"
    if raw.get("method", "HEAD") == "HEAD":  # a GET with a body is what few servers want: it has to be written
        yield (bodies[0],), 'a body needs a method, such as method = "POST"'
    yield from _unlike_json(raw.get("json"), ("json",))


def _unlike_json(value: Any, path: KeyPath) -> Problems:
    if isinstance(value, datetime | date | time):
        yield path, "JSON knows no dates and times: write a text"
    elif isinstance(value, float) and not math.isfinite(value):
        yield path, "JSON knows finite numbers only"
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _unlike_json(item, (*path, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _unlike_json(item, (*path, index))


def when(job: Job) -> Problems:
    """Judge the cron expression of ``job`` and its time zone."""
    if job.cron is not None:
        try:
            Cron(job.cron)
        except ValueError as error:
            yield ("cron",), str(error)
    try:
        ZoneInfo(job.timezone)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        near = difflib.get_close_matches(job.timezone, available_timezones(), n=1)
        hint = f'did you mean "{near[0]}"?' if near else 'write one such as "Europe/Prague"'
        yield ("timezone",), f"unknown time zone; {hint}"


@lru_cache(maxsize=4096)
def smallest_gap(cron: str, timezone: str) -> float:
    """Return the shortest time, in seconds, between two slots of a valid cron expression.

    Those of a month are looked at, or of two days where all days are alike; beyond that, gaps are longer than any
    deadline.
    """
    every_day = cron.split()[-3:] == ["*", "*", "*"]
    horizon = timedelta(days=2 if every_day else 32)
    slots = (slot.astimezone(UTC) for slot in islice(CronSim(cron, _FIRST.astimezone(ZoneInfo(timezone))), _SLOTS))
    first = previous = next(slots)
    smallest = MAX_DURATION
    for slot in slots:
        smallest = min(smallest, (slot - previous).total_seconds())
        if slot - first > horizon:
            break
        previous = slot
    return smallest


def fitting(own: Job, job: Job) -> Problems:
    """Judge the times that ``own``, a job as it is written, sets; ``job`` is the same with all that it inherits."""
    if "deadline" in own.model_fields_set and job.deadline > job.interval:
        what = "time between two slots" if job.cron else "interval"
        yield ("deadline",), f"is longer than the {what}, {format_duration(job.interval)}"
    if "backoff" in own.model_fields_set and own.backoff.after and own.backoff.longest <= job.interval:
        message = f"is not longer than the interval, {format_duration(job.interval)}: it would never grow"
        yield ("backoff", "longest"), message
    auth = own.auth
    if isinstance(auth, OAuth2Auth) and "deadline" in auth.model_fields_set and auth.deadline >= job.deadline:
        yield ("auth", "deadline"), f"is not shorter than the job's, {format_duration(job.deadline)}"
    if "timeout" not in own.model_fields_set:
        return
    longer = [phase for phase in own.timeout.model_fields_set if getattr(own.timeout, phase) > job.deadline]
    one_for_all = len(longer) == len(Timeouts.model_fields)
    for place in [("timeout",)] if one_for_all else [("timeout", phase) for phase in longer]:
        yield place, f"is longer than the deadline, {format_duration(job.deadline)}"


def _beside(own: Job, auth: Auth) -> Problems:
    """Judge what ``own`` sends beside ``auth``: a server that gets two authorisations refuses both, or takes either."""
    place, name = auth.fills()
    if place == "header":
        for header in own.headers:
            if header.lower() == name.lower():
                yield ("headers", header), "auth sets this header"
    address = urlsplit(own.url.reveal() if own.url else "")
    if place == "query":
        if name in own.params:
            yield ("params", name), "auth sets this parameter"
        if any(given == name for given, _ in parse_qsl(address.query, keep_blank_values=True)):
            yield ("url",), f"auth sets the parameter {name}"
    elif name.lower() == "authorization" and "@" in address.netloc:
        yield ("url",), "holds a user, which authorises as well: write either that or auth"


def sending(own: Job) -> Problems:
    """Judge what ``own``, a job as it is written, sends and where its results go."""
    if own.auth is not None:
        yield from _beside(own, own.auth)
    seen: set[str] = set()
    for index, options in enumerate(own.sinks):
        if options.name is not None and options.name in seen:
            yield ("sinks", index, "name"), "another sink of this job has this name"
        seen.add(options.name or "")
