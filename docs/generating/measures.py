"""Every metric, as a scraper of a daemon with one job would find it."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from typing import Any, Final

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
`/metrics` at `daemon.listen` answers in the text format of Prometheus. Labels are names of jobs, sinks and notifiers,
never addresses. Counts begin at 0 with the process. What `outcome` and `reason` may be:
[Outcomes and reasons](outcomes.md). `result` is `delivered`, `failed` or `dead` of a delivery, `sent`, `failed` or
`dead` of a notification, `sent` or `failed` of a ping.

[Prometheus and Grafana](../how-to/prometheus.md) shows how to scrape them and what to alert on.
"""
_OURS: Final = "fetchd_"
_JOB: Final = "rates"
_BEGAN: Final = datetime(2026, 1, 1, tzinfo=UTC)
_LINE: Final = re.compile(
    r"# (?P<what>HELP|TYPE) (?P<name>\S+) (?P<words>.*)|(?P<sample>\w+)(?:\{(?P<labels>.*)\})? \S+"
)


@dataclass
class Family:
    """What is exposed of one metric."""

    name: str
    words: str = ""
    kind: str = ""
    labels: set[str] = field(default_factory=set)


def page() -> str:
    """Return the page."""
    families = asyncio.run(_families())
    heads = ("Metric", "Type", "Labels", "What it is")
    ours = [family for family in families if family.name.startswith(_OURS)]
    others = [family for family in families if not family.name.startswith(_OURS)]
    parts = [INTRODUCTION, table(heads, _rows(ours)), "## Of the process", table(heads, _rows(others))]
    return document("Metrics", *parts)


async def _families() -> list[Family]:
    nothing: dict[str, Any] = {reading.name: lambda *_: 0 for reading in fields(Readings)}
    readings = Readings(**nothing | {"recall": lambda _: Memory(), "reload": lambda: (True, 0.0)})
    _, pieces = await Exposition(_told(), readings).render()
    return list(_read(b"".join(pieces).decode()))


def _read(text: str) -> Iterator[Family]:
    family: Family | None = None
    for line in map(_LINE.fullmatch, text.splitlines()):
        assert line is not None
        if line["what"] == "HELP":
            if family is not None:
                yield family
            family = Family(line["name"], line["words"])
        assert family is not None
        if line["what"] == "TYPE":
            family.kind = line["words"]
        elif line["sample"]:
            family.labels |= set(re.findall(r'(\w+)="', line["labels"] or "")) - {"le"}
    if family is not None:
        yield family


def _told() -> Metrics:
    """Return counts in which each series is there that there can be."""
    metrics = Metrics()
    sinks = (FileOptions(kind="file", path="rates.json"),)
    metrics.replace([Job(name=_JOB, url=Secret("http://upstream.example.com/"), sinks=sinks)])
    metrics.finished(Report(Run("", _JOB, _BEGAN), Outcome.SUCCEEDED, started=_BEGAN))
    metrics.skipped(_JOB, _BEGAN, Reason.OVERLAP)
    metrics.missed(_JOB, 1)
    metrics.notifications["chat", "sent"] += 0
    metrics.pings["sent"] += 0
    return metrics


def _order(label: str) -> tuple[bool, str]:
    """Return what sorts whose a series is before what it says of it."""
    return label not in {"job", "sink", "notifier"}, label


def _rows(families: list[Family]) -> Iterator[tuple[str, ...]]:
    for family in sorted(families, key=lambda family: family.name):
        shown = ", ".join(code(label) for label in sorted(family.labels, key=_order)) or "-"
        yield code(family.name), family.kind, shown, family.words
