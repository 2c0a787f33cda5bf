"""Politeness as the server that most limits stand in measures it."""

from __future__ import annotations

import asyncio
from pathlib import Path

from fetchd.clock import SystemClock
from fetchd.errors import Reason
from fetchd.fetch.hosts import Hosts
from fetchd.fetch.turns import HostLimits
from tests.fetch.nginx import NEEDED, nginx
from tests.fetch.room import HOST, PATIENCE, ending, fetching, job

pytestmark = NEEDED

JOBS = 8
ZONE = "limit_req_zone $server_port zone=all:1m rate=20r/s; limit_req_status 429;"
SERVER = """
location / { limit_req zone=all burst=1 nodelay; error_page 429 = @limited; }
location @limited { internal; add_header Retry-After 30 always; return 429; }
"""


async def test_spacing_passes_a_limit_that_a_herd_does_not(tmp_path: Path) -> None:
    """Twenty requests a second and one in advance: eight at once are too many, eight in turn are not."""
    (tmp_path / "www").mkdir()
    (tmp_path / "www" / "it").write_text("it")
    async with nginx(tmp_path, SERVER, ZONE) as url:
        jobs = [job(f"{url}/it", name=f"job{number}", timeout="5s", deadline="10s") for number in range(JOBS)]
        spaced = Hosts({HOST: HostLimits(min_spacing=0.1)}, SystemClock())
        async with fetching(hosts=spaced) as fetcher:
            ends = await asyncio.gather(*(ending(fetcher, one, PATIENCE) for one in jobs))
            assert [(end.why, end.progress.attempts) for end in ends] == [("ok", 1)] * JOBS
        async with fetching() as fetcher:
            ends = await asyncio.gather(*(ending(fetcher, one, PATIENCE) for one in jobs))
            assert {end.why for end in ends} == {"ok", "http_429"}
            held = fetcher.held(jobs[0])
            late = await ending(fetcher, jobs[0], PATIENCE)
    assert held is not None
    assert held[0] is Reason.RETRY_AFTER
    assert (late.why, late.progress.attempts) == ("http_429", 0)
    asked = (tmp_path / "seen.log").read_text().splitlines()
    assert len(asked) == 2 * JOBS
