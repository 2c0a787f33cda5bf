"""The address of the status page, as it is written."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.config.files import loaded, refused

JOB = '[jobs.a]\nurl = "http://h/"\n'


@pytest.mark.parametrize("listen", ["", "127.0.0.1:9475", "[::1]:9475", "localhost:0", "0.0.0.0:80"])
def test_an_address_is_taken_as_it_is(tmp_path: Path, listen: str) -> None:
    """Where the page is served is the user's choice, also beyond this machine."""
    assert loaded(tmp_path, f'[daemon]\nlisten = "{listen}"\n{JOB}').daemon.listen == listen


@pytest.mark.parametrize(
    "listen",
    ["9475", ":9475", "::1:9475", "127.0.0.1", "127.0.0.1:", "127.0.0.1:65536", "host:80", "[::g]:1", "1.2.3:4"],
)
def test_what_is_no_address_is_a_finding(tmp_path: Path, listen: str) -> None:
    """A typo is found before the daemon starts, with the right spelling beside it."""
    (found,) = refused(tmp_path, f'[daemon]\nlisten = "{listen}"\n{JOB}')
    assert found.startswith("2: daemon.listen: not an address: write one such as")
