"""What the tests of the process share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.upstream import UpstreamProcess


@pytest.fixture(scope="session")
def upstream() -> Iterator[UpstreamProcess]:
    """One misbehaving upstream for all tests of the process."""
    with UpstreamProcess() as process:
        yield process
