"""What the real curl sends, and what the job sends that it is imported as: the same bytes, but for a list of headers.

The list: User-Agent, unless the line sets it, and Accept-Encoding, which are fetchd's own; Content-Length: 0 where a
method that may have a body has none, of which curl says nothing; Proxy-Connection, which no standard knows.
Versions of curl write what they percent-encode themselves with small digits or with capitals.
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from subprocess import DEVNULL
from typing import Final

import pytest

from fetchd.fetch.ask import Ask
from fetchd.fetch.placeholders import Known, varies
from fetchd.imports import Imported
from fetchd.run import Progress
from tests.fetch.room import RUN, fetching
from tests.imports.lines import ENVIRONMENT, command, jobs_of
from tests.imports.recorder import Recorder, Request, recording

PATIENCE: Final = 10.0
_ENCODED: Final = re.compile(rb"%[0-9a-fA-F]{2}")
_APPENDS: Final = re.compile("-G |--get|--url-query")
FILES: Final = {
    "query.graphql": b"query {\n  viewer {\n    login\n  }\n}\n",
    "order.json": b'{\n  "id": 7,\n  "note": "\xc5\xbelu\xc5\xa5"\n}\n',
    "one line": b"plain text of one line",
    "points.txt": b"cpu,host=a value=0.5 1700000000\ncpu,host=b value=0.7 1700000000\n",
}

ROWS: Final = (Path(__file__).parent / "curl_lines.txt").read_text(encoding="utf-8").splitlines()
"""SERVER, ADDRESS and SOCKET stand for where the recorder listens."""


@dataclass(frozen=True, slots=True)
class Sent:
    """What curl sent, and what the jobs sent that its line was imported as."""

    by_curl: list[Request]
    by_jobs: list[Request]
    found: Imported


async def _by_curl(line: str, recorder: Recorder, folder: Path) -> list[Request]:
    environment = {**ENVIRONMENT, "PATH": os.environ["PATH"], "HOME": str(folder)}
    process = await asyncio.create_subprocess_exec(
        *("bash", "-c", line), cwd=folder, env=environment, stdout=DEVNULL, stderr=DEVNULL
    )
    assert await process.wait() == 0, line
    return recorder.taken()


async def _sent(folder: Path) -> dict[str, Sent]:
    sent: dict[str, Sent] = {}
    async with recording(folder) as recorder, fetching() as fetcher:
        for row in ROWS:
            line = row.replace("SERVER", recorder.url).replace("ADDRESS", recorder.url.removeprefix("http://"))
            line = line.replace("SOCKET", str(recorder.socket))
            by_curl = await _by_curl(line, recorder, folder)
            found = command(line, folder)
            environment = dict(ENVIRONMENT) | wanted_variables(found.text)
            for job in jobs_of(found, folder, environment):
                ask = Ask(Known(RUN.slot, RUN.slot)) if varies(job) else None
                async with asyncio.timeout(PATIENCE):
                    fetched = await fetcher.fetch(job, RUN, Progress(), ask=ask)
                assert fetched is not None, line
                fetched.body.close()
            sent[row] = Sent(by_curl, recorder.taken(), found)
    return sent


def wanted_variables(text: str) -> dict[str, str]:
    """Return the variables that the comments of an import ask for, with the values that they name."""
    values: dict[str, str] = {}
    for line in text.splitlines():
        if line.startswith("# set ") and ' to "' in line:
            name, _, value = line.removeprefix("# set ").partition(' to "')
            value = value.rpartition('": a variable')[0]
            for known, given in ENVIRONMENT.items():
                value = value.replace(f"${{{known}}}", given)
            values[name] = value
    return values


@pytest.fixture(scope="module")
def sent(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Sent]:
    """Send everything once, by curl and by the daemon's own fetcher."""
    if not (shutil.which("curl") and shutil.which("bash")):
        pytest.skip("needs the Debian packages curl and bash")
    folder = tmp_path_factory.mktemp("curl")
    for name, content in FILES.items():
        (folder / name).write_bytes(content)
    return asyncio.run(_sent(folder))


def _joined(cookies: str) -> str:
    return "; ".join(cookie.strip() for cookie in cookies.split(";"))


def _compared(request: Request, row: str) -> Request:
    own = ["accept-encoding", "proxy-connection"]
    own += [] if "-A " in row or "--user-agent" in row else ["user-agent"]
    if not request.body and not request.line.startswith((b"GET ", b"HEAD ")):
        own.append("content-length")
    kept = request.without(*own)
    # Between cookies of several options older curls leave out the space that newer ones put there.
    kept = replace(
        kept, headers=tuple((name, _joined(value) if name == "cookie" else value) for name, value in kept.headers)
    )
    if row.isascii() and not _APPENDS.search(row):
        return kept
    return replace(kept, line=_ENCODED.sub(lambda match: match[0].upper(), kept.line))


@pytest.mark.parametrize("row", ROWS)
def test_the_same_request(row: str, sent: dict[str, Sent]) -> None:
    """A job that asks for something else than its command did would be worse than none."""
    of_row = sent[row]
    assert of_row.by_curl, "curl sent nothing"
    assert [_compared(request, row) for request in of_row.by_jobs] == [
        _compared(request, row) for request in of_row.by_curl
    ], of_row.found.text
