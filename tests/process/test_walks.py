"""The daemon killed in the middle of walks through pages: no item is missing, and a walk that resumes repeats none."""

from __future__ import annotations

import http.server
import json
import os
import random
import re
import signal
import sqlite3
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qsl, urlsplit

import pytest

from fetchd.store import letters
from tests.process.daemon import PATIENCE, Daemon

KILLS: Final = 4
ROUNDS: Final = max(1, int(os.environ.get("FETCHD_KILLS", "4")) // KILLS)
"""How often the daemon is killed so many times; ``make test-crash`` sets more."""
SIZE: Final = 3
WALKS: Final = {
    "cursor": 'pages = { kind = "cursor", next = "next", param = "from", items = "items", resume = true, max = 7 }',
    "link": 'pages = { kind = "link", next = "link", items = "items", resume = true }',
    "offset": 'pages = { kind = "offset", param = "skip", size = 3, items = "items", resume = true, max = 2 }',
    "anew": 'pages = { kind = "page", size = 3, items = "items" }',
}

pytestmark = pytest.mark.timeout(60)


class Items:
    """An API with numbered items, to which each request adds some, and a webhook that takes them."""

    def __init__(self) -> None:
        self.count = 20
        self.full = False
        self.asked = 0
        self.taken: dict[str, Counter[int]] = {name: Counter() for name in WALKS}
        self.changed = threading.Condition()
        items = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = -1

            def do_GET(self) -> None:
                self._answer(200, json.dumps(items.page(self.path)).encode())

            def do_POST(self) -> None:
                batch = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with items.changed:
                    items.taken[self.path.strip("/")].update(item["id"] for item in batch)
                    items.changed.notify_all()
                self._answer(200, b"")

            def _answer(self, status: int, content: bytes) -> None:
                self.send_response(status)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_arguments: object) -> None:
                """Say nothing."""

        class Server(http.server.ThreadingHTTPServer):
            request_queue_size = 128

            def handle_error(self, *_arguments: object) -> None:
                """Whoever is killed does not say goodbye."""

        self._server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def page(self, target: str) -> dict[str, Any]:
        """Return the page that ``target`` asks for, of the items behind the one that is known."""
        known, place = (dict(parse_qsl(urlsplit(target).query)) for _ in range(2))
        since = int(known.get("since", 0))
        start = int(place.get("from", since)) + int(place.get("skip", 0)) + SIZE * (int(place.get("page", 1)) - 1)
        with self.changed:
            self.asked += 1
            self.count += 0 if self.full else 1
            self.changed.notify_all()
            numbers = list(range(start + 1, min(start + SIZE, self.count) + 1))
            newest = self.count
        last = numbers[-1] if numbers and numbers[-1] < newest else None
        link = last and f"?since={since}&from={last}"
        return {"items": [{"id": number} for number in numbers], "next": last, "link": link, "newest": newest}

    def wait(self, more: int) -> None:
        """Wait until so many further requests have come."""
        with self.changed:
            until = self.asked + more
            assert self.changed.wait_for(lambda: self.asked >= until, PATIENCE)

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def items() -> Iterator[Items]:
    """An API."""
    items = Items()
    yield items
    items.close()


def config_of(items: Items) -> str:
    """Return a job for each way to walk, which asks for what is newer than the last item that it has."""
    return "".join(
        f"""
        [jobs.{name}]
        url = "{items.url}/{name}?since={{cursor}}"
        interval = "200ms"
        retries = 0
        {pages}
        cursor = {{ next = "newest", initial = "0" }}
        split = "items"
        sinks = [
          {{ kind = "sqlite", path = "{name}.db", columns = {{ id = "id" }} }},
          {{ kind = "file", path = "{name}.jsonl", mode = "append" }},
          {{ kind = "webhook", url = "{items.url}/{name}", batch = 2, deadline = "5s" }},
        ]
        """
        for name, pages in WALKS.items()
    )


@pytest.mark.parametrize("seed", range(ROUNDS))
def test_killed_in_the_middle_of_walks(seed: int, tmp_path: Path, items: Items) -> None:
    """However the pages are found, what was kept is the beginning of what comes next."""
    config = config_of(items)
    dice = random.Random(20260302 + seed)
    for _ in range(KILLS):
        with Daemon(tmp_path, config) as daemon:
            items.wait(dice.randint(1, 30))
            daemon.signal(signal.SIGKILL)
            daemon.wait()
    items.full = True
    patient = re.sub(r', max = \d+|"200ms"', lambda match: '"3s"' if match[0] == '"200ms"' else "", config)
    with Daemon(tmp_path, patient) as daemon:
        daemon.wait_until(lambda: all(len(taken) == items.count for taken in items.taken.values()))
        daemon.wait_until(lambda: not any(letters.memory(daemon.state, name).owed for name in WALKS))
        assert daemon.stop() == 0
    out, wanted = daemon.state / "out", set(range(1, items.count + 1))
    for name in WALKS:
        with closing(sqlite3.connect(out / f"{name}.db")) as table:
            rows = [number for (number,) in table.execute("SELECT id FROM fetchd")]
        lines = [json.loads(line)["body"]["id"] for line in (out / f"{name}.jsonl").read_text().splitlines()]
        assert set(rows) == set(lines) == set(items.taken[name]) == wanted, name
        if "resume" in WALKS[name]:
            assert len(rows) == len(lines) == len(wanted), name
