from __future__ import annotations

import os
import resource
import socket
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from fetchd.systemd import Notifier


@contextmanager
def manager(address: str) -> Iterator[socket.socket]:
    """Be the service manager: a bound datagram socket."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind("\0" + address[1:] if address.startswith("@") else address)
        listener.settimeout(5)
        yield listener


@pytest.fixture(params=["path", "abstract"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Return an address of each of the two kinds that managers use."""
    return str(tmp_path / "notify") if request.param == "path" else f"@fetchd-test-{os.getpid()}"


def test_everything_that_is_said(address: str) -> None:
    """The words of sd_notify(3), each in one datagram."""
    with manager(address) as listener, closing(Notifier(address, 30_000_000)) as notifier:
        notifier.ready("12 jobs")
        notifier.status("12 jobs")
        notifier.status("1 overdue")
        notifier.status("1 overdue")
        notifier.watchdog()
        notifier.stopping()
        said = [listener.recv(1000) for _ in range(4)]
    assert said == [b"READY=1\nSTATUS=12 jobs", b"STATUS=1 overdue", b"WATCHDOG=1", b"STOPPING=1"]
    assert notifier.failures == 0


def test_reloading_tells_the_time(tmp_path: Path) -> None:
    """The manager pairs a reload with its request by the monotonic clock."""
    address = str(tmp_path / "notify")
    with manager(address) as listener, closing(Notifier(address)) as notifier:
        before = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        notifier.reloading()
        word, _, usec = listener.recv(1000).decode().partition("\nMONOTONIC_USEC=")
    assert word == "RELOADING=1"
    assert before <= int(usec) <= time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000


def test_a_status_is_one_assignment(tmp_path: Path) -> None:
    """A job's name or an upstream's text in it must not speak for the daemon."""
    address = str(tmp_path / "notify")
    with manager(address) as listener, closing(Notifier(address)) as notifier:
        notifier.status("bad\nMAINPID=1\x00\ud800" + "x" * 5000)
        said = listener.recv(10_000)
    assert said.startswith(b"STATUS=bad MAINPID=1  xxx")
    assert len(said) < 600


def test_without_a_manager_nothing_happens() -> None:
    """In a container or a terminal nobody listens, and that is no fault."""
    notifier = Notifier.from_environment({"WATCHDOG_USEC": "1000000"})
    with capture_logs() as lines:
        notifier.ready("")
        notifier.watchdog()
        notifier.close()
    assert (lines, notifier.failures, notifier.watchdog_interval) == ([], 0, None)


@pytest.mark.parametrize(
    ("more", "interval"),
    [
        ({"WATCHDOG_USEC": "30000000"}, 15.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}, 15.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({}, None),
    ],
)
def test_the_watchdog_is_fed_only_if_it_is_ours(tmp_path: Path, more: dict[str, str], interval: float | None) -> None:
    """A child would inherit the environment of a watchdog that waits for its parent."""
    address = str(tmp_path / "notify")
    with (
        manager(address) as listener,
        closing(Notifier.from_environment({"NOTIFY_SOCKET": address, **more})) as notifier,
    ):
        assert notifier.watchdog_interval == interval
        notifier.watchdog()
        notifier.stopping()
        assert listener.recv(1000) == (b"STOPPING=1" if interval is None else b"WATCHDOG=1")


def test_a_manager_that_does_not_read_holds_nobody_up(tmp_path: Path) -> None:
    """The notifier is called in the loop: it counts what is lost, says so once, and goes on."""
    address = str(tmp_path / "notify")
    with manager(address) as listener, closing(Notifier(address)) as notifier, capture_logs() as lines:
        for number in range(2000):
            notifier.status(str(number))
        lost = notifier.failures
        assert 0 < lost < 2000
        assert [line["event"] for line in lines] == ["systemd_notify_failed"]
        listener.recv(1000)
        notifier.status("1999")
        assert notifier.failures == lost, "it speaks again once it is heard, also of what was lost"
        while (heard := listener.recv(1000)) != b"STATUS=1999":
            assert heard.startswith(b"STATUS=")


def test_a_manager_that_is_gone_is_survived(tmp_path: Path) -> None:
    """No state of the manager is a reason to stop fetching."""
    with closing(Notifier(str(tmp_path / "absent"))) as notifier, capture_logs() as lines:
        notifier.ready("")
        notifier.watchdog()
        notifier.stopping()
    assert notifier.failures == 2
    assert [(line["log_level"], line["assignment"]) for line in lines] == [("warning", "READY=1")]


def test_it_speaks_without_a_free_descriptor(tmp_path: Path) -> None:
    """Out of descriptors, the daemon is in trouble but alive; it must not be killed for its silence."""
    address = str(tmp_path / "notify")
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    with manager(address) as listener, closing(Notifier(address, 1_000_000)) as notifier:
        notifier.ready("")
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, limits[1]))
        try:
            notifier.watchdog()
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        assert [listener.recv(1000) for _ in range(2)] == [b"READY=1\nSTATUS=", b"WATCHDOG=1"]
