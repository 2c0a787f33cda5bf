"""A target that fails is asked ever more rarely, and never given up."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fetchd.backoff import backs_off, effective_interval
from fetchd.job import Job

SLOT = datetime(2026, 3, 1, 12, tzinfo=UTC)


def job(interval: str = "1m", **backoff: object) -> Job:
    """Return a job that backs off as told."""
    return Job.model_validate(
        {"name": "rates", "url": "http://upstream.test/", "interval": interval, "backoff": backoff}
    )


@pytest.mark.parametrize(
    ("failures", "seconds"), [(0, 60), (2, 60), (3, 120), (4, 240), (8, 3600), (10_000, 3600), (10**9, 3600)]
)
def test_the_interval_grows_to_its_ceiling(failures: int, seconds: float) -> None:
    """From the third failure on it doubles, and no number of failures makes it longer than an hour."""
    assert effective_interval(job(after=3), failures) == seconds


def test_without_being_asked_a_job_keeps_its_rhythm() -> None:
    """Whoever has not asked for it finds every slot tried."""
    assert effective_interval(job(), 10**6) == 60
    assert not backs_off(job(), 10**6, SLOT, SLOT + timedelta(minutes=1))


def test_a_ceiling_below_the_interval_changes_nothing() -> None:
    """A daily job must not become an hourly one because it fails."""
    assert effective_interval(job("1d", after=1), 5) == 86400


def test_one_slot_in_each_longer_interval_is_a_probe() -> None:
    """Of the slots of two hours at the ceiling of an hour, two are run."""
    last, runs = SLOT, 0
    for minute in range(1, 121):
        slot = SLOT + timedelta(minutes=minute)
        if not backs_off(job(after=1), 20, last, slot):
            last, runs = slot, runs + 1
    assert runs == 2


def test_a_clock_that_was_set_back_does_not_silence_a_job() -> None:
    """Before the last slot there is nothing to wait for."""
    assert not backs_off(job(after=1), 20, SLOT, SLOT - timedelta(days=30))
    assert not backs_off(job(after=1), 20, None, SLOT)


@given(failures=st.integers(0, 10**6), factor=st.floats(1.01, 10), longest=st.integers(1, 86400))
def test_it_never_gives_up(failures: int, factor: float, longest: int) -> None:
    """Whatever the failures, a slot that is later than the ceiling is run."""
    a_job = job(after=1, factor=factor, longest=f"{longest}s")
    assert not backs_off(a_job, failures, SLOT, SLOT + timedelta(seconds=max(60, longest)))
