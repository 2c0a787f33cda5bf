"""Made-up daemons to look at: of one job, of fifty, of a thousand; well or not."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from typing import Final

from fetchd.board.samples import Usage
from fetchd.clock import FakeClock
from fetchd.errors import Reason
from fetchd.run import Outcome
from fetchd.secret import Secret
from fetchd.sinks.file import FileOptions
from fetchd.store import Memory
from tests.web.made import House, job

NAMES: Final = ("rates", "weather", "stock-levels", "orders.pull", "invoices", "feed-news", "probe", "tickets")
MESSAGE: Final = "the server answered with status 503, after 3 attempts"


def names(count: int) -> list[str]:
    """Return names for ``count`` jobs."""
    kinds = len(NAMES)
    return [NAMES[n % kinds] + (f"-{n // kinds}" if n >= kinds else "") for n in range(count)]


def scene(count: int, *, bad: bool = False) -> House:
    """Return a house of ``count`` jobs that has been at work for a while; every eleventh fails if it is ``bad``."""
    chance = random.Random(count)
    sinks = (FileOptions(kind="file", path="latest.json"),)
    jobs = {
        name: job(name, url=Secret(f"https://api.example.test/v1/{name}"), interval="5m", sinks=sinks)
        for name in names(count)
    }
    house = House(jobs, clock=FakeClock(datetime.now(UTC) - timedelta(hours=3)))
    house.clock.advance(3 * 3600 - 60)
    for number, name in enumerate(jobs):
        if bad and number % 11 == 6:
            continue
        for _ in range(30):
            took = 0.05 + chance.random() ** 3
            house.past(name, Outcome.SUCCEEDED if chance.random() < 0.6 else Outcome.UNCHANGED, took)
        for _ in range(8 if bad and number % 11 == 3 else 0):
            house.past(name, Outcome.FETCH_FAILED, 1.5, message=MESSAGE, reason=Reason.HTTP_5XX, status=503)
        house.remembered[name] = Memory(last_success=house.clock.now(), owed=3 * (number % 29 == 5))
        house.slots[name] = house.clock.now() + timedelta(seconds=60 + chance.random() * 300)
    for number, name in enumerate(jobs):
        if bad and number % 11 == 6:
            house.remembered[name] = Memory(last_success=house.clock.now() - timedelta(hours=2), dead=2)
        elif bad and number % 17 == 9:
            house.remembered[name] = Memory(paused=True)
    for minute in range(1440):
        house.board.samples.add(Usage(60_900_000 + chance.randrange(200_000), 41), 3 + minute % 3)
    if bad:
        house.board.reloaded(2, 'fetchd.toml:12: jobs.rates.intervall: unknown key; did you mean "interval"?')
    return house
