"""The counts as Prometheus reads them: its text format, version 0.0.4.

Written here and not by its client library, which takes twenty times as long for a thousand jobs and leaves twenty
megabytes behind (docs/adr/0013).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from fetchd import __version__
from fetchd.metrics import Histogram, Metrics
from fetchd.metrics.process import process_values
from fetchd.store import Memory

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
LINES_A_TURN: Final = 250
"""Lines that are written within one turn of the loop: about a millisecond."""


@dataclass(frozen=True, slots=True)
class Readings:
    """Whom the values are asked of that nobody has to count; none of it waits.

    ``pending`` takes a job and a sink; ``reload`` tells whether the last one was applied, and when one last was, in
    seconds since the epoch; ``loop_lag`` is in seconds.
    """

    recall: Callable[[str], Memory]
    failures: Callable[[str], int]
    overdue: Callable[[str], bool]
    pending: Callable[[str, str], int]
    in_flight: Callable[[], int]
    stuck: Callable[[], int]
    in_flight_bytes: Callable[[], int]
    loop_lag: Callable[[], float]
    lines_dropped: Callable[[], int]
    store_writable: Callable[[], bool]
    reload: Callable[[], tuple[bool, float]]


class Exposition:
    """Writes the counts, a few lines in each turn of the loop."""

    def __init__(self, metrics: Metrics, readings: Readings) -> None:
        self._metrics = metrics
        self._readings = readings

    async def render(self) -> tuple[str, Sequence[bytes]]:
        """Return the content type, and the text in pieces.

        Runs that end meanwhile are counted or not, each family by itself: that is how a scraper reads them anyway.
        """
        pieces: list[bytes] = []
        lines: list[str] = []
        for line in self._lines():
            lines.append(line)
            if len(lines) >= LINES_A_TURN:
                pieces.append("".join(lines).encode())
                lines.clear()
                await asyncio.sleep(0)
        pieces.append("".join(lines).encode())
        return CONTENT_TYPE, pieces

    def _lines(self) -> Iterator[str]:
        yield from _family("fetchd_build_info", "gauge", "The version that runs.", [(_labels(version=__version__), 1)])
        yield from self._of_the_daemon()
        yield from self._of_runs()
        yield from self._of_jobs()
        yield from self._of_deliveries()
        for name, kind, words, value in process_values():
            yield from _family(name, kind, words, [("", value)])

    def _of_the_daemon(self) -> Iterator[str]:
        readings, metrics = self._readings, self._metrics
        applied, at = readings.reload()
        singles: Sequence[tuple[str, str, str, float]] = (
            ("runs_in_flight", "gauge", "Runs that are alive, those that wait for a place too.", readings.in_flight()),
            ("runs_stuck", "gauge", "Runs that ignore that they were cancelled, and live on.", readings.stuck()),
            ("in_flight_bytes", "gauge", "Bytes of bodies that Runs hold in memory.", readings.in_flight_bytes()),
            (
                "loop_lag_seconds",
                "gauge",
                "The longest that the loop stood still within the last minute.",
                readings.loop_lag(),
            ),
            (
                "config_last_reload_successful",
                "gauge",
                "Whether the last configuration that was offered is in force.",
                applied,
            ),
            (
                "config_last_reload_timestamp_seconds",
                "gauge",
                "When a configuration was last read and found fit, with changes or without.",
                at,
            ),
            ("store_writable", "gauge", "Whether what is to be kept can be written.", readings.store_writable()),
            (
                "log_lines_dropped_total",
                "counter",
                "Lines that the log could not take in time.",
                readings.lines_dropped(),
            ),
            ("clock_steps_total", "counter", "Times that the wall's clock was stepped.", metrics.clock_steps),
        )
        for name, kind, words, value in singles:
            yield from _family(f"fetchd_{name}", kind, words, [("", value)])
        sent = [
            (_labels(notifier=notifier, result=result), count)
            for (notifier, result), count in list(metrics.notifications.items())
        ]
        yield from _family("fetchd_notifications_total", "counter", "Notifications, by what became of them.", sent)
        pings = [(_labels(result=result), count) for result, count in list(metrics.pings.items())]
        yield from _family("fetchd_pings_total", "counter", "Dead-man pings, by what became of them.", pings)

    def _of_runs(self) -> Iterator[str]:
        metrics = self._metrics
        runs = [
            (_labels(job=job, outcome=outcome, reason=reason), count)
            for (job, outcome, reason), count in list(metrics.runs.items())
        ]
        yield from _family("fetchd_runs_total", "counter", "Runs that have ended.", runs)
        skips = [(_labels(job=job, reason=reason), count) for (job, reason), count in list(metrics.skips.items())]
        yield from _family("fetchd_slots_skipped_total", "counter", "Slots that found no Run of their own.", skips)
        for name, words, counts in (
            ("slots_missed", "Slots that the loop was too late for.", metrics.slots_missed),
            ("attempts", "HTTP exchanges, and calls of collect functions.", metrics.attempts),
            ("response_bytes", "Bytes of bodies that were read.", metrics.bytes),
        ):
            of_jobs = [(_labels(job=job), count) for job, count in list(counts.items())]
            yield from _family(f"fetchd_{name}_total", "counter", words, of_jobs)
        name = "fetchd_run_duration_seconds"
        yield from _head(name, "histogram", "How long Runs took.")
        for job, histogram in list(metrics.durations.items()):
            yield from _histogram(name, f'job="{_escaped(job)}"', histogram)
        name = "fetchd_slot_lateness_seconds"
        yield from _head(name, "histogram", "From a slot to the start of its Run.")
        yield from _histogram(name, "", metrics.lateness)

    def _of_jobs(self) -> Iterator[str]:
        readings, jobs = self._readings, list(self._metrics.jobs)
        for name, words, value in _OF_JOBS:
            yield from _head(f"fetchd_{name}", "gauge", words)
            for job in jobs:
                yield f"fetchd_{name}{_labels(job=job)} {_number(value(readings.recall(job)))}\n"
        asked: Sequence[tuple[str, str, Callable[[str], float]]] = (
            ("job_consecutive_failures", "Runs in a row that did not do what they should.", readings.failures),
            ("job_overdue", "Whether the job has had no success for longer than its clock allows.", readings.overdue),
        )
        for name, words, reading in asked:
            yield from _head(f"fetchd_{name}", "gauge", words)
            for job in jobs:
                yield f"fetchd_{name}{_labels(job=job)} {_number(reading(job))}\n"

    def _of_deliveries(self) -> Iterator[str]:
        name = "fetchd_deliveries_pending"
        yield from _head(name, "gauge", "Deliveries that are owed to a sink.")
        for job in list(self._metrics.jobs.values()):
            for sink in job.sink_names():
                yield f"{name}{_labels(job=job.name, sink=sink)} {self._readings.pending(job.name, sink)}\n"
        tries = [
            (_labels(job=job, sink=sink, result=result), count)
            for (job, sink, result), count in list(self._metrics.deliveries.items())
        ]
        yield from _family("fetchd_deliveries_total", "counter", "Tries of deliveries, by what became of them.", tries)


_OF_JOBS: Final[Sequence[tuple[str, str, Callable[[Memory], float]]]] = (
    (
        "job_last_success_timestamp_seconds",
        "When the job last succeeded; 0 if it never did.",
        lambda memory: memory.last_success.timestamp() if memory.last_success else 0,
    ),
    ("job_paused", "Whether the job is paused.", lambda memory: memory.paused),
    ("dead_letters", "Deliveries of the job that were given up.", lambda memory: memory.dead),
)


def _head(name: str, kind: str, words: str) -> Iterator[str]:
    yield f"# HELP {name} {words}\n"
    yield f"# TYPE {name} {kind}\n"


def _family(name: str, kind: str, words: str, samples: Sequence[tuple[str, float]]) -> Iterator[str]:
    yield from _head(name, kind, words)
    for labels, value in samples:
        yield f"{name}{labels} {_number(value)}\n"


def _histogram(name: str, label: str, histogram: Histogram) -> Iterator[str]:
    before = f"{label}," if label else ""
    total = 0
    for bound, count in zip((*histogram.bounds, "+Inf"), histogram.counts, strict=True):
        total += count
        yield f'{name}_bucket{{{before}le="{bound}"}} {total}\n'
    labels = f"{{{label}}}" if label else ""
    yield f"{name}_sum{labels} {_number(histogram.sum)}\n"
    yield f"{name}_count{labels} {total}\n"


def _labels(**values: str) -> str:
    return "{" + ",".join([f'{name}="{_escaped(value)}"' for name, value in values.items()]) + "}"


def _escaped(value: str) -> str:
    """Return a label's value as it is written; names of jobs and sinks hold nothing that has to be, reasons neither."""
    if "\\" in value or '"' in value or "\n" in value:
        return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return value


def _number(value: float) -> str:
    """Return ``value`` as it is written; true and false are 1 and 0."""
    return repr(value) if type(value) is float else str(int(value))
