"""The real Prometheus, with the shipped example and rules, beside a real daemon: what is promised arrives there."""

from __future__ import annotations

import http.client
import json
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode

import pytest

from tests.monitoring.shipped import FOLDER, rules, targets
from tests.process.daemon import Daemon
from tests.test_metrics import CONTRACT
from tests.upstream import UpstreamProcess

PATIENCE: Final = 15.0
CANARY: Final = "canary-in-the-address"
ON_OCCASION: Final = {"fetchd_notifications_total", "fetchd_pings_total", "fetchd_slots_missed_total"}
"""What has no series before it happens."""
VARIABLES: Final = {"instance": ".*", "job": ".*", "window": "1h", "__rate_interval": "1m"}


class Prometheus:
    """A running one; asked over its API."""

    def __init__(self, address: str) -> None:
        self.address = address

    def get(self, path: str, **parameters: str) -> Any:
        """Return the data of its answer."""
        connection = http.client.HTTPConnection(self.address, timeout=PATIENCE)
        try:
            connection.request("GET", f"/api/v1/{path}?{urlencode(parameters)}")
            answer = json.load(connection.getresponse())
        finally:
            connection.close()
        assert answer["status"] == "success", answer
        return answer["data"]

    def query(self, expression: str) -> list[Any]:
        """Return what the expression is now."""
        result: list[Any] = self.get("query", query=expression)["result"]
        return result

    def until(self, reached: Callable[[], object], what: str) -> None:
        """Wait for what it does at its own pace; it has nothing to be awaited."""
        end = time.monotonic() + PATIENCE
        while not reached():
            assert time.monotonic() < end, what
            time.sleep(0.05)


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory, upstream: UpstreamProcess) -> Iterator[Prometheus]:
    """Start a Prometheus with what is shipped, and the daemon; return it once it has seen the daemon's jobs run.

    It takes five seconds to look at its first target, whatever its configuration says: the daemon starts meanwhile.
    """
    program = shutil.which("prometheus")
    if program is None:
        pytest.skip("needs the Debian package prometheus")
    with reserved() as page, scraping(program, page, tmp_path_factory.mktemp("prometheus")) as running:
        config = f"""
        listen = "{page}"
        [defaults]
        interval = "250ms"
        retries = 0
        [jobs.rates]
        url = "{upstream.url("ok")}?key={CANARY}"
        on_unchanged = "deliver"
        sinks = [{{ kind = "file", path = "rates" }}]
        [jobs.broken]
        url = "{upstream.url("rst")}?key={CANARY}"
        """
        with Daemon(tmp_path_factory.mktemp("fetchd"), config):
            running.until(lambda: running.query('up{job="fetchd"} == 1'), "the daemon was not scraped")
            ran = (
                'fetchd_runs_total{job="rates", outcome="succeeded"} > 0 and on () fetchd_runs_total{job="broken"} > 0'
            )
            running.until(lambda: running.query(ran), "the jobs were not seen to run")
            yield running


@contextmanager
def reserved() -> Iterator[str]:
    """Hold a port that only a server which asks for it can take: one that is bound, and not listened on."""
    with socket.socket() as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{holder.getsockname()[1]}"


@contextmanager
def scraping(program: str, page: str, folder: Path) -> Iterator[Prometheus]:
    """Run the example, hurried, in ``folder``."""
    shutil.copy(FOLDER / "alerts.yml", folder)
    example = (FOLDER / "prometheus.yml").read_text().replace("127.0.0.1:9475", page).replace("15s", "1s")
    (folder / "prometheus.yml").write_text(example)
    options = ["--config.file=prometheus.yml", "--storage.tsdb.path=data", "--web.listen-address=127.0.0.1:0"]
    with subprocess.Popen([program, *options], cwd=folder, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield Prometheus(address_of(process))
        finally:
            process.terminate()
            process.communicate(timeout=PATIENCE)


def address_of(process: subprocess.Popen[str]) -> str:
    """Return where it listens, once it also answers: those are two lines of its log."""
    assert process.stderr is not None
    address, said = "", ""
    for line in process.stderr:
        said += line
        if found := re.search(r'"Listening on" (?:.* )?address=(\S+)', line):
            address = found[1]
        if address and "Server is ready" in line:
            return address
    raise AssertionError(said)


def test_what_is_promised_arrives(prometheus: Prometheus) -> None:
    """Each name of the contract is there, and what has happened is counted under the job's own name."""
    names = set(prometheus.get("label/__name__/values"))
    assert set(CONTRACT) - ON_OCCASION <= names
    assert {"process_resident_memory_bytes", "process_open_fds"} <= names
    assert prometheus.query('fetchd_runs_total{job="rates", outcome="succeeded"} > 0')
    assert prometheus.query('fetchd_runs_total{job="broken", outcome="fetch_failed", reason!=""} > 0')
    assert prometheus.query('fetchd_deliveries_total{job="rates", sink="file", result="delivered"} > 0')
    assert prometheus.query('fetchd_response_bytes_total{job="rates"} > 0')
    assert prometheus.query('process_resident_memory_bytes{job="fetchd"} > 0')


def test_jobs_keep_their_names(prometheus: Prometheus) -> None:
    """Without honor_labels every alert would speak of one job called fetchd."""
    assert set(prometheus.get("label/job/values")) == {"fetchd", "rates", "broken"}
    assert "exported_job" not in prometheus.get("labels")


def test_addresses_stay_at_home(prometheus: Prometheus) -> None:
    """What is scraped is kept for weeks, by others: no address with what it holds may be among it."""
    assert CANARY not in json.dumps(prometheus.get("series", **{"match[]": '{__name__=~".+"}'}))


def test_the_rules_are_at_work(prometheus: Prometheus) -> None:
    """They are evaluated without an error, and speak of the job that fails; of the daemon there is nothing to say."""

    def states() -> dict[str, Any]:
        return {rule["name"]: rule for group in prometheus.get("rules")["groups"] for rule in group["rules"]}

    prometheus.until(lambda: all(rule["health"] == "ok" for rule in states().values()), "a rule is not sound")
    assert set(states()) == {rule["alert"] for rule in rules()}
    failing = 'ALERTS{alertname="FetchdJobFailing", job="broken", alertstate="pending"}'
    prometheus.until(lambda: prometheus.query(failing), "nobody sees that a job fails")
    active = {name for name, rule in states().items() if rule["state"] != "inactive"}
    assert active <= {"FetchdJobFailing", "FetchdJobOverdue", "FetchdDeliveriesPending"}


def test_the_dashboard_asks_what_can_be_answered(prometheus: Prometheus) -> None:
    """A query that Prometheus refuses, or a legend of a label that is not there, is a broken panel."""
    answered = set()
    for title, target in targets():
        expression = target["expr"]
        for name, value in VARIABLES.items():
            expression = expression.replace(f"${name}", value)
        for series in prometheus.query(expression):
            answered.add(title)
            assert set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"])) <= set(series["metric"]), title
    assert {"Answers", "Jobs", "In flight", "Memory", "File descriptors", "Loop lag", "Versions"} <= answered
