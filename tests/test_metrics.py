"""The names that others graph and alert on: which there are, with which labels, and that they tell the truth."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families as parse_text

from fetchd import __version__
from fetchd.errors import Reason
from fetchd.job import Job
from fetchd.metrics import Metrics
from fetchd.metrics.exposition import Exposition, Readings
from fetchd.run import Delivery, Outcome, Report, Run
from fetchd.store import Memory
from fetchd.watch import Result
from tests.fakes import fetched

SLOT = datetime(2026, 3, 1, tzinfo=UTC)

CONTRACT: Mapping[str, tuple[str, frozenset[str]]] = {
    "fetchd_attempts_total": ("counter", frozenset({"job"})),
    "fetchd_build_info": ("gauge", frozenset({"version"})),
    "fetchd_clock_steps_total": ("counter", frozenset()),
    "fetchd_config_last_reload_successful": ("gauge", frozenset()),
    "fetchd_config_last_reload_timestamp_seconds": ("gauge", frozenset()),
    "fetchd_dead_letters": ("gauge", frozenset({"job"})),
    "fetchd_deliveries_pending": ("gauge", frozenset({"job", "sink"})),
    "fetchd_deliveries_total": ("counter", frozenset({"job", "sink", "result"})),
    "fetchd_in_flight_bytes": ("gauge", frozenset()),
    "fetchd_job_consecutive_failures": ("gauge", frozenset({"job"})),
    "fetchd_job_last_success_timestamp_seconds": ("gauge", frozenset({"job"})),
    "fetchd_job_overdue": ("gauge", frozenset({"job"})),
    "fetchd_job_paused": ("gauge", frozenset({"job"})),
    "fetchd_log_lines_dropped_total": ("counter", frozenset()),
    "fetchd_loop_lag_seconds": ("gauge", frozenset()),
    "fetchd_notifications_total": ("counter", frozenset({"notifier", "result"})),
    "fetchd_pings_total": ("counter", frozenset({"result"})),
    "fetchd_response_bytes_total": ("counter", frozenset({"job"})),
    "fetchd_run_duration_seconds_bucket": ("histogram", frozenset({"job", "le"})),
    "fetchd_run_duration_seconds_count": ("histogram", frozenset({"job"})),
    "fetchd_run_duration_seconds_sum": ("histogram", frozenset({"job"})),
    "fetchd_runs_in_flight": ("gauge", frozenset()),
    "fetchd_runs_stuck": ("gauge", frozenset()),
    "fetchd_runs_total": ("counter", frozenset({"job", "outcome", "reason"})),
    "fetchd_slot_lateness_seconds_bucket": ("histogram", frozenset({"le"})),
    "fetchd_slot_lateness_seconds_count": ("histogram", frozenset()),
    "fetchd_slot_lateness_seconds_sum": ("histogram", frozenset()),
    "fetchd_slots_missed_total": ("counter", frozenset({"job"})),
    "fetchd_slots_skipped_total": ("counter", frozenset({"job", "reason"})),
    "fetchd_store_writable": ("gauge", frozenset()),
}


def job(name: str = "rates") -> Job:
    """Return a job with a sink."""
    return Job.model_validate({"name": name, "url": "http://upstream.test/?key=hidden"}).model_copy(
        update={"sinks": ()}
    )


def report(name: str = "rates", outcome: Outcome = Outcome.SUCCEEDED, **values: object) -> Report:
    """Return a report of a Run that took two seconds."""
    run = Run("r1", name, SLOT)
    return Report(**{"run": run, "outcome": outcome, "started": SLOT, "duration": 2.0, "lateness": 0.01, **values})  # type: ignore[arg-type]


def delivery(name: str = "rates", sink: str = "file") -> Delivery:
    """Return a delivery."""
    return Delivery("r1-file", name, "r1", SLOT, sink, fetched())


def exposition(metrics: Metrics, **readings: object) -> Exposition:
    """Return what exposes ``metrics``, with readings that are all different."""
    given = {
        "recall": lambda _: Memory(last_success=SLOT, failures=6, dead=3, paused=True),
        "failures": lambda _: 4,
        "overdue": lambda _: True,
        "pending": lambda _job, _sink: 7,
        "in_flight": lambda: 2,
        "stuck": lambda: 1,
        "in_flight_bytes": lambda: 4096,
        "loop_lag": lambda: 0.25,
        "lines_dropped": lambda: 5,
        "store_writable": lambda: False,
        "reload": lambda: (True, 1234.5),
    }
    return Exposition(metrics, Readings(**{**given, **readings}))  # type: ignore[arg-type]


async def rendered(metrics: Metrics, **readings: object) -> tuple[str, bytes]:
    """Return the content type and the whole text."""
    content_type, pieces = await exposition(metrics, **readings).render()
    return content_type, b"".join(pieces)


async def samples(metrics: Metrics, **readings: object) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """Return what a scraper reads, by name and labels."""
    content_type, text = await rendered(metrics, **readings)
    assert content_type.startswith("text/plain; version=0.0.4")
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in parse_text(text.decode())
        for sample in family.samples
    }


def one(found: Mapping[tuple[str, frozenset[tuple[str, str]]], float], name: str, **labels: str) -> float:
    """Return the one sample of that name and those labels."""
    return found[name, frozenset(labels.items())]


def all_told() -> Metrics:
    """Return metrics that were told of one thing of each kind."""
    metrics = Metrics()
    metrics.replace([job()])
    metrics.finished(report(bytes=100, attempts=2))
    metrics.finished(report(outcome=Outcome.FETCH_FAILED, reason=Reason.TIMEOUT_READ, attempts=1))
    metrics.skipped("rates", SLOT, Reason.STARVED)
    metrics.missed("rates", 4)
    metrics.tried(delivery(), Result.FAILED, "full")
    metrics.notifications["oncall", "sent"] += 1
    metrics.pings["sent"] += 1
    metrics.clock_steps += 1
    return metrics


async def test_the_names_and_labels_are_those_promised() -> None:
    """Graphs and rules of others rest on them: a change here is a change of the contract."""
    metrics = all_told()
    metrics.jobs["rates"] = job().model_copy(update={"sinks": (_Sink(),)})
    _, text = await rendered(metrics)
    found = {
        sample.name: (family.type, frozenset(sample.labels))
        for family in parse_text(text.decode())
        for sample in family.samples
        if sample.name.startswith("fetchd_")
    }
    assert found == dict(CONTRACT)


class _Sink:
    kind = "file"
    name = None


async def test_each_value_is_that_of_its_source() -> None:
    """What is read elsewhere is exposed under the name that says so."""
    found = await samples(all_told())
    assert one(found, "fetchd_build_info", version=__version__) == 1
    assert one(found, "fetchd_runs_in_flight") == 2
    assert one(found, "fetchd_runs_stuck") == 1
    assert one(found, "fetchd_in_flight_bytes") == 4096
    assert one(found, "fetchd_loop_lag_seconds") == 0.25
    assert one(found, "fetchd_log_lines_dropped_total") == 5
    assert one(found, "fetchd_store_writable") == 0
    assert one(found, "fetchd_config_last_reload_successful") == 1
    assert one(found, "fetchd_config_last_reload_timestamp_seconds") == 1234.5
    assert one(found, "fetchd_job_last_success_timestamp_seconds", job="rates") == SLOT.timestamp()
    assert one(found, "fetchd_job_consecutive_failures", job="rates") == 4
    assert one(found, "fetchd_dead_letters", job="rates") == 3
    assert one(found, "fetchd_job_paused", job="rates") == 1
    assert one(found, "fetchd_job_overdue", job="rates") == 1


async def test_what_happens_is_counted() -> None:
    """Each ending, slot and try counts once, under its own words."""
    found = await samples(all_told())
    assert one(found, "fetchd_runs_total", job="rates", outcome="succeeded", reason="") == 1
    assert one(found, "fetchd_runs_total", job="rates", outcome="fetch_failed", reason="timeout_read") == 1
    assert one(found, "fetchd_slots_skipped_total", job="rates", reason="starved") == 1
    assert one(found, "fetchd_slots_missed_total", job="rates") == 4
    assert one(found, "fetchd_attempts_total", job="rates") == 3
    assert one(found, "fetchd_response_bytes_total", job="rates") == 100
    assert one(found, "fetchd_deliveries_total", job="rates", sink="file", result="failed") == 1
    assert one(found, "fetchd_notifications_total", notifier="oncall", result="sent") == 1
    assert one(found, "fetchd_clock_steps_total") == 1


async def test_buckets_hold_all_that_is_not_above_them() -> None:
    """A value on a bound belongs to its bucket; the last bucket holds all."""
    metrics = Metrics()
    metrics.replace([job()])
    for seconds in (0.05, 0.06, 1000.0):
        metrics.finished(report(duration=seconds))
    found = await samples(metrics)
    name = "fetchd_run_duration_seconds"
    assert one(found, f"{name}_bucket", job="rates", le="0.05") == 1
    assert one(found, f"{name}_bucket", job="rates", le="0.1") == 2
    assert one(found, f"{name}_bucket", job="rates", le="+Inf") == one(found, f"{name}_count", job="rates") == 3
    assert one(found, f"{name}_sum", job="rates") == pytest.approx(1000.11)
    assert one(found, "fetchd_slot_lateness_seconds_count") == 3


async def test_a_series_is_there_before_anything_happens() -> None:
    """An alert on a rate needs a 0 to rise from."""
    metrics = Metrics()
    metrics.replace([job()])
    found = await samples(metrics, recall=lambda _: Memory())
    assert one(found, "fetchd_runs_total", job="rates", outcome="succeeded", reason="") == 0
    assert one(found, "fetchd_slots_skipped_total", job="rates", reason="overlap") == 0
    assert one(found, "fetchd_job_last_success_timestamp_seconds", job="rates") == 0


async def test_a_job_that_is_removed_is_exposed_no_more() -> None:
    """Its Run may still end afterwards; the other jobs keep their counts."""
    metrics = all_told()
    metrics.replace([job(), job("other")])
    metrics.replace([job("other")])
    metrics.finished(report())
    found = await samples(metrics)
    assert not [key for key in found if ("job", "rates") in key[1]]
    metrics.replace([job(), job("other")])
    found = await samples(metrics)
    assert one(found, "fetchd_runs_total", job="rates", outcome="succeeded", reason="") == 0


async def test_a_label_cannot_break_out() -> None:
    """Whatever a value holds, the line stays one line."""
    metrics = Metrics()
    metrics.notifications['quo"te\\back\nline', "sent"] = 1
    found = await samples(metrics)
    assert one(found, "fetchd_notifications_total", notifier='quo"te\\back\nline', result="sent") == 1


async def test_no_address_becomes_a_label() -> None:
    """URLs hold secrets, and there is no end of them."""
    _, text = await rendered(all_told())
    assert b"upstream.test" not in text
    assert b"hidden" not in text


def started() -> float:
    """Return when this process began: so many ticks after the machine."""
    ticks = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
    return time.time() - time.clock_gettime(time.CLOCK_BOOTTIME) + ticks / os.sysconf("SC_CLK_TCK")


async def test_the_process_tells_of_itself() -> None:
    """Memory and descriptors are the library's own, under the names that all dashboards know."""
    found = await samples(Metrics())
    assert one(found, "process_resident_memory_bytes") > 2**20
    assert one(found, "process_open_fds") > 0
    assert one(found, "process_max_fds") >= one(found, "process_open_fds")
    assert one(found, "process_cpu_seconds_total") > 0
    assert abs(one(found, "process_start_time_seconds") - started()) < 5


async def test_the_loop_turns_while_a_large_page_is_written() -> None:
    """A thousand jobs take many turns, each of them short."""
    metrics = Metrics()
    metrics.replace([job(f"job-{number}") for number in range(1000)])
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    counting = asyncio.create_task(count())
    _, text = await rendered(metrics)
    counting.cancel()
    assert text.count(b"fetchd_run_duration_seconds_count") == 1000
    assert turns >= 20


async def test_counts_that_change_meanwhile_do_no_harm() -> None:
    """Runs end, under new reasons, while the text is written."""
    metrics = Metrics()
    metrics.replace([job(f"job-{number}") for number in range(200)])
    rendering = asyncio.create_task(rendered(metrics))
    number = 0
    while not rendering.done():
        outcome = list(Outcome)[number % 6]
        metrics.finished(report(f"job-{number % 200}", outcome, started=SLOT + timedelta(seconds=number)))
        number += 1
        await asyncio.sleep(0)
    _, text = rendering.result()
    assert list(parse_text(text.decode()))
