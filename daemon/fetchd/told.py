"""How a Run ended, in words for people."""

from __future__ import annotations

from collections.abc import Iterator

from fetchd.run import Outcome, Report


def lines_of(report: Report) -> Iterator[str]:
    """Yield what there is to say of ``report``, the most important first."""
    parts = [f"{report.run.job}: {report.outcome}"]
    if report.reason:
        parts.append(f"({report.reason})")
    if report.message:
        parts.append(f"- {report.message}")
    yield " ".join(parts)
    if report.outcome is Outcome.SKIPPED:
        return
    status = f"status {report.status}, " if report.status else ""
    attempts = f"{report.attempts} attempt" + ("" if report.attempts == 1 else "s")
    yield f"  {status}{report.bytes} bytes, {attempts}, {report.duration:.3f} s"
    if report.timings:
        yield "  " + ", ".join(f"{phase} {seconds * 1000:.1f} ms" for phase, seconds in report.timings.items())
