"""What every test stands on: no network beyond this machine, no blocked loop, bounded examples."""

from __future__ import annotations

import ipaddress
import os
import socket
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile("suite", max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("suite")


class OutsideError(AssertionError):
    """A test reached for an address that is not this machine's."""


def _is_outside(family: int, address: Any) -> bool:
    if family not in {socket.AF_INET, socket.AF_INET6}:
        return False
    try:
        return not ipaddress.ip_address(address[0]).is_loopback
    except ValueError:
        return True


# Where this is set, each process that a test starts would compile all of fetchd anew: a third of its start.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)


@pytest.fixture(autouse=True, scope="session")
def _loopback_only() -> Iterator[None]:
    """Refuse every connection that leaves loopback, whichever library makes it."""
    patch = pytest.MonkeyPatch()
    real = socket.socket.connect

    def connect(self: socket.socket, address: Any) -> None:
        if _is_outside(self.family, address):
            raise OutsideError(f"a test connects to {address}")
        real(self, address)

    patch.setattr(socket.socket, "connect", connect)
    yield
    patch.undo()
