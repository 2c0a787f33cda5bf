"""Whom a job's silence and its failures are told."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from fetchd.job.values import JOB_NAME, Frozen, Listed
from fetchd.units import Duration


class Alerting(Frozen):
    """When somebody is told how the job fares."""

    after: Annotated[int, Field(ge=0, le=1_000_000)] = 3
    """The failures in a row after which somebody is told; 0: nobody is."""
    overdue: bool = True
    """Whether somebody is told when the job is overdue."""
    recovery: bool = True
    """Whether somebody is told that the job does well again."""
    reminder: Duration = 14400.0
    """The shortest time after which somebody is told again what has not changed."""
    notify: Annotated[tuple[Annotated[str, Field(pattern=JOB_NAME)], ...], Listed] | None = None
    """The notifiers that are told, by their names; without, all of them."""
