"""What the real wget sends, and what the job sends; and what becomes of wget's options."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path
from subprocess import DEVNULL
from typing import Any, Final

import pytest

from fetchd.run import Progress
from tests.fetch.room import RUN, fetching
from tests.imports.lines import ENVIRONMENT, command, jobs_of, only
from tests.imports.recorder import Request, recording

URL: Final = "https://files.example.org/data/list.csv"
ROWS: Final = (
    "wget -qO- SERVER/plain",
    "wget -q SERVER/wp-cron.php?doing_wp_cron -O /dev/null",
    "wget --spider -q SERVER/alive",
    "wget -qO- --post-data='user=me&password=x y' SERVER/login",
    "wget -qO- --header='Content-Type: application/json' --post-data '{\"a\": 1}' SERVER/api",
    "wget -q -O - --method=PUT --body-data=zz --header 'X-A: 1' SERVER/put",
    "wget -qO- --method=DELETE SERVER/thing",
    "wget -qO- --user=me --password=secret --auth-no-challenge SERVER/private",
    "wget -qO- -U 'Agent 1.0' --referer=https://example.org/ SERVER/ua",
    'wget -qO- --header="Authorization: Bearer $TOKEN" SERVER/token',
    "wget -qO- --no-cache 'SERVER/a b?x=é&y=<z>'",
)
OURS: Final = ("accept-encoding", "connection", "user-agent", "content-length")


@pytest.mark.skipif(shutil.which("wget") is None, reason="needs the Debian package wget")
async def test_the_same_requests(tmp_path: Path) -> None:
    """But for wget's own name, its codings and its word on the connection, a server cannot tell them apart."""
    async with recording(tmp_path) as recorder, fetching() as fetcher:
        for row in ROWS:
            line = row.replace("SERVER", recorder.url)
            process = await asyncio.create_subprocess_exec(
                *("sh", "-c", line), cwd=tmp_path, env={**ENVIRONMENT, "PATH": "/usr/bin:/bin"}, stdout=DEVNULL
            )
            assert await process.wait() == 0, line
            by_wget = [_compared(request, row) for request in recorder.taken()]
            for job in jobs_of(command(line), tmp_path):
                fetched = await fetcher.fetch(job, RUN, Progress())
                assert fetched is not None
                fetched.body.close()
            assert [_compared(request, row) for request in recorder.taken()] == by_wget, row


def _compared(request: Request, row: str) -> Request:
    own = [
        name for name in OURS if not (name == "user-agent" and "-U" in row) and not (name == OURS[-1] and request.body)
    ]
    return request.without(*own)


@pytest.mark.parametrize(
    ("options", "keys"),
    [
        ("", {"redirects": 20, "sinks.0.path": "list.csv"}),
        ("-P /srv", {"sinks.0.path": "/srv/list.csv"}),
        ("-O /srv/x -T 5 -t 3", {"timeout.read": 5.0, "timeout.connect": 5.0, "retries": 2, "sinks.0.path": "/srv/x"}),
        ("--tries=1 --max-redirect=0", {"retries": 0, "redirects": 0}),
        ("--tries=0 --timeout=60", {"retries": 10, "deadline": 60.0}),
        ("--no-check-certificate -4", {"tls.verify": False, "ip": "ipv4"}),
        ("-e robots=off -nv -nd -c", {"redirects": 20}),
        ("--spider", {"method": "HEAD", "sinks": ()}),
        ("--save-cookies=f --keep-session-cookies", {"redirects": 20}),
    ],
)
def test_options_that_are_keys(options: str, keys: dict[str, Any], tmp_path: Path) -> None:
    """What a job can say it says, and the daemon reads it without a finding."""
    job = only(command(f"wget {options} {URL}"), tmp_path)
    for key, expected in keys.items():
        value: Any = job
        for part in key.split("."):
            value = value[int(part)] if part.isdigit() else getattr(value, part)
        assert value == expected, key


@pytest.mark.skipif(shutil.which("wget") is None, reason="needs the Debian package wget")
@pytest.mark.parametrize("path", ["x.csv?a=b&c=d%2Fe", "?a=1/2", "a%20b/c%C5%99%2F.txt", "plain/", "t%09b"])
async def test_files_are_called_as_wget_calls_them(path: str, tmp_path: Path) -> None:
    """Whatever reads the file goes on to find it."""
    async with recording(tmp_path) as recorder:
        folder = tmp_path / "files"
        folder.mkdir()
        line = f"wget -q '{recorder.url}/{path}'"
        process = await asyncio.create_subprocess_exec(
            *("sh", "-c", line), cwd=folder, env={"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"}, stdout=DEVNULL
        )
        assert await process.wait() == 0
    [made] = folder.iterdir()
    assert only(command(line), tmp_path).sinks[0].path == made.name  # type: ignore[attr-defined]


@pytest.mark.parametrize("options", ["-r", "-m", "-i list", "--load-cookies=f", "--bogus", "-p", "-e use_proxy=on"])
def test_what_a_job_does_not_do(options: str) -> None:
    """Whole sites are not fetched, and files of wget not read: the job is a comment."""
    found = command(f"wget {options} {URL}")
    assert (found.jobs, found.left) == (0, 1)
    assert "# NOT USABLE AS IT IS" in found.text
