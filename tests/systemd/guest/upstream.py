"""The upstream in here: each answer has the next number of its job."""

from __future__ import annotations

import json
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Final
from urllib.parse import parse_qs, urlsplit

PORT: Final = 8070


class Upstream:
    """``/n/JOB`` answers at once, ``/slow/JOB?s=2`` later, ``/hang/JOB`` never."""

    def __init__(self) -> None:
        self.asked: Counter[str] = Counter()
        self.answered: Counter[str] = Counter()
        self.authorization: dict[str, str] = {}
        self._end = threading.Event()
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("", PORT), self._handler())  # the network is the container's own
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def under_way(self, job: str) -> bool:
        """Return whether a request of ``job`` waits for its answer."""
        with self._lock:
            return self.asked[job] > self.answered[job]

    def answer(self, path: str, authorization: str) -> bytes:
        """Return the body for a request, when it is time."""
        parts = urlsplit(path)
        kind, job = parts.path.strip("/").split("/")
        with self._lock:
            self.asked[job] += 1
            number = self.asked[job]
            self.authorization[job] = authorization
        if kind != "n":
            self._end.wait(float(parse_qs(parts.query).get("s", ["600"])[0]))
        return json.dumps({"n": number}).encode()

    def sent(self, path: str) -> None:
        """Count an answer that has gone out."""
        with self._lock:
            self.answered[urlsplit(path).path.strip("/").split("/")[1]] += 1

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        upstream = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                body = upstream.answer(self.path, self.headers.get("Authorization", ""))
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)
                upstream.sent(self.path)

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        return Handler
