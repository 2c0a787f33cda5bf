"""The daemon killed at any instant: what the store has kept reaches every sink, and the exact ones once."""

from __future__ import annotations

import hashlib
import http.server
import json
import os
import random
import signal
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from fetchd.store import letters
from tests.process.daemon import Daemon
from tests.upstream import UpstreamProcess

KILLS = int(os.environ.get("FETCHD_KILLS", "6"))
"""How often the daemon is killed; ``make test-crash`` sets more."""

pytestmark = pytest.mark.timeout(60 + 3 * KILLS)


class Receiver:
    """A webhook's receiver that keeps the ids of what it took."""

    def __init__(self) -> None:
        self.taken: Counter[str] = Counter()
        taken = self.taken

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["Content-Length"]))
                taken[self.headers["Idempotency-Key"]] += 1
                self.send_response(204)
                self.end_headers()

            def log_message(self, *_arguments: object) -> None:
                """Say nothing."""

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """A webhook's receiver."""
    receiver = Receiver()
    yield receiver
    receiver.close()


def config_of(folder: Path, upstream: UpstreamProcess, receiver: Receiver) -> str:
    """Return a job whose upstream changes with each request, with a sink of each kind."""
    (folder / "keep.py").write_text(
        "from pathlib import Path\n\n\nasync def keep(result):\n"
        f"    with Path({str(folder / 'kept')!r}).open('a') as file:\n        file.write(result.delivery + '\\n')\n"
    )
    return f"""
    python_path = ["."]
    [jobs.fast]
    url = "{upstream.url("ok")}"
    interval = "40ms"
    deadline = "40ms"
    sinks = [
      {{ kind = "file", path = "fast.jsonl", mode = "append" }},
      {{ kind = "sqlite", path = "fast.db" }},
      {{ kind = "function", call = "keep:keep" }},
      {{ kind = "webhook", url = "{receiver.url}" }},
      {{ kind = "command", argv = ["sh", "-c", "echo $FETCHD_DELIVERY >> {folder}/commanded"], deadline = "5s" }},
    ]
    """


def runs_in_store(state_dir: Path) -> set[str]:
    """Return the runs whose result the store holds."""
    path = state_dir / "state.db"
    if not path.exists():
        return set()
    connection = sqlite3.connect(path)
    try:
        return {run for (run,) in connection.execute("SELECT run FROM results")}
    except sqlite3.OperationalError:
        return set()  # killed before the schema was there
    finally:
        connection.close()


def lines_of(path: Path) -> list[str]:
    """Return the lines that a sink has written."""
    return path.read_text().splitlines() if path.exists() else []


def test_killed_at_random_instants(tmp_path: Path, upstream: UpstreamProcess, receiver: Receiver) -> None:
    """Committed results are never missing, exact sinks hold each once, validators are never ahead of deliveries."""
    config = config_of(tmp_path, upstream, receiver)
    dice = random.Random(20260301)
    committed: set[str] = set()
    for number in range(KILLS):
        daemon = Daemon(tmp_path, config)
        with daemon if number % 4 else _Unready(daemon):
            time.sleep(dice.uniform(0.0, 0.5))  # the instant is the point
            daemon.signal(signal.SIGKILL)
            daemon.wait()
        committed |= runs_in_store(daemon.state)
        committed |= {line["run"] for line in daemon.lines("run_finished", outcome="succeeded")}
    # No new results: what is owed must come to nothing.
    with Daemon(tmp_path, config.replace('interval = "40ms"', 'interval = "1h"')) as daemon:
        daemon.wait_until(lambda: letters.memory(daemon.state, "fast").owed == 0)
        assert daemon.stop() == 0
    memory = letters.memory(daemon.state, "fast")
    assert (memory.owed, memory.dead) == (0, 0)

    out = daemon.state / "out"
    appended = [json.loads(line) for line in lines_of(out / "fast.jsonl")]
    with closing(sqlite3.connect(out / "fast.db")) as table:
        rows = table.execute("SELECT run, body FROM fetchd").fetchall()
    reached = {
        "file": [line["run"] for line in appended],
        "sqlite": [run for run, _ in rows],
        "function": [line.removesuffix("-function") for line in lines_of(tmp_path / "kept")],
        "webhook": [key.removesuffix("-webhook") for key in receiver.taken],
        "command": [line.removesuffix("-command") for line in lines_of(tmp_path / "commanded")],
    }
    assert len(committed) > KILLS
    for sink, runs in reached.items():
        assert not committed - set(runs), sink
    for sink in ("file", "sqlite"):
        assert len(reached[sink]) == len(set(reached[sink])), sink
    assert memory.sha256 in {hashlib.sha256(body.encode()).hexdigest() for _, body in rows}


class _Unready:
    """Enter a daemon without waiting until it is ready."""

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon

    def __enter__(self) -> Daemon:
        self._daemon.start()
        return self._daemon

    def __exit__(self, *error: object) -> None:
        self._daemon.__exit__(None, None, None)
