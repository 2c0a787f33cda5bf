"""When slots are due: pure functions of time."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fetchd.schedule import Cron, Every, next_slots

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
MOMENTS = st.integers(946_684_800_000_000, 4_102_444_800_000_000).map(
    lambda micros: datetime.fromtimestamp(0, UTC) + timedelta(microseconds=micros)
)
INTERVALS = st.floats(0.01, 86400 * 30)


@given(MOMENTS, INTERVALS, st.text(min_size=1))
def test_slots_enclose_every_moment(moment: datetime, interval: float, name: str) -> None:
    """Whatever the moment, the latest slot is not later, the next one is, and they are one interval apart."""
    every = Every(interval, name)
    latest, following = every.latest(moment), every.after(moment)
    assert latest <= moment < following
    assert following - latest == timedelta(microseconds=round(interval * 1_000_000))


@given(MOMENTS, MOMENTS)
def test_slots_do_not_depend_on_when_one_asks(start: datetime, later: datetime) -> None:
    """A restart finds the same slots, or jobs would drift with every deployment."""
    first, second = Every(300, "rates").after(start), Every(300, "rates").after(later)
    assert (second - first) % timedelta(seconds=300) == timedelta(0)


def test_jobs_of_one_interval_are_spread() -> None:
    """A thousand jobs a minute must not be a thousand jobs at one instant."""
    seconds = [Every(60, f"job-{number}").after(NOON).second for number in range(1000)]
    assert max(seconds.count(second) for second in range(60)) < 45
    assert min(seconds.count(second) for second in range(60)) > 2


def test_cron_numbers_weekdays_as_cron_does() -> None:
    """In crontab 1-5 is Monday to Friday; APScheduler's own parser would make it Tuesday to Saturday."""
    slots = next_slots(Cron("0 9 * * 1-5"), NOON, 5)
    assert [slot.strftime("%a") for slot in slots] == ["Mon", "Tue", "Wed", "Thu", "Fri"]


def test_cron_is_read_in_its_time_zone() -> None:
    """Nine in Prague is eight UTC in winter and seven in summer."""
    cron = Cron("0 9 * * *", "Europe/Prague")
    assert cron.after(datetime(2026, 1, 10, tzinfo=UTC)) == datetime(2026, 1, 10, 8, tzinfo=UTC)
    assert cron.after(datetime(2026, 7, 10, tzinfo=UTC)) == datetime(2026, 7, 10, 7, tzinfo=UTC)


def test_cron_survives_the_change_of_clocks() -> None:
    """A daily job in the hour that does not exist still runs once that day, and once when the hour comes twice."""
    cron = Cron("30 2 * * *", "Europe/Prague")
    zone = ZoneInfo("Europe/Prague")
    for first in (datetime(2026, 3, 28, 12, tzinfo=UTC), datetime(2026, 10, 24, 12, tzinfo=UTC)):
        days = [slot.astimezone(zone).date() for slot in next_slots(cron, first, 3)]
        assert days == [first.date() + timedelta(days=number) for number in (1, 2, 3)]


@given(MOMENTS)
def test_cron_slots_enclose_every_moment(moment: datetime) -> None:
    """The latest slot is found without walking through all that were missed."""
    cron = Cron("*/7 8-18 * * mon-fri", "Europe/Prague")
    latest, following = cron.latest(moment), cron.after(moment)
    assert latest is not None
    assert following is not None
    assert latest <= moment < following
    assert cron.after(latest) == following


def test_a_slot_is_its_own_latest() -> None:
    """A slot that is due right now must count as due."""
    slot = Cron("0 * * * *").after(NOON)
    assert slot is not None
    assert Cron("0 * * * *").latest(slot) == slot
    assert Cron("0 * * * *").after(slot - timedelta(microseconds=1)) == slot


@pytest.mark.parametrize(
    ("expression", "zone", "message"),
    [
        ("61 * * * *", "UTC", "not a cron expression"),
        ("* * *", "UTC", "not a cron expression"),
        ("", "UTC", "not a cron expression"),
        ("0 0 30 2 *", "UTC", "not a cron expression"),
        ("0 * * * *", "Europe/Prag", "there is no time zone"),
        ("0 * * * *", "../etc/passwd", "there is no time zone"),
    ],
)
def test_nonsense_is_refused_with_the_remedy(expression: str, zone: str, message: str) -> None:
    """An expression that can never run would be a silent job."""
    with pytest.raises(ValueError, match=message):
        Cron(expression, zone)
