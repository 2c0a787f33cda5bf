"""Names: a resolver that hangs or fails is its own reason, and nobody else's trouble."""

from __future__ import annotations

import asyncio
import gc
import socket
import threading
import time
from typing import Any

import pytest
from aiohttp.abc import AbstractResolver, ResolveResult

from fetchd.fetch.resolver import FOUND_FOR, MISSING_FOR, REMEMBERED, Names, Resolver
from tests.fetch.room import SHORT, ending, fetching, job, settled
from tests.processes import descriptors
from tests.upstream import HOST, UpstreamProcess


def asking(upstream: UpstreamProcess, port: str = "dns") -> Names:
    """Return the names as the upstream's own server tells them."""
    return Names(nameservers=(f"{HOST}:{upstream.ports[port]}",), timeout=0.2, attempts=2)


async def questions(upstream: UpstreamProcess, name: str) -> int:
    """Return how often the name server was asked for ``name``."""
    return int((await asyncio.to_thread(upstream.stats))["names"].get(name, 0))


@pytest.mark.parametrize("host", ["missing.test", "broken.test", "-.test", "under_score.test"])
async def test_names_that_do_not_resolve(host: str, upstream: UpstreamProcess) -> None:
    """No such name, a server that fails, a name that cannot be one: all of them ``dns``, and none a crash."""
    async with fetching(names=asking(upstream)) as fetcher:
        end = await ending(fetcher, job(upstream.url("ok", host=host)))
    assert end.error is not None
    assert (end.why, end.phase) == ("dns", "dns")
    assert f"cannot resolve {host}" in str(end.error)
    assert end.error.transient


@pytest.mark.parametrize(("host", "port"), [("hung.test", "dns"), ("any.test", "dns_silent")])
async def test_a_resolver_that_does_not_answer(host: str, port: str, upstream: UpstreamProcess) -> None:
    """The look-up is part of the connect timeout, and a timeout within it is told apart."""
    names = Names(nameservers=(f"{HOST}:{upstream.ports[port]}",))
    async with fetching(names=names) as fetcher:
        end = await ending(fetcher, job(upstream.url("ok", host=host)))
    assert (end.why, end.phase) == ("dns", "dns")
    assert "no answer about the name" in str(end.error)
    assert SHORT <= end.took < SHORT + 0.3


async def test_dead_names_beside_healthy_ones(upstream: UpstreamProcess) -> None:
    """With getaddrinfo's few threads twenty hung names stop every other one; here nobody notices."""
    threads = threading.active_count()
    hung = [job(upstream.url("ok", host=f"h{number}.hung.test"), timeout="10s") for number in range(20)]
    async with fetching(names=asking(upstream)) as fetcher:
        tasks = [asyncio.create_task(ending(fetcher, one, deadline=0.6)) for one in hung]
        await asyncio.sleep(0)
        for number in range(5):
            for host in ("localhost", f"n{number}.good.test"):
                end = await ending(fetcher, job(upstream.url("ok", host=host)))
                assert end.why == "ok"
                assert end.took < 0.2
        assert {(await task).why for task in tasks} <= {"deadline", "dns"}
        assert threading.active_count() == threads


async def test_one_question_for_all(upstream: UpstreamProcess) -> None:
    """A hundred jobs of one host, due at the same moment, ask once."""
    host = "herd.good.test"
    async with fetching(names=asking(upstream)) as fetcher:
        ends = await asyncio.gather(*(ending(fetcher, job(upstream.url("ok", host=host))) for _ in range(30)))
        assert {end.why for end in ends} == {"ok"}
        at_another_port = job(f"http://{host}:{upstream.ports['silent']}/")
        assert (await ending(fetcher, at_another_port)).why == "timeout_read"
    assert await questions(upstream, host) <= 2  # the two kinds of addresses


