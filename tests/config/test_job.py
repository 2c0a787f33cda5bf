"""The rules that a Job keeps by itself."""

from __future__ import annotations

import pytest

from fetchd.job import Job, SinkOptions, public_url, url_problem
from fetchd.secret import Secret


def sinks(*names: tuple[str, str | None]) -> tuple[str, ...]:
    options = tuple(SinkOptions(kind=kind, name=name) for kind, name in names)
    return Job(name="a", url=Secret("http://h/"), sinks=options).sink_names()


@pytest.mark.parametrize(
    ("given", "names"),
    [
        ([("file", None)], ("file",)),
        ([("file", None), ("file", None), ("sqlite", None), ("file", None)], ("file", "file-2", "sqlite", "file-3")),
        ([("file", "file-2"), ("file", None), ("file", None)], ("file-2", "file", "file-3")),
        ([("file", None), ("file", "file")], ("file-2", "file")),
        ([("file", "file-archive"), ("file", None)], ("file-archive", "file")),
    ],
)
def test_no_two_sinks_of_a_job_have_one_name(given: list[tuple[str, str | None]], names: tuple[str, ...]) -> None:
    """A delivery is kept under its sink's name; two of one name would be confused for ever."""
    assert sinks(*given) == names


def test_a_url_is_shown_without_what_may_be_secret() -> None:
    """User, query and fragment stay out of every output."""
    assert public_url("https://me:pw@h.example:8443/a/b?key=x#y") == "https://h.example:8443/a/b"


@pytest.mark.parametrize(
    "url",
    [
        "http://h",
        "https://h.example:8443/a?b=c#d",
        "http://[::1]:80/",
        "HTTP://H/",
        "https://münchen.example/",
        "http://u:p@h/",
    ],
)
def test_addresses_that_can_be_fetched(url: str) -> None:
    """Nothing that a client would take is refused."""
    assert url_problem(url) is None


def test_a_url_that_was_not_read_is_not_judged() -> None:
    """Where secrets are not at hand, a file can still be looked at."""
    assert Job.model_validate({"name": "a", "url": {"env": "SOMEWHERE"}}).url == Secret("", "env SOMEWHERE")
