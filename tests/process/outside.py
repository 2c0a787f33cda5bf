"""All that a daemon speaks with, on one socket server, and the sides from which people look at the daemon."""

from __future__ import annotations

import html
import http.client
import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final, TypeVar

from prometheus_client.parser import text_string_to_metric_families as parse_text

from tests.process.daemon import Daemon

WITHIN: Final = 12.0
"""Seconds within which trouble is to be seen on every side.

With the intervals used here three failures take one, a sink's second try two, a tick and a message one each; the rest
is left to a busy machine.
"""
HEAD: Final = """
listen = "127.0.0.1:0"
python_path = ["."]
ping = "{outside}/ping/daemon"
ping_every = "1s"
{daemon}
[alerts]
group_wait = "100ms"
group_interval = "100ms"
down_after = "1s"
[notifiers.chat]
kind = "webhook"
url = "{outside}/chat"
[defaults]
interval = "250ms"
deadline = "240ms"
timeout = "150ms"
retries = 0
overdue_after = "1h"
on_unchanged = "deliver"
"""

T = TypeVar("T")


@dataclass(frozen=True)
class Reply:
    """How a path is answered; one that ``hangs`` is not, until it is given another answer."""

    status: int = 200
    body: bytes = b"well"
    headers: tuple[tuple[str, str], ...] = ()
    hangs: bool = False


HANG: Final = Reply(hangs=True)


class Outside(ThreadingHTTPServer):
    """Upstreams and sinks, which do as `answers` says; the chat tool; the receiver of pings."""

    request_queue_size = 128

    def __init__(self) -> None:
        """Hold an address: nobody is there before it is ``opened``."""
        super().__init__(("127.0.0.1", 0), _Handler, bind_and_activate=False)
        self.server_bind()
        self.port = self.socket.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.messages: list[dict[str, Any]] = []
        self.pings: list[str] = []
        self.fails: list[bytes] = []
        self.bodies: list[bytes] = []
        self.changed = threading.Condition()
        self._answers: dict[str, Reply] = {}

    @contextmanager
    def opened(self) -> Iterator[Outside]:
        """Listen."""
        self.server_activate()
        thread = threading.Thread(target=self.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield self
        finally:
            with self.changed:
                self._answers.clear()
                self.changed.notify_all()
            self.shutdown()
            thread.join()

    def answer(self, path: str, reply: Reply) -> None:
        """Answer ``path`` so from now on, also those who wait for it."""
        with self.changed:
            self._answers[path] = reply
            self.changed.notify_all()

    def reply(self, path: str) -> Reply:
        """Return the answer to ``path``, once there is one."""
        with self.changed:
            self.changed.wait_for(lambda: not self._answers.get(path, Reply()).hangs)
            return self._answers.get(path, Reply())

    def take(self, path: str, body: bytes) -> None:
        """Note what was sent."""
        with self.changed:
            if path.startswith("/ping"):
                self.pings.append(path)
                self.fails += [body] if path.endswith("/fail") else []
            elif path.startswith("/chat"):
                self.messages.append(json.loads(body))
            self.bodies.append(body)
            self.changed.notify_all()

    def until(self, found: Callable[[], T | None], what: str) -> T:
        """Return what is ``found`` once it is; it is asked after each request."""
        end = time.monotonic() + WITHIN
        with self.changed:
            while not (value := found()):
                assert self.changed.wait(end - time.monotonic()), f"{what}: {self.titles}, {self.pings[-9:]}"
        return value

    @property
    def titles(self) -> list[str]:
        """Return what people were told."""
        return [message["title"].partition(": ")[2] for message in self.messages]

    def told(self, *, since: int = 0, **fields: str) -> Mapping[str, Any]:
        """Return the part of a message that has these fields, once people were told; of a job, or of the daemon."""

        def part() -> Mapping[str, Any] | None:
            parts = [part for message in self.messages[since:] for part in (*message["jobs"], *message["daemon"])]
            return next((part for part in parts if fields.items() <= part.items()), None)

        return self.until(part, f"nobody was told of {fields}")

    def pinged(self, path: str, *, since: int = 0) -> None:
        """Return once somebody has pinged ``path``."""
        self.until(lambda: f"/ping/{path}" in self.pings[since:], f"nobody has pinged {path}")


class _Handler(BaseHTTPRequestHandler):
    server: Outside

    def do_GET(self) -> None:
        """Be an upstream, or take a ping."""
        path = self.path.partition("?")[0]
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.take(path, body)
        reply = self.server.reply(path)
        try:
            self.send_response_only(reply.status)
            for name, value in (*reply.headers, ("Content-Length", str(len(reply.body)))):
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(reply.body)
        except OSError:
            """It did not wait for the answer."""

    do_POST = do_GET

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@dataclass
class Watched:
    """A daemon as people see it: its page and its metrics beside its log."""

    daemon: Daemon
    outside: Outside

    def get(self, path: str) -> tuple[int, Mapping[str, str], str]:
        """Return status, headers and body."""
        address = self.daemon.wait_for("page_served")[0]["address"]
        connection = http.client.HTTPConnection(address.split("/")[2], timeout=WITHIN)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            return response.status, dict(response.getheaders()), response.read().decode()
        finally:
            connection.close()

    def metric(self, name: str, **labels: str) -> float:
        """Return the sum of what is exposed under ``name`` with these labels."""
        return sum(
            sample.value
            for family in parse_text(self.get("/metrics")[2])
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )

    def measures(self, name: str, reached: Callable[[float], bool], **labels: str) -> None:
        """Return once the metric is as it should be."""
        until(lambda: reached(self.metric(name, **labels)), f"{name} {labels} is {self.metric(name, **labels)}")

    def shows(self, path: str, *words: str, gone: bool = False) -> None:
        """Return once the page holds ``words``, or none of them if they shall be ``gone``."""

        def shown() -> bool:
            page = html.unescape(self.get(path)[2])
            return not any(word in page for word in words) if gone else all(word in page for word in words)

        until(shown, f"{path} does not say {words}" if not gone else f"{path} says one of {words}")

    def answers(self, path: str, status: int, *words: str) -> None:
        """Return once ``path`` is answered so."""
        until(lambda: self._is(path, status, words), f"{path} is not {status} {words}: {self.get(path)[2]}")

    def _is(self, path: str, status: int, words: tuple[str, ...]) -> bool:
        given, _, body = self.get(path)
        return given == status and all(word in body for word in words)


def until(reached: Callable[[], object], what: str) -> None:
    """Wait for what there is nothing to be awaited of: a page shows what it is asked for."""
    end = time.monotonic() + WITHIN
    while not reached():
        assert time.monotonic() < end, what
        time.sleep(0.05)


@contextmanager
def watched(
    folder: Path, outside: Outside, jobs: str, *, daemon: str = "", environment: Mapping[str, str] | None = None
) -> Iterator[Watched]:
    """Run a daemon with ``jobs``, and with more keys of its own."""
    config = HEAD.format(outside=outside.url, daemon=daemon) + jobs
    with Daemon(folder, config, environment=environment) as running:
        yield Watched(running, outside)