async def test_those_who_leave_do_not_take_the_question_along(upstream: UpstreamProcess) -> None:
    """The first to ask may be cut off; the others get the answer all the same."""
    host = "shared.good.test"
    async with fetching(names=asking(upstream)) as fetcher:
        first = asyncio.create_task(ending(fetcher, job(upstream.url("ok", host=host))))
        others = [asyncio.create_task(ending(fetcher, job(upstream.url("ok", host=host)))) for _ in range(3)]
        await asyncio.sleep(0)
        first.cancel()
        assert [(await other).why for other in others] == ["ok"] * 3


class Told(AbstractResolver):
    """Answers what it is told to, and counts the questions."""

    def __init__(self, answer: list[ResolveResult] | Exception) -> None:
        self.answer = answer
        self.questions = 0
        self.closed = False

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Answer."""
        self.questions += 1
        await asyncio.sleep(0)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    async def close(self) -> None:
        """Note it."""
        self.closed = True


def address(host: str) -> ResolveResult:
    """Return one address as aiohttp's resolvers tell it."""
    return {"hostname": "a.test", "host": host, "port": 0, "family": socket.AF_INET, "proto": 0, "flags": 0}


async def test_memory_is_short() -> None:
    """Addresses move, and a name that was missing may come to be: what is remembered is so for seconds."""
    told = Told([address("127.0.0.1")])
    moment = 1000.0
    resolver = Resolver(Names(), told, lambda: moment)
    first = await resolver.resolve("a.test", 80)
    assert first == [{**address("127.0.0.1"), "port": 80}]
    first[0]["host"] = "spoilt"
    assert (await resolver.resolve("a.test", 443))[0] == {**address("127.0.0.1"), "port": 443}
    assert told.questions == 1
    moment += FOUND_FOR + 0.1
    told.answer = OSError(None, "gone")
    for _ in range(2):
        with pytest.raises(OSError, match="gone"):
            await resolver.resolve("a.test", 80)
    assert told.questions == 2
    moment += MISSING_FOR + 0.1
    told.answer = [address("127.0.0.2")]
    assert (await resolver.resolve("a.test", 80))[0]["host"] == "127.0.0.2"
    await resolver.close()
    assert told.closed


async def test_memory_is_bounded() -> None:
    """Names come from upstreams too, in redirects: without end, if they like."""
    told = Told([address("127.0.0.1")])
    resolver = Resolver(Names(), told)
    for number in range(REMEMBERED + 1):
        await resolver.resolve(f"n{number}.test")
    await resolver.resolve(f"n{REMEMBERED}.test")
    assert told.questions == REMEMBERED + 1
    await resolver.resolve("n0.test")
    assert told.questions == REMEMBERED + 2


async def test_a_failure_that_nobody_waits_for_is_no_news(caplog: pytest.LogCaptureFixture) -> None:
    """Whoever asked has been cut off; that nobody took the failure is not worth a line, and never a traceback."""
    resolver = Resolver(Names(), Told(OSError(None, "gone")))
    task = asyncio.create_task(resolver.resolve("a.test"))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    for _ in range(3):
        await asyncio.sleep(0)
    del resolver, task
    gc.collect()
    assert not caplog.records


async def test_closing_with_questions_open(upstream: UpstreamProcess, caplog: pytest.LogCaptureFixture) -> None:
    """A daemon that is told to stop does not wait for a resolver, and leaves nothing behind."""
    tasks, files = asyncio.all_tasks(), descriptors()
    start = time.monotonic()
    waiting: list[asyncio.Task[Any]] = []
    async with fetching(names=Names(nameservers=(f"{HOST}:{upstream.ports['dns_silent']}",))) as fetcher:
        for number in range(20):
            one = job(upstream.url("ok", host=f"h{number}.test"), timeout="10s")
            waiting.append(asyncio.create_task(ending(fetcher, one, deadline=10)))
        await asyncio.sleep(0.05)
        for task in waiting:
            task.cancel()
        await asyncio.wait(waiting)
    assert time.monotonic() - start < 1
    await settled(tasks, files)
    gc.collect()
    assert not caplog.records
