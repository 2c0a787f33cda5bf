"""What people are told stands in the log as well: some have no notifier, and some a broken one."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from structlog.testing import capture_logs

from fetchd.alerts.memory import ALIVE
from fetchd.alerts.options import AlertOptions
from tests.alerted import Desk, job


def events(lines: list[Any]) -> list[tuple[str, str]]:
    """Return what was logged, and of what kind of trouble."""
    return [(line["event"], line.get("trouble") or line.get("was") or line.get("job", "")) for line in lines]


async def test_trouble_of_the_daemon_is_logged_as_it_is_told() -> None:
    """That it is there, and that it is over; not each time that people are reminded."""
    desk = await Desk([job()], options=AlertOptions(reminder="10m"), notifiers={}).open()
    with capture_logs() as lines:
        desk.alerts.daemon("stuck", "stuck: rates")
        await desk.after(2000)
        desk.alerts.daemon_ok("stuck")
        desk.alerts.daemon("clock", "the clock was stepped", lasting=False)
        await desk.after(60)
    assert events(lines) == [
        ("daemon_in_trouble", "stuck"),
        ("daemon_recovered", "stuck"),
        ("daemon_in_trouble", "clock"),
    ]
    assert lines[0]["message"] == "stuck: rates"


async def test_a_short_outage_can_be_told_exactly() -> None:
    """Who wants to be told of seconds must not be told of a minute: that it is alive is noted often enough."""
    desk = await Desk([job()], options=AlertOptions(down_after="10s")).open()
    await desk.after(57, step=1.0)
    noted = datetime.fromisoformat((await desk.store.notes(ALIVE))[ALIVE])
    assert (desk.clock.now() - noted).total_seconds() <= 5.0
    await desk.alerts.close(0.1)
    assert await desk.alerts.load(desk.config, desk.boxes) == ""
    desk.clock.advance(12.0)
    assert "the daemon was down for 1" in await desk.alerts.load(desk.config, desk.boxes)
