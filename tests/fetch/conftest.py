"""One misbehaving upstream for all tests of the room."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.upstream import UpstreamProcess


@pytest.fixture(scope="session")
def upstream() -> Iterator[UpstreamProcess]:
    """The upstream, a process of its own: it must not share the loop that it tries to stall."""
    with UpstreamProcess() as process:
        yield process
