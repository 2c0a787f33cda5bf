"""The counts as Prometheus reads them. Imported only where a page is served: the library takes some memory."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from prometheus_client import CollectorRegistry, PlatformCollector, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from fetchd import __version__
from fetchd.metrics import Histogram, Metrics
from fetchd.store import Memory

JOBS_A_TURN: Final = 100


@dataclass(frozen=True, slots=True)
class Readings:
    """Whom the values are asked of that nobody has to count; none of it waits.

    ``pending`` takes a job and a sink; ``reload`` tells whether the last one was applied, and when, in seconds since
    the epoch; ``loop_lag`` is in seconds.
    """

    recall: Callable[[str], Memory]
    overdue: Callable[[str], bool]
    pending: Callable[[str, str], int]
    in_flight: Callable[[], int]
    in_flight_bytes: Callable[[], int]
    loop_lag: Callable[[], float]
    lines_dropped: Callable[[], int]
    store_writable: Callable[[], bool]
    reload: Callable[[], tuple[bool, float]]


@dataclass(slots=True)
class _Snapshot:
    """All values at one instant, or nearly: taken on the loop, written by a thread."""

    singles: Mapping[str, float]
    memories: dict[str, Memory] = field(default_factory=dict)
    overdue: dict[str, bool] = field(default_factory=dict)
    pending: dict[tuple[str, str], int] = field(default_factory=dict)


class Exposition:
    """Writes the counts in the form that the scraper asks for."""

    def __init__(self, metrics: Metrics, readings: Readings) -> None:
        self._metrics = metrics
        self._readings = readings
        self._one_at_a_time = asyncio.Lock()
        self._process = CollectorRegistry()
        ProcessCollector(registry=self._process)
        PlatformCollector(registry=self._process)

    async def render(self, accept: str) -> tuple[str, bytes]:
        """Return the content type that ``accept`` asks for, and the text.

        A thousand jobs take a tenth of a second to write: a thread does that, and the loop goes on.
        """
        async with self._one_at_a_time:
            snapshot = await self._look()
            return await asyncio.to_thread(self._write, accept, snapshot)

    async def _look(self) -> _Snapshot:
        readings = self._readings
        applied, at = readings.reload()
        snapshot = _Snapshot(
            {
                "runs_in_flight": readings.in_flight(),
                "in_flight_bytes": readings.in_flight_bytes(),
                "loop_lag_seconds": readings.loop_lag(),
                "config_last_reload_successful": applied,
                "config_last_reload_timestamp_seconds": at,
                "store_writable": readings.store_writable(),
                "log_lines_dropped": readings.lines_dropped(),
                "clock_steps": self._metrics.clock_steps,
            }
        )
        for number, (name, job) in enumerate(list(self._metrics.jobs.items()), start=1):
            snapshot.memories[name] = readings.recall(name)
            snapshot.overdue[name] = readings.overdue(name)
            for sink in job.sink_names():
                snapshot.pending[name, sink] = readings.pending(name, sink)
            if number % JOBS_A_TURN == 0:
                await asyncio.sleep(0)
        return snapshot

    def _write(self, accept: str, snapshot: _Snapshot) -> tuple[str, bytes]:
        registry = CollectorRegistry()
        registry.register(_Families(self._metrics, snapshot))
        encoder, content_type = choose_encoder(accept)
        # The second one's text comes first: of OpenMetrics, only the last may have its end mark.
        process = encoder(self._process).removesuffix(b"# EOF\n")
        return content_type, process + encoder(registry)


_GAUGES: Final = {
    "runs_in_flight": "Runs that are alive, those that wait for a place included.",
    "in_flight_bytes": "Bytes of bodies that Runs hold in memory.",
    "loop_lag_seconds": "The longest that the loop stood still within the last minute.",
    "config_last_reload_successful": "Whether the last configuration that was offered is in force.",
    "config_last_reload_timestamp_seconds": "When a configuration was last put in force.",
    "store_writable": "Whether what is to be kept can be written.",
}
_COUNTERS: Final = {
    "log_lines_dropped": "Lines that the log could not take in time.",
    "clock_steps": "Times that the wall's clock was stepped.",
}
_OF_JOBS: Final[Mapping[str, tuple[str, Callable[[Memory], float]]]] = {
    "job_last_success_timestamp_seconds": (
        "When the job last succeeded; 0 if it never did.",
        lambda memory: memory.last_success.timestamp() if memory.last_success else 0.0,
    ),
    "job_consecutive_failures": ("Fetches of the job that have failed in a row.", lambda memory: memory.failures),
    "job_paused": ("Whether the job is paused.", lambda memory: memory.paused),
    "dead_letters": ("Deliveries of the job that were given up.", lambda memory: memory.dead),
}


class _Families(Collector):
    """The families of one snapshot; the thread that writes them is not hurried by what is counted meanwhile."""

    def __init__(self, metrics: Metrics, snapshot: _Snapshot) -> None:
        self._metrics = metrics
        self._snapshot = snapshot

    def collect(self) -> Iterator[Metric]:
        """Yield every family."""
        info = GaugeMetricFamily("fetchd_build_info", "The version that runs.", labels=["version"])
        info.add_metric([__version__], 1)
        yield info
        singles = self._snapshot.singles
        for name, words in _GAUGES.items():
            yield GaugeMetricFamily(f"fetchd_{name}", words, value=float(singles[name]))
        for name, words in _COUNTERS.items():
            yield CounterMetricFamily(f"fetchd_{name}", words, value=float(singles[name]))
        yield from self._of_runs()
        yield from self._of_jobs()
        yield from self._of_deliveries()
        metrics = self._metrics
        yield _counted(
            "notifications",
            "Notifications, by what became of them.",
            ["notifier", "result"],
            list(metrics.notifications.items()),
        )
        yield _counted("pings", "Dead-man pings, by what became of them.", ["result"], _single(metrics.pings))

    def _of_runs(self) -> Iterator[Metric]:
        metrics = self._metrics
        yield _counted("runs", "Runs that have ended.", ["job", "outcome", "reason"], list(metrics.runs.items()))
        yield _counted(
            "slots_skipped", "Slots that found no Run of their own.", ["job", "reason"], list(metrics.skips.items())
        )
        yield _counted("slots_missed", "Slots that the loop was too late for.", ["job"], _single(metrics.slots_missed))
        yield _counted(
            "attempts", "HTTP exchanges, and calls of collect functions.", ["job"], _single(metrics.attempts)
        )
        yield _counted("response_bytes", "Bytes of bodies that were read.", ["job"], _single(metrics.bytes))
        durations = HistogramMetricFamily("fetchd_run_duration_seconds", "How long Runs took.", labels=["job"])
        for job, histogram in list(metrics.durations.items()):
            _observed(durations, [job], histogram)
        yield durations
        lateness = HistogramMetricFamily("fetchd_slot_lateness_seconds", "From a slot to the start of its Run.")
        _observed(lateness, [], metrics.lateness)
        yield lateness

    def _of_jobs(self) -> Iterator[Metric]:
        for name, (words, value) in _OF_JOBS.items():
            family = GaugeMetricFamily(f"fetchd_{name}", words, labels=["job"])
            for job, memory in self._snapshot.memories.items():
                family.add_metric([job], float(value(memory)))
            yield family
        overdue = GaugeMetricFamily(
            "fetchd_job_overdue", "Whether the job has had no success for longer than its clock allows.", labels=["job"]
        )
        for job, is_overdue in self._snapshot.overdue.items():
            overdue.add_metric([job], float(is_overdue))
        yield overdue

    def _of_deliveries(self) -> Iterator[Metric]:
        pending = GaugeMetricFamily(
            "fetchd_deliveries_pending", "Deliveries that are owed to a sink.", labels=["job", "sink"]
        )
        for labels, count in self._snapshot.pending.items():
            pending.add_metric(labels, count)
        yield pending
        words = "Tries of deliveries, by what became of them."
        yield _counted("deliveries", words, ["job", "sink", "result"], list(self._metrics.deliveries.items()))


def _single(counts: Mapping[str, int]) -> list[tuple[tuple[str, ...], int]]:
    return [((key,), count) for key, count in list(counts.items())]


def _counted(
    name: str, words: str, labels: Iterable[str], counts: Iterable[tuple[tuple[str, ...], int]]
) -> CounterMetricFamily:
    family = CounterMetricFamily(f"fetchd_{name}", words, labels=list(labels))
    for key, count in counts:
        family.add_metric([str(part) for part in key], count)
    return family


def _observed(family: HistogramMetricFamily, labels: list[str], histogram: Histogram) -> None:
    family.add_metric(labels, buckets=histogram.buckets(), sum_value=histogram.sum)
