"""What a job takes over from [defaults], and how that shrinks to fit what the job itself says."""

from __future__ import annotations

from typing import Any, Final

from fetchd.job import SHORTEST_INTERVAL, Alerting, Job, Policy, Timeouts
from fetchd.secret import Secret

SPARE: Final = 0.05
"""The part of the interval that an inherited deadline leaves free: a Run that is ended by it must be over, and told,
when the next slot comes, or an upstream that hangs would cost every second slot."""
SPARE_AT_MOST: Final = 1.0
"""Seconds."""


def inherited(own: Job, defaults: Policy) -> dict[str, Any]:
    """Return what ``own``, a job as it is written, takes over: the keys, headers and phases that it does not name."""
    written = own.model_fields_set
    taken = {key: getattr(defaults, key) for key in defaults.model_fields_set if key not in written}
    if "timeout" in written and "timeout" in defaults.model_fields_set:
        taken["timeout"] = _phases(own.timeout, defaults.timeout)
    if "alerts" in written and "alerts" in defaults.model_fields_set:
        taken["alerts"] = _alerts(own.alerts, defaults.alerts)
    if defaults.headers and (own.headers or own.auth):
        taken["headers"] = _headers(own, defaults.headers)
    if own.cron is not None:
        taken.pop("interval", None)
    return taken


def _phases(own: Timeouts, base: Timeouts) -> Timeouts:
    return base.model_copy(update={phase: getattr(own, phase) for phase in own.model_fields_set})


def _alerts(own: Alerting, base: Alerting) -> Alerting:
    return base.model_copy(update={key: getattr(own, key) for key in own.model_fields_set})


def _headers(own: Job, base: dict[str, Secret]) -> dict[str, Secret]:
    names = {name.lower() for name in own.headers}
    if own.auth is not None:
        names |= {"authorization", own.auth.fills()[1].lower()}
    return {name: value for name, value in base.items() if name.lower() not in names} | own.headers


def shrunk(own: Job, job: Job) -> dict[str, Any]:
    """Return the times of ``job`` that have to shrink: its deadline below its interval, its timeouts to its deadline.

    Args:
        own: the job as it is written; what it sets itself stays.
        job: the same with what it inherits.
    """
    changed: dict[str, Any] = {}
    deadline = job.deadline
    if "deadline" not in own.model_fields_set and deadline > (fitting := _fitting(own, job.interval)):
        changed["deadline"] = deadline = fitting
    if any(seconds > deadline for _, seconds in job.timeout):
        changed["timeout"] = job.timeout.shrunk_to(deadline)
    return changed


def _fitting(own: Job, interval: float) -> float:
    """Return the longest deadline that ends before the next slot, and not before a timeout that ``own`` has written."""
    waits = max((getattr(own.timeout, phase) for phase in own.timeout.model_fields_set), default=0.0)
    return min(interval, max(waits, SHORTEST_INTERVAL, interval - min(interval * SPARE, SPARE_AT_MOST)))
