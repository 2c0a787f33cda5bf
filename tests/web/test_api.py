"""The read-only API and the probes."""

from __future__ import annotations

from datetime import timedelta

import pytest

from fetchd.health import Stage
from fetchd.run import Outcome
from tests.web.made import House, job


async def test_the_status_is_told_in_sums() -> None:
    """What a monitor of the daemon as a whole needs, in one small answer."""
    house = House({name: job(name) for name in ("a", "b", "c")})
    house.ran("a")
    house.failed("b")
    house.store.pause("c", True)
    house.slots["a"] = house.clock.now() + timedelta(seconds=5)
    async with house.served() as client:
        status = await client.json("/api/status")
    sums = {"total": 3, "failing": 1, "overdue": 0, "paused": 1, "running": 0, "owed": 0, "dead": 0}
    assert status["jobs"] == sums
    assert status["next_slot"] == "2026-03-04T03:00:07+00:00"
    assert (status["ready"], status["config"]["generation"], status["config"]["error"]) == (True, 1, None)
    assert status["resident_bytes"] > 2**20


async def test_jobs_are_told_one_by_one() -> None:
    """The list is the same JSON as each job's own, in the order of the page."""
    house = House({"a": job("a"), "b": job("b")})
    house.ran("a", status=200)
    house.failed("b")
    async with house.served() as client:
        jobs = await client.json("/api/jobs")
        one = await client.json("/api/jobs/b")
    assert [job["name"] for job in jobs] == ["b", "a"]
    assert jobs[0].items() <= one.items()
    assert one["state"] == "failing"
    assert one["last"]["reason"] == "timeout_read"
    assert one["config"]["interval"] == '"1m"'


async def test_runs_are_told_the_newest_first() -> None:
    """As many as are asked for, within bounds."""
    house = House({"a": job("a")})
    for _ in range(3):
        house.ran("a", Outcome.UNCHANGED, timings={"dns": 0.25})
    async with house.served() as client:
        runs = await client.json("/api/jobs/a/runs?limit=2")
        assert [run["slot"] for run in runs] == ["2026-03-04T03:00:02+00:00", "2026-03-04T03:00:01+00:00"]
        assert runs[0]["timings_s"] == {"dns": 0.25}
        for wrong in ("0", "-1", "1001", "x", "", "٣", "999999999999999999999"):
            assert (await client.get("/api/jobs/a/runs", params={"limit": wrong})).status == 400


@pytest.mark.parametrize("path", ["/api/jobs/x", "/api/jobs/x/runs", "/jobs/x", "/api", "/jobs/a/runs", "/jobs/../a"])
async def test_what_is_not_there_is_404(path: str) -> None:
    """Nothing is guessed."""
    house = House({"a": job("a")})
    async with house.served() as client:
        assert (await client.get(path)).status == 404


async def test_the_probes_follow_the_verdict() -> None:
    """The process lives although it is not ready: it is not to be killed, but to be left out."""
    house = House({"a": job("a")})
    async with house.served() as client:
        assert await client.json("/readyz") == {"ready": True, "problems": [], "warnings": []}
        house.health.stage = Stage.STOPPING
        refused = await client.get("/readyz")
        assert refused.status == 503
        assert (await refused.json())["problems"] == ["the daemon is stopping"]
        assert await client.text("/healthz") == "ok\n"


async def test_metrics_come_as_they_are_made() -> None:
    """The server adds nothing to the text and its type."""

    async def made() -> tuple[str, list[bytes]]:
        return "text/x-metrics; of=them", [b"one 1\n", b"two 2\n"]

    async with House({"a": job("a")}, metrics=made).served() as client:
        response = await client.get("/metrics")
        assert response.headers["Content-Type"] == "text/x-metrics; of=them"
        assert await response.text() == "one 1\ntwo 2\n"
