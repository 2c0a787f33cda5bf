"""The one verdict on the daemon."""

from __future__ import annotations

from typing import Any

import pytest

from fetchd.health import Health, Stage, Verdict


def health(**given: Any) -> Health:
    known: dict[str, Any] = {"late": 0.0, "lag": 0.0, "stuck": (), "unwritable": ""} | given
    made = Health(**{name: lambda value=value: value for name, value in known.items()})
    made.stage = Stage.RUNNING
    return made


def test_a_daemon_that_works_is_ready() -> None:
    """Nothing is wrong, so nothing is said."""
    assert health().verdict() == Verdict(ready=True)


@pytest.mark.parametrize("stage", [Stage.STARTING, Stage.STOPPING])
def test_before_and_after_its_work_it_is_not_ready(stage: Stage) -> None:
    """Whoever waits for readiness must not be told before jobs are armed, nor while they are drained."""
    made = health()
    made.stage = stage
    assert made.verdict().problems == (f"the daemon is {stage}",)


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"late": 7.2}, "no slot is dispatched: the earliest has been due for 7 s"),
        ({"lag": 6.0}, "the loop stood still for 6 s within the last minute"),
        ({"stuck": ("a", "b")}, "stuck, and to be ended only with the process: a, b"),
    ],
)
def test_what_keeps_jobs_from_running_is_a_problem(given: dict[str, Any], problem: str) -> None:
    """Each cause is named, so that whoever is woken knows where to look."""
    assert health(**given).verdict() == Verdict(ready=False, problems=(problem,))


def test_of_many_stuck_jobs_few_are_named() -> None:
    """A verdict is a line, not a list of a thousand."""
    (problem,) = health(stuck=[f"job-{number}" for number in range(9)]).verdict().problems
    assert problem.endswith("job-0, job-1, job-2, job-3, job-4 and 4 more")


def test_a_store_that_cannot_be_written_is_a_warning() -> None:
    """Fetching and delivering go on, and a new process would find the same full disk."""
    verdict = health(unwritable="the disk is full").verdict()
    assert verdict == Verdict(ready=True, warnings=("the store cannot be written: the disk is full",))


def test_a_loop_that_stood_still_for_a_moment_is_a_warning() -> None:
    """Somebody's code blocks, or the machine is too small: it is seen before it becomes a problem."""
    assert health(lag=0.9).verdict() == Verdict(ready=True)
    verdict = health(lag=1.9).verdict()
    assert verdict == Verdict(ready=True, warnings=("the loop stood still for 1.9 s within the last minute",))


def test_each_problem_can_be_asked_for_by_itself() -> None:
    """Who is told of one of them, and that it is over, must not miss another that comes meanwhile."""
    told = {kind: condition() for kind, condition in health(stuck=("a",), lag=6.0).conditions.items()}
    assert told == {
        "late": "",
        "lag": "the loop stood still for 6 s within the last minute",
        "stuck": "stuck, and to be ended only with the process: a",
    }


def test_a_daemon_that_stops_has_no_problems_to_tell() -> None:
    """Nobody is to be alarmed by a daemon that does what it was told."""
    made = health(stuck=("a",))
    assert made.problems() == ("stuck, and to be ended only with the process: a",)
    made.stage = Stage.STOPPING
    assert made.problems() is None


def test_the_watchdog_asks_for_progress_alone() -> None:
    """A stuck Run is no reason to end the process at once; slots that are not dispatched are."""
    assert health(stuck=("a",), lag=9.0).scheduling()
    assert not health(late=7.0).scheduling()
