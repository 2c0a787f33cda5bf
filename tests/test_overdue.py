"""When a job's silence becomes an alarm."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from fetchd.job import Job
from fetchd.overdue import NEVER, Overdue, overdue_since
from fetchd.schedule import next_slots, schedule_of
from fetchd.secret import Secret
from fetchd.store import Memory

NOON = datetime(2026, 3, 4, 12, 0, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


def job(**keys: Any) -> Job:
    return Job(name="a", url=Secret("http://upstream.test/"), **keys)


def test_three_slots_and_the_deadline_may_pass() -> None:
    """The Run of the third slot still has its whole deadline to succeed in."""
    hourly = job(cron="0 * * * *", deadline="10m")
    found = overdue_since(hourly, Memory(last_success=NOON + MINUTE), NOON - MINUTE)
    assert found == NOON + timedelta(hours=3, minutes=10)


def test_an_interval_counts_in_slots_as_well() -> None:
    """The phase of an interval decides, not the time of the success."""
    quick = job(interval="10s", deadline="5s")
    third = next_slots(schedule_of(quick), NOON, 3)[-1]
    assert overdue_since(quick, Memory(last_success=NOON), NOON) == third + timedelta(seconds=5)


def test_its_own_limit_counts_as_it_is_written() -> None:
    """Whoever writes overdue_after means that and nothing longer."""
    limited = job(interval="10s", overdue_after="1h")
    assert overdue_since(limited, Memory(last_success=NOON), NOON - MINUTE) == NOON + timedelta(hours=1)


def test_a_job_that_never_succeeded_counts_from_when_it_was_known() -> None:
    """A job that fails from its first day on would else never be overdue."""
    hourly = job(cron="0 * * * *", deadline="10m")
    assert overdue_since(hourly, Memory(), NOON) == NOON + timedelta(hours=3, minutes=10)


def test_what_lies_before_it_was_to_be_run_does_not_count() -> None:
    """A job that was resumed, or has other times now, begins anew."""
    limited = job(overdue_after="1h")
    old = Memory(last_success=NOON - timedelta(days=7))
    assert overdue_since(limited, old, NOON) == NOON + timedelta(hours=1)


@pytest.mark.parametrize("keys", [{"overdue_after": "1s"}, {"interval": "10s"}])
def test_a_paused_job_is_never_overdue(keys: dict[str, Any]) -> None:
    """Its silence is wanted."""
    paused = Memory(last_success=NOON, paused=True)
    assert overdue_since(job(**keys), paused, NOON) == NEVER
    assert not Overdue(lambda name: NOON).is_overdue(job(**keys), paused, NOON + timedelta(days=365))


def test_the_cache_follows_successes() -> None:
    """What is kept until the next success must not outlive it, in either direction."""
    hourly, overdue = job(cron="0 * * * *", deadline="10m"), Overdue(lambda name: NOON)
    first = Memory(last_success=NOON)
    assert not overdue.is_overdue(hourly, first, NOON + timedelta(hours=3, minutes=9))
    assert overdue.is_overdue(hourly, first, NOON + timedelta(hours=3, minutes=10))
    later = Memory(last_success=NOON + timedelta(hours=3, minutes=10))
    assert not overdue.is_overdue(hourly, later, NOON + timedelta(hours=3, minutes=11))
    assert overdue.since(hourly, later) == NOON + timedelta(hours=6, minutes=10)
    assert overdue.is_overdue(hourly, later, NOON + timedelta(hours=7))


def test_the_cache_follows_a_clock_that_is_set_back() -> None:
    """A success that lies before the one that is known makes the job overdue earlier, not later."""
    limited, overdue = job(overdue_after="1h"), Overdue(lambda name: NOON - timedelta(days=2))
    assert not overdue.is_overdue(limited, Memory(last_success=NOON), NOON)
    before = Memory(last_success=NOON - timedelta(hours=2))
    assert overdue.is_overdue(limited, before, NOON)


def test_the_cache_follows_a_new_definition() -> None:
    """After a reload the new limit counts at once."""
    overdue, memory = Overdue(lambda name: NOON), Memory(last_success=NOON)
    assert not overdue.is_overdue(job(overdue_after="1d"), memory, NOON + timedelta(hours=2))
    assert overdue.is_overdue(job(overdue_after="1h"), memory, NOON + timedelta(hours=2))


def test_three_slots_may_take_years() -> None:
    """A job of leap days is given its three leap days."""
    rare = job(cron="0 0 29 2 *")
    found = overdue_since(rare, Memory(last_success=NOON), NOON)
    assert found == datetime(2036, 2, 29, tzinfo=UTC) + timedelta(seconds=rare.deadline)
