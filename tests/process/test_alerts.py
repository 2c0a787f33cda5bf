"""What a real daemon tells people: of an outage, over its own restart, to its end; and what it pings."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.process.daemon import Daemon


class World(ThreadingHTTPServer):
    """The upstream, which does as ``well`` says; the chat tool; and the receiver of pings."""

    well = True
    request_queue_size = 128  # all jobs connect at once, and whoever finds no room tries again after a second

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.messages: list[dict[str, Any]] = []
        self.pings: list[str] = []
        self.url = f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    """Answers for all of them."""

    server: World

    def do_GET(self) -> None:
        """Be the upstream, or take a ping."""
        if self.path.startswith("/ping"):
            self.server.pings.append(self.path.partition("?")[0])
        self._answer(200 if self.server.well or self.path.startswith("/ping") else 503)

    def do_POST(self) -> None:
        """Take a message, or a ping of a failure."""
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.path.startswith("/ping"):
            self.server.pings.append(self.path.partition("?")[0])
        else:
            self.server.messages.append(json.loads(body))
        self._answer(204)

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def _answer(self, status: int) -> None:
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()


@pytest.fixture
def world() -> Iterator[World]:
    """Give all that the daemon speaks with."""
    with World() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def config(world: World) -> str:
    """Return a configuration of 20 jobs at one host, and of a notifier."""
    jobs = "".join(
        f'[jobs.j{number}]\nurl = "{world.url}/{number}"\n'
        + (f'ping = "{world.url}/ping/s3cret-uuid"\n' if number == 0 else "")
        for number in range(20)
    )
    return (
        f'listen = ""\nping = "{world.url}/ping/daemon"\n'
        f'[alerts]\ngroup_wait = "1s"\ngroup_interval = "1s"\n'
        f'[defaults]\ninterval = "200ms"\ndeadline = "5s"\nretries = 0\n'
        f'[notifiers.chat]\nkind = "webhook"\nurl = "{world.url}/chat/s3cret-path"\n{jobs}'
    )


def test_an_outage_is_told_once_over_a_restart_and_so_is_its_end(tmp_path: Path, world: World) -> None:
    """The daemon is killed and started in between, which is told; of twenty jobs there are two messages.

    The logs show no secret.
    """
    told = config(world)
    with Daemon(tmp_path, told) as first:
        first.wait_for("run_finished", 20, outcome="succeeded")
        world.well = False
        first.wait_for("alert_sent")
        # What is told at the very instant of a kill is told again, with the same id.
        first.wait_for("run_finished", len(first.lines("run_finished")) + 20)
        first.process.kill()
        first.wait()
        lines = first.raw
    with Daemon(tmp_path, told) as second:
        second.wait_for("alert_sent")
        second.wait_for("run_finished", 60, outcome="fetch_failed")
        world.well = True
        second.wait_for("alert_sent", 2)
        assert second.stop() == 0
        lines += second.raw
    down, up = (message for message in world.messages if message["jobs"])
    (killed,) = (part for message in world.messages for part in message["daemon"])
    assert killed["kind"] == "killed"
    assert down["title"].endswith("20 jobs are failing: http_5xx (20)")
    assert up["title"].endswith("20 jobs do well again")
    assert (down["state"], up["state"]) == ("problem", "recovered")
    assert {"/ping/s3cret-uuid", "/ping/s3cret-uuid/start", "/ping/s3cret-uuid/fail", "/ping/daemon"} <= {*world.pings}
    assert "/ping/daemon/fail" not in world.pings
    assert "s3cret" not in "".join(lines)
