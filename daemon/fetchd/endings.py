"""How a Run ends: each failure becomes an outcome with a reason, and each Run one line in the log."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import structlog

from fetchd.errors import FetchError, Reason, SinkError, UserCodeError
from fetchd.run import Outcome, Progress, Report

log = structlog.get_logger()

_REASON_BY_PHASE: Final = {
    "pool": Reason.TIMEOUT_POOL,
    "dns": Reason.DNS,
    "connect": Reason.TIMEOUT_CONNECT,
    "write": Reason.TIMEOUT_WRITE,
    "headers": Reason.TIMEOUT_READ,
    "body": Reason.TIMEOUT_READ,
    "auth": Reason.AUTH,
    "memory": Reason.LOCAL_RESOURCE,
    "worker": Reason.STARVED,
    "collect": Reason.COLLECT,
    "extract": Reason.EXTRACT,
    "claim": Reason.LOCAL_RESOURCE,
    "commit": Reason.LOCAL_RESOURCE,
    "deliver": Reason.SINK,
}


@dataclass(frozen=True, slots=True)
class Ending:
    """What a Run has come to, and why if it is nothing good."""

    outcome: Outcome
    reason: Reason | None = None
    message: str = ""


def of_error(error: Exception, phase: str) -> Ending:
    """Return how a Run ends that ``error`` has ended in ``phase``; what no room has foreseen is a defect."""
    match error:
        case FetchError():
            return Ending(Outcome.FETCH_FAILED, error.reason, str(error))
        case SinkError():
            return Ending(Outcome.DELIVERY_FAILED, Reason.SINK, str(error))
        case UserCodeError():
            return Ending(Outcome.FETCH_FAILED, Reason.COLLECT, str(error))
    fetched = phase.startswith(("commit", "deliver"))
    failed = Outcome.DELIVERY_FAILED if fetched else Outcome.FETCH_FAILED
    return Ending(failed, Reason.INTERNAL, f"{type(error).__name__}: {error}")


def overdue(deadline: float, progress: Progress) -> Ending:
    """Return how a Run ends whose ``deadline``, in seconds, has passed where ``progress`` is."""
    phase = progress.phase
    reason = progress.failed or _REASON_BY_PHASE.get(phase.partition(":")[0])
    return Ending(Outcome.DEADLINE_EXCEEDED, reason, f"the deadline of {deadline:g} s passed in phase {phase}")


def say(report: Report) -> None:
    """Write the one canonical line of a Run."""
    run = report.run
    fields = {
        "job": run.job,
        "run": run.id,
        "slot": run.slot.isoformat(),
        "outcome": str(report.outcome),
        "reason": str(report.reason) if report.reason else None,
        "status": report.status,
        "bytes": report.bytes,
        "attempts": report.attempts,
        "duration_s": round(report.duration, 4),
        "lateness_s": round(report.lateness, 4),
    }
    if report.outcome.good:
        log.info("run_finished", **fields)
    else:
        log.warning("run_finished", **fields, phase=report.phase, message=report.message)
