"""What a job takes over from [defaults], and how that shrinks to fit what the job itself says."""

from __future__ import annotations

from typing import Any

from fetchd.job import Alerting, Job, Policy, Timeouts
from fetchd.secret import Secret


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
    """Return the times of ``job`` that have to shrink: its deadline to its interval, its timeouts to its deadline.

    Args:
        own: the job as it is written; what it sets itself stays.
        job: the same with what it inherits.
    """
    changed: dict[str, Any] = {}
    deadline = job.deadline
    if deadline > job.interval and "deadline" not in own.model_fields_set:
        changed["deadline"] = deadline = job.interval
    if any(seconds > deadline for _, seconds in job.timeout):
        changed["timeout"] = job.timeout.shrunk_to(deadline)
    return changed
