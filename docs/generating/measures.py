"""Every metric, as a scraper of a daemon with one job would find it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Final

from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from docs.generating.markdown import code, document, table
from fetchd.errors import Reason
from fetchd.job import Job
from fetchd.metrics import Metrics
from fetchd.metrics.exposition import Exposition, Readings
from fetchd.run import Outcome, Report, Run
from fetchd.secret import Secret
from fetchd.sinks.file import FileOptions
from fetchd.store import Memory

INTRODUCTION: Final = """
`/metrics` at `daemon.listen` answers in the text format of Prometheus, or as OpenMetrics if that is asked for. Labels
are names of jobs, sinks and notifiers, never addresses. Counts begin at 0 with the process. What `outcome` and `reason`
may be: [Outcomes and reasons](outcomes.md). `result` is `delivered`, `failed` or `dead` of a delivery, `sent`, `failed`
or `dead` of a notification, `sent` or `failed` of a ping.

[Prometheus and Grafana](../how-to/prometheus.md) shows how to scrape them and what to alert on.
"""
_OURS: Final = "fetchd_"
_JOB: Final = "rates"
_BEGAN: Final = datetime(2026, 1, 1, tzinfo=UTC)


def page() -> str:
    """Return the page."""
    families = asyncio.run(_families())
    heads = ("Metric", "Type", "Labels", "What it is")
    ours = [family for family in families if family.name.startswith(_OURS)]
    others = [family for family in families if not family.name.startswith(_OURS)]
    return document(
        "Metrics",
        INTRODUCTION,
        table(heads, _rows(ours)),
        "## Of the process",
        "These come from the client library.",
        table(heads, _rows(others)),
    )


async def _families() -> list[Metric]:
    readings = Readings(
        recall=lambda _: Memory(),
        overdue=lambda _: False,
        pending=lambda _job, _sink: 0,
        in_flight=lambda: 0,
        in_flight_bytes=lambda: 0,
        loop_lag=lambda: 0.0,
        lines_dropped=lambda: 0,
        store_writable=lambda: True,
        reload=lambda: (True, 0.0),
    )
    _, text = await Exposition(_told(), readings).render("")
    return list(text_string_to_metric_families(text.decode()))


def _told() -> Metrics:
    """Return counts in which each series is there that there can be."""
    metrics = Metrics()
    sinks = (FileOptions(kind="file", path="rates.json"),)
    job = Job(name=_JOB, url=Secret("http://upstream.example.com/"), sinks=sinks)
    metrics.replace([job])
    metrics.finished(Report(Run("", _JOB, _BEGAN), Outcome.SUCCEEDED, started=_BEGAN))
    metrics.skipped(_JOB, _BEGAN, Reason.OVERLAP)
    metrics.missed(_JOB, 1)
    metrics.notifications["chat", "sent"] += 0
    metrics.pings["sent"] += 0
    return metrics


def _order(label: str) -> tuple[bool, str]:
    """Return what sorts whose a series is before what it says of it."""
    return label not in {"job", "sink", "notifier"}, label


def _rows(families: list[Metric]) -> Iterator[tuple[str, ...]]:
    for family in sorted(families, key=lambda family: family.name):
        labels = {label for sample in family.samples for label in sample.labels} - {"le"}
        name = f"{family.name}_total" if family.type == "counter" else family.name
        shown = ", ".join(code(label) for label in sorted(labels, key=_order)) or "-"
        yield code(name), family.type, shown, family.documentation
