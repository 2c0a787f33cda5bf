"""What a job inherits, and how that shrinks to fit it."""

from __future__ import annotations

from pathlib import Path

import pytest

from fetchd.config.rules import smallest_gap
from fetchd.job import Job, Timeouts
from fetchd.units import MAX_DURATION
from tests.config.files import loaded


def job(folder: Path, defaults: str, own: str = "") -> Job:
    return loaded(folder, f'[defaults]\n{defaults}\n[jobs.a]\nurl = "http://h/"\n{own}').jobs["a"]


def test_without_anything_the_built_in_values_count(tmp_path: Path) -> None:
    """The README promises these."""
    bare = job(tmp_path, "")
    assert (bare.interval, bare.deadline, bare.timeout, bare.retries) == (300.0, 30.0, Timeouts(), 2)
    assert (bare.max_body, bare.redirects, bare.method, bare.timezone) == (10 * 2**20, 5, "GET", "UTC")


def test_a_job_s_own_keys_win(tmp_path: Path) -> None:
    """The defaults are for what a job does not say."""
    made = job(tmp_path, 'interval = "1h"\nretries = 7\nmax_body = "1MiB"', "retries = 0")
    assert (made.interval, made.retries, made.max_body) == (3600.0, 0, 2**20)


def test_headers_are_joined_by_name_whatever_their_case(tmp_path: Path) -> None:
    """Names of headers know no case; two of the same name would both be sent."""
    made = job(tmp_path, 'headers = { Accept = "a", X-Team = "t" }', 'headers = { accept = "b", X-Job = "j" }')
    assert {name: value.reveal() for name, value in made.headers.items()} == {
        "X-Team": "t",
        "accept": "b",
        "X-Job": "j",
    }


def test_auth_takes_the_place_of_an_inherited_header(tmp_path: Path) -> None:
    """A job that authorises itself must not send the others' credentials as well."""
    made = job(tmp_path, 'headers = { authorization = "x" }', 'auth = { kind = "bearer", token = "y" }')
    assert made.headers == {}


def test_timeouts_are_joined_by_phase(tmp_path: Path) -> None:
    """A job that names one phase keeps the others."""
    made = job(tmp_path, 'timeout = { read = "3s", write = "4s" }', 'timeout.write = "1s"')
    assert made.timeout == Timeouts.model_construct(connect=10.0, read=3.0, write=1.0, pool=10.0)
    assert job(tmp_path, 'timeout = { read = "3s" }', 'timeout = "2s"').timeout == Timeouts.model_construct(
        connect=2.0, read=2.0, write=2.0, pool=2.0
    )


def test_what_is_inherited_shrinks_to_fit(tmp_path: Path) -> None:
    """A short interval is enough to say; the walls inside it follow."""
    made = job(tmp_path, 'deadline = "1m"\ntimeout = { connect = "2s", read = "40s" }', 'interval = "5s"')
    assert made.deadline == 4.75
    assert made.timeout == Timeouts.model_construct(connect=2.0, read=4.75, write=4.75, pool=4.75)


@pytest.mark.parametrize(
    ("interval", "deadline"),
    [("10ms", 0.01), ("20ms", 0.019), ("1s", 0.95), ("30s", 29.0), ("31s", 30.0), ("1m", 30.0), ("1h", 30.0)],
)
def test_an_inherited_deadline_is_over_before_the_next_slot(tmp_path: Path, interval: str, deadline: float) -> None:
    """A Run that hangs up to the very next slot would have that one skipped: half of them, all in all."""
    assert job(tmp_path, "", f'interval = "{interval}"').deadline == pytest.approx(deadline)


def test_an_inherited_deadline_leaves_room_for_a_written_timeout(tmp_path: Path) -> None:
    """Nobody has written a deadline that could be too short."""
    made = job(tmp_path, "", 'interval = "10s"\ntimeout = { connect = "1s", read = "10s" }')
    assert (made.deadline, made.timeout.read) == (10.0, 10.0)


def test_phases_that_a_job_does_not_name_shrink(tmp_path: Path) -> None:
    """Only what is written must fit."""
    made = job(tmp_path, "", 'deadline = "4s"\ntimeout = { connect = "3s" }')
    assert made.timeout == Timeouts.model_construct(connect=3.0, read=4.0, write=4.0, pool=4.0)


def test_a_deadline_as_long_as_the_interval_fits(tmp_path: Path) -> None:
    """A run may take the whole time to the next slot."""
    assert job(tmp_path, "", 'interval = "10ms"\ndeadline = "10ms"').deadline == 0.01


def test_cron_drops_an_inherited_interval(tmp_path: Path) -> None:
    """The slots come from the expression alone; its smallest gap bounds the deadline."""
    made = job(tmp_path, 'interval = "1s"\ndeadline = "10m"', 'cron = "*/5 * * * *"')
    assert (made.cron, made.interval, made.deadline) == ("*/5 * * * *", 300.0, 299.0)


@pytest.mark.parametrize(
    ("cron", "gap"),
    [
        ("* * * * *", 60.0),
        ("*/7 * * * *", 240.0),
        ("0 9 * * mon-fri", 86400.0),
        ("0 9,10 * * *", 3600.0),
        ("*/15 * * * * *", 15.0),
        ("0 0,23 5,20,21 * *", 3600.0),
        ("0 0,23 * * mon", 82800.0),
        ("0 12 1 * *", 29 * 86400.0),
        ("0 0 29 2 *", MAX_DURATION),
    ],
)
def test_the_smallest_gap_is_found_over_the_wrap(cron: str, gap: float) -> None:
    """Every seventh minute is four minutes after the last one, once an hour."""
    assert smallest_gap(cron, "UTC") == gap


def test_equal_values_are_shared(tmp_path: Path) -> None:
    """Ten thousand jobs with the same limits keep them once."""
    text = '[defaults]\nheaders = { A = "b" }\n' + "".join(
        f'[jobs.j{number}]\nurl = "http://h/{number}"\ninterval = "2s"\n' for number in range(3)
    )
    jobs = list(loaded(tmp_path, text).jobs.values())
    for field in ("timeout", "expect", "headers"):
        assert len({id(getattr(one, field)) for one in jobs}) == 1, field
