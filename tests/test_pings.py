"""Pings, to a real server: what is said, and that nobody ever waits for it."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import pytest
from structlog.testing import capture_logs

from fetchd.clock import FakeClock, SystemClock
from fetchd.errors import Reason
from fetchd.job import Job
from fetchd.pings import IN_FLIGHT, Pings
from fetchd.run import Outcome, Report, Run
from fetchd.secret import Redactor, Secret
from fetchd.sinks import Outgoing
from tests.receiver import Receiver, receiving, sending

START = datetime(2026, 3, 2, 12, tzinfo=UTC)
RID = uuid.uuid5(uuid.NAMESPACE_OID, "r1")


async def at_once(_seconds: float) -> None:
    """Wait for no time between tries."""
    await asyncio.sleep(0)


def run(job: str = "rates", id: str = "r1") -> Run:
    """Return a Run."""
    return Run(id, job, START)


def ended(outcome: Outcome, reason: Reason | None = None, message: str = "", job: str = "rates") -> Report:
    """Return how a Run has ended."""
    return Report(run(job), outcome, reason, message)


@asynccontextmanager
async def pinging(*jobs: str, path: str = "/ping/uuid", **values: object) -> AsyncIterator[tuple[Pings, Receiver]]:
    """Give pings for jobs, and the server that they go to."""
    async with receiving() as receiver, sending() as send:
        pings = Pings(send, SystemClock(), Redactor(["s3cret"]), wait=at_once, **values)
        names = jobs or ("rates",)
        made = [Job.model_validate({"name": name, "url": "http://x/", "ping": receiver.url + path}) for name in names]
        pings.replace({job.name: job for job in made})
        yield pings, receiver
        await pings.drain(0.0)


async def test_start_and_end_of_a_run_are_said() -> None:
    """With the same run id, by which the receiver takes the time; the reason of a failure without secrets."""
    async with pinging(path="/ping/uuid/?create=1") as (pings, receiver):
        pings.started(run())
        await receiver.until(1)
        pings.finished(ended(Outcome.SUCCEEDED))
        await receiver.until(2)
        pings.finished(ended(Outcome.FETCH_FAILED, Reason.HTTP_5XX, "it said s3cret"))
        taken = await receiver.until(3)
        await pings.drain(5.0)
    assert [(one.method, one.target) for one in taken] == [
        ("GET", f"/ping/uuid/start?create=1&rid={RID}"),
        ("GET", f"/ping/uuid/?create=1&rid={RID}"),
        ("POST", f"/ping/uuid/fail?create=1&rid={RID}"),
    ]
    assert taken[2].body == b"http_5xx: it said [redacted]"
    assert pings.counts == {"sent": 3, "failed": 0}


@pytest.mark.parametrize("outcome", [Outcome.CANCELLED, Outcome.SKIPPED])
async def test_nothing_is_said_of_what_was_no_run(outcome: Outcome) -> None:
    """A daemon that stops is no failure of the job; jobs without a ping have none."""
    async with pinging() as (pings, receiver):
        pings.finished(ended(outcome, Reason.SHUTDOWN))
        pings.skipped("rates", START, Reason.OVERLAP)
        pings.finished(ended(Outcome.SUCCEEDED, job="other"))
        assert pings.in_flight == 0
        assert receiver.taken == []


async def test_the_newest_word_wins_while_one_hangs() -> None:
    """A receiver that hangs holds one ping of the job, and one more that waits."""
    async with pinging() as (pings, receiver):
        receiver.answers = ["hang", 204]
        pings.started(run())
        await receiver.until(1)
        for number in range(50):
            pings.started(run(id=f"r{number}"))
        pings.finished(ended(Outcome.SUCCEEDED))
        assert pings.in_flight == 1


@pytest.mark.parametrize("answer", [500, "reset", "hang"])
async def test_what_may_pass_is_tried_again(answer: int) -> None:
    """A receiver's restart should wake nobody."""
    async with pinging(deadline=0.3) as (pings, receiver):
        receiver.answers = [answer, answer, 204]
        pings.finished(ended(Outcome.SUCCEEDED))
        await receiver.until(3)
        await pings.drain(5.0)
    assert pings.counts == {"sent": 1, "failed": 0}


async def test_failures_are_counted_and_said_once_in_a_while() -> None:
    """Without the path, which is the secret; an address that is not known is not tried again."""
    async with pinging(path="/s3cret-path") as (pings, receiver):
        receiver.answers = [404]
        with capture_logs() as logs:
            for _ in range(5):
                pings.finished(ended(Outcome.SUCCEEDED))
                await asyncio.gather(*(task for task in asyncio.all_tasks() if task.get_name() == "ping rates"))
    assert [(line["event"], line["job"], line["message"]) for line in logs] == [
        ("ping_failed", "rates", "answered 404")
    ]
    assert "s3cret" not in str(logs)
    assert len(receiver.taken) == 5
    assert pings.counts == {"sent": 0, "failed": 5}


