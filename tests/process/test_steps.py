"""A Run killed at each of its steps, one after the other: the next one finds nothing lost, torn or left behind."""

from __future__ import annotations

import http.server
import itertools
import json
import os
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import pytest

from tests.process.daemon import PATHS

KILLS: Final = int(os.environ.get("FETCHD_KILLS", "5"))
"""At how many steps a Run is killed; ``make test-crash`` sets more than there are."""
JOBS: Final = {
    # A body that goes to a spool file, then to a file of its own, and is one long line.
    "large": """
    url = "URL/large"
    sinks = [
      { kind = "file", path = "log.jsonl", mode = "append" },
      { kind = "file", name = "newest", path = "{date}/newest" },
      { kind = "sqlite", path = "rows.db" },
      { kind = "command", argv = ["sh", "-c", "cat > /dev/null; echo $FETCHD_RUN >> commanded"] },
    ]
    """,
    "items": """
    url = "URL/items?since={cursor}"
    split = "items"
    cursor = { next = "last", initial = "0" }
    sinks = [
      { kind = "file", path = "log.jsonl", mode = "append" },
      { kind = "sqlite", path = "rows.db", columns = { id = "id" } },
      { kind = "webhook", url = "URL/hook", batch = 15 },
    ]
    """,
}
ITEMS: Final = 40

pytestmark = pytest.mark.timeout(60 + 3 * KILLS)


class Api:
    """A server whose every answer is another one, and a webhook that takes the items."""

    def __init__(self) -> None:
        self.taken: dict[str, set[int]] = {}
        self.asked: set[int] = set()
        taken, asked, numbers = self.taken, self.asked, itertools.count(1)

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                asked.add(int(self.path.partition("since=")[2] or 0))
                number = next(numbers) * ITEMS
                items = [{"id": number + place} for place in range(ITEMS)]
                content = json.dumps({"items": items, "last": number, "filler": ""}).encode()
                self._answer(content.replace(b'""', b'"%b"' % (b"x" * 100_000)) if "large" in self.path else content)

            def do_POST(self) -> None:
                items = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                taken.setdefault(self.headers["X-Fetchd-Run"], set()).update(item["id"] for item in items)
                self._answer(b"")

            def _answer(self, content: bytes) -> None:
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_arguments: object) -> None:
                """Say nothing."""

        class Server(http.server.ThreadingHTTPServer):
            def handle_error(self, *_arguments: object) -> None:
                """Whoever is killed does not say goodbye."""

        self._server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def api() -> Iterator[Api]:
    """A server."""
    api = Api()
    yield api
    api.close()


@pytest.mark.parametrize("job", JOBS)
def test_killed_at_each_step(job: str, tmp_path: Path, api: Api) -> None:
    """Where random kills hit is chance; here each mark that a Run leaves on the disk is the last one in its turn."""
    definition = JOBS[job].replace("URL", api.url)
    (tmp_path / "fetchd.toml").write_text(
        f'[daemon]\nstate_dir = "state"\nspool_above = "1KiB"\n[jobs.{job}]\n{definition}'
    )
    command = [sys.executable, "-m", "tests.process.stepper", str(tmp_path), job, str(KILLS)]
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": PATHS}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    steps = [json.loads(line) for line in done.stdout.splitlines()]
    # How many there are differs by a few: what is written at one time goes into one transaction.
    assert len([step for step in steps if step["what"]]) > len(steps) // 2
    had = {0}
    for step in steps:
        place = tmp_path / str(step["at"])
        assert step["status"] == 0, (step, (place / "said").read_text())
        had.update(line["body"].get("id", 0) for line in lines_of(place / "state"))
        assert list(problems(place / "state", api, set(step["kept"]))) == [], step

    assert api.asked <= had  # a cursor that ran ahead would ask for what follows a result that no sink has


def lines_of(state: Path) -> list[dict[str, Any]]:
    """Return what the file sink has written."""
    return [json.loads(line) for line in (state / "out/log.jsonl").read_text().splitlines()]


def problems(state: Path, api: Api, kept: set[str]) -> Iterator[str]:
    """Yield what is wrong after a Run that was killed and one that was not; ``kept`` are those kept by the first."""
    out = state / "out"
    lines = lines_of(state)
    with closing(sqlite3.connect(out / "rows.db")) as table:
        rows = [run for (run,) in table.execute("SELECT run FROM fetchd ORDER BY rowid")]
    runs = [line["run"] for line in lines]
    if runs != rows or runs != sorted(runs):
        yield f"lines are of {runs}, rows of {rows}"
    if len({(line["delivery"], line.get("record")) for line in lines}) != len(lines):
        yield "a line is there twice"
    if kept - set(runs):
        yield f"lost: {kept - set(runs)}"
    if (out / "commanded").exists() and set((out / "commanded").read_text().split()) != set(runs):
        yield "the command lacks some"
    for run in runs if "record" in lines[0] else ():
        items = {line["body"]["id"] for line in lines if line["run"] == run}
        if len(items) != ITEMS or items != api.taken[run]:
            yield f"the file or the webhook lacks some of {run}"
    left = [path.name for path in state.rglob("*") if path.parent.name in {"spool", "bodies"} or path.suffix == ".tmp"]
    if left:
        yield f"left behind: {left}"
    with closing(sqlite3.connect(state / "state.db")) as database:
        if owed := database.execute("SELECT sink FROM deliveries").fetchall():
            yield f"owed: {owed}"
