"""When slots are due: pure functions of time."""

from __future__ import annotations

from bisect import bisect_right
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fetchd.schedule import COUNTED, Cron, Every, next_slots

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
MOMENTS = st.integers(946_684_800_000_000, 4_102_444_800_000_000).map(
    lambda micros: datetime.fromtimestamp(0, UTC) + timedelta(microseconds=micros)
)
INTERVALS = st.floats(0.01, 86400 * 30)
MINUTE = timedelta(minutes=1)
CHANGES = [
    ("Europe/Prague", datetime(2026, 3, 29, 1, tzinfo=UTC)),
    ("Europe/Prague", datetime(2026, 10, 25, 1, tzinfo=UTC)),
    ("America/New_York", datetime(2026, 3, 8, 7, tzinfo=UTC)),
    ("America/New_York", datetime(2026, 11, 1, 6, tzinfo=UTC)),
    ("Australia/Lord_Howe", datetime(2026, 4, 4, 15, tzinfo=UTC)),  # by half an hour
    ("Australia/Lord_Howe", datetime(2026, 10, 3, 15, 30, tzinfo=UTC)),
    ("America/Sao_Paulo", datetime(2018, 2, 18, 2, tzinfo=UTC)),  # at midnight
    ("America/Sao_Paulo", datetime(2018, 11, 4, 3, tzinfo=UTC)),
    ("Antarctica/Troll", datetime(2026, 10, 25, 1, tzinfo=UTC)),  # by two hours
    ("Asia/Kathmandu", datetime(1985, 12, 31, 18, 30, tzinfo=UTC)),  # by a quarter, for good
    ("Pacific/Apia", datetime(2011, 12, 30, 10, tzinfo=UTC)),  # by a day
    ("Pacific/Apia", datetime(2012, 3, 31, 14, tzinfo=UTC)),
    ("UTC", datetime(2026, 10, 25, 1, tzinfo=UTC)),
]
NAMES_TIMES = ["30 2 * * *", "0 0 * * *", "0,40 1-3 * * *", "15 0-4/2 * * *", "10 5 * * sun"]
FOLLOWS_THE_CLOCK = ["* * * * *", "*/7 * * * *", "*/20 1-3 * * *", "5 * * * *", "0 30 2 * * *", "0 */25 0,23 * * *"]


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


def brute_force(expression: str, zone: str, change: datetime) -> list[datetime]:
    """Return the slots of two days before and after ``change``, by looking at each minute of them."""
    first = change - timedelta(days=2)
    matches = {slot.replace(tzinfo=None) for slot in _slots_within(Cron(expression), first - timedelta(days=1), 6)}
    slots = []
    wall = (first - MINUTE).astimezone(ZoneInfo(zone)).replace(tzinfo=None)
    for moment in (first + number * MINUTE for number in range(4 * 24 * 60)):
        local = moment.astimezone(ZoneInfo(zone))
        before, wall = wall, local.replace(tzinfo=None)
        if expression in FOLLOWS_THE_CLOCK:
            due = wall in matches
        else:
            leapt = any(before < match < wall for match in matches) if wall - before > MINUTE else False
            due = leapt or (wall in matches and not local.fold)
        if due:
            slots.append(moment)
    return slots


def _slots_within(cron: Cron, first: datetime, days: int) -> list[datetime]:
    slots = []
    slot = cron.after(first)
    while slot is not None and slot < first + timedelta(days=days):
        slots.append(slot)
        slot = cron.after(slot)
    return slots


@pytest.mark.parametrize(("zone", "change"), CHANGES)
def test_cron_around_the_change_of_clocks(zone: str, change: datetime) -> None:
    """A slot that is not later than the moment would be asked for again for ever; one left out would be a lost Run."""
    for expression in NAMES_TIMES + FOLLOWS_THE_CLOCK:
        cron, slots = Cron(expression, zone), brute_force(expression, zone, change)
        for moment in (change + number * MINUTE for number in range(-150, 151)):
            position = bisect_right(slots, moment)
            if 0 < position < len(slots):
                assert cron.after(moment) == slots[position], (expression, moment)
                assert cron.latest(moment) == slots[position - 1], (expression, moment)
        assert _slots_within(cron, change - timedelta(days=1), 2) == [
            slot for slot in slots if timedelta(days=-1) < slot - change < timedelta(days=1)
        ], expression


@given(
    st.sampled_from(CHANGES),
    st.sampled_from([*NAMES_TIMES, *FOLLOWS_THE_CLOCK, "*/20 * 2 * * *", "0 3 29 2 *", "30 2 L * *"]),
    st.integers(-90_000_000_000, 90_000_000_000),
)
def test_cron_slots_enclose_any_moment_near_a_change(place: tuple[str, datetime], expression: str, micros: int) -> None:
    """The same between the minutes, for slots of seconds and for those that are years apart."""
    cron, moment = Cron(expression, place[0]), place[1] + timedelta(microseconds=micros)
    latest, following = cron.latest(moment), cron.after(moment)
    assert latest is not None
    assert following is not None
    assert latest <= moment < following
    assert cron.after(latest) == following
    assert cron.latest(following) == following
    assert cron.latest(following - timedelta(microseconds=1)) == latest


def test_an_expression_that_only_the_leap_would_match_is_given_up() -> None:
    """It names the one hour of the year that the clock leaves out: there is no slot, and the search for it ends."""
    cron = Cron("*/5 2 * 3 0L", "Europe/Prague")  # in 1970 there was no summer time
    assert cron.after(NOON) is None


@given(MOMENTS, INTERVALS, st.integers(0, 1000))
def test_slots_of_an_interval_are_counted_without_walking(moment: datetime, interval: float, count: int) -> None:
    """A month of a job of every second is counted as fast as a minute of it."""
    every = Every(interval, "rates")
    slot = every.after(moment)
    later = slot + (count + 1) * timedelta(microseconds=round(interval * 1_000_000))
    assert every.between(slot, later) == count
    assert every.between(later, slot) == 0


def test_slots_of_cron_are_counted_up_to_a_bound() -> None:
    """Telling how much was missed must not itself hold up the loop."""
    cron = Cron("*/5 * * * *", "Europe/Prague")
    assert cron.between(NOON, NOON + 5 * MINUTE) == 0
    assert cron.between(NOON, NOON + 60 * MINUTE) == 11
    assert cron.between(NOON, NOON + timedelta(days=365)) == COUNTED
    assert cron.between(NOON + MINUTE, NOON) == 0


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