async def test_few_go_out_at_one_time() -> None:
    """A thousand jobs that end together are no flood."""
    names = [f"j{number}" for number in range(100)]
    async with pinging(*names) as (pings, receiver):
        for name in names:
            pings.finished(ended(Outcome.SUCCEEDED, job=name))
        assert pings.in_flight == IN_FLIGHT
        await receiver.until(100)
        await pings.drain(5.0)
    assert receiver.most_open <= IN_FLIGHT
    assert pings.counts["sent"] == 100


async def test_a_stop_waits_for_a_moment_only() -> None:
    """What goes out gets its second; what hangs is cut off, and nothing begins any more."""
    async with pinging("a", "b") as (pings, receiver):
        receiver.answers = ["hang"]
        pings.finished(ended(Outcome.SUCCEEDED, job="a"))
        await receiver.until(1)
        await pings.drain(0.05)
        assert pings.in_flight == 0
        pings.finished(ended(Outcome.SUCCEEDED, job="b"))
        assert pings.in_flight == 0


async def test_the_daemon_says_that_it_does_its_work_or_what_is_wrong() -> None:
    """A daemon that turns but does nothing is not well."""
    problems: list[str] | None = None
    turns: asyncio.Queue[None] = asyncio.Queue()

    async def wait(_seconds: float) -> None:
        await turns.get()

    async with receiving() as receiver, sending() as send:
        pings = Pings(send, FakeClock(START), Redactor(), wait=wait)
        pings.replace({}, Secret(receiver.url + "/d"))
        beat = asyncio.create_task(pings.beat(lambda: problems))
        for problems in ([], ["scheduling makes no progress"]):
            turns.put_nowait(None)
            await receiver.until(len(problems) + 1)
        taken = await receiver.until(2)
        beat.cancel()
        await pings.drain(1.0)
    assert [(one.target, one.body) for one in taken] == [("/d", b""), ("/d/fail", b"scheduling makes no progress")]


async def test_a_server_that_hangs_holds_up_the_pings_to_no_other() -> None:
    """Whoever waits for those would raise the alarm for jobs, and for a daemon, that are well."""
    many = [f"job{number}" for number in range(3 * IN_FLIGHT)]
    async with pinging(*many) as (pings, hanging), receiving() as healthy:
        hanging.answers = ["hang"]
        urls = {**dict.fromkeys(many, f"{hanging.url}/ping"), "other": f"{healthy.url}/ping"}
        jobs = {name: Job.model_validate({"name": name, "url": "http://x/", "ping": url}) for name, url in urls.items()}
        pings.replace(jobs, Secret(f"{hanging.url}/daemon"))
        for name in jobs:
            pings.started(run(name))
        await healthy.until(1)
        await hanging.until(IN_FLIGHT)
        assert hanging.open == IN_FLIGHT
        beat = asyncio.create_task(pings.beat(list))
        await hanging.until(IN_FLIGHT + 1)
        beat.cancel()
        await asyncio.gather(beat, return_exceptions=True)
        assert hanging.taken[-1].target == "/daemon"


async def _cost_of_a_word(jobs: int) -> float:
    """Return the seconds that it takes to say one, while those of so many jobs wait for servers that hang."""

    async def hang(_outgoing: Outgoing) -> int:
        return await asyncio.Event().wait()

    urls = {f"job{number}": f"http://h{number % 4}.test/" for number in range(jobs)}
    pings = Pings(hang, SystemClock(), Redactor())
    pings.replace({name: Job.model_validate({"name": name, "url": "http://x/", "ping": urls[name]}) for name in urls})
    for name in urls:
        pings.started(run(name))
    costs = []
    for _ in range(5):
        began = time.process_time()
        for number in range(200):
            pings.started(run(f"job{number}"))
        costs.append((time.process_time() - began) / 200)
    await pings.drain(0.0)
    return min(costs)


async def test_those_that_wait_cost_a_run_nothing() -> None:
    """However many jobs ping a server that hangs, the start and the end of a Run take no longer for it."""
    assert await _cost_of_a_word(4000) < 5 * await _cost_of_a_word(200)


async def test_servers_take_turns() -> None:
    """Four that are slow share the places of three: none waits until the others have nothing more to be told."""
    gates: dict[str, asyncio.Event] = {}
    order: list[str] = []

    async def send(outgoing: Outgoing) -> int:
        order.append(outgoing.url.split("/")[2])
        await gates.setdefault(outgoing.url, asyncio.Event()).wait()
        return 200

    hosts = "abcd"
    made = {
        f"{host}{number}": Job.model_validate(
            {"name": f"{host}{number}", "url": "http://x/", "ping": f"http://{host}.test/{number}"}
        )
        for host in hosts
        for number in range(2 * IN_FLIGHT)
    }
    pings = Pings(send, SystemClock(), Redactor())
    pings.replace(made)
    for name in made:
        pings.started(run(name))
    while pings.in_flight:
        await asyncio.sleep(0)
        for gate in gates.values():
            gate.set()
    assert len(order) == len(made)
    first = Counter(order[: 4 * IN_FLIGHT])
    assert min(first[f"{host}.test"] for host in hosts) > 0
