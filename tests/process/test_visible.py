"""Never silent: what is wrong with a job or a configuration is seen in the log, the metrics, the page and a message."""

from __future__ import annotations

import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.process.outside import HANG, Outside, Reply, Watched, watched
from tests.upstream_dns import answer

pytestmark = pytest.mark.timeout(60)

CODE = """
import asyncio


async def stubborn(context):
    while True:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            pass
"""


class NameServer(threading.Thread):
    """A name server that does not answer until it is ``well``."""

    def __init__(self) -> None:
        super().__init__()
        self.well = False
        self._socket = socket.socket(type=socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]

    def run(self) -> None:
        """Answer until an empty datagram comes."""
        while received := self._socket.recvfrom(4096):
            query, client = received
            if not query:
                return
            if self.well and (response := answer(query)):
                self._socket.sendto(response, client)

    @contextmanager
    def opened(self) -> Iterator[NameServer]:
        """Run."""
        self.start()
        try:
            yield self
        finally:
            with socket.socket(type=socket.SOCK_DGRAM) as ending:
                ending.sendto(b"", ("127.0.0.1", self.port))
            self.join()
            self._socket.close()


@pytest.fixture(scope="module")
def names() -> Iterator[NameServer]:
    """Give a name server that is dead."""
    with NameServer().opened() as server:
        yield server


@pytest.fixture(scope="module")
def closed() -> Iterator[Outside]:
    """Give an upstream that refuses connections."""
    with Outside() as server:
        yield server


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory, closed: Outside, names: NameServer) -> Iterator[Watched]:
    """Give a daemon whose jobs are all in trouble, each in its own: they have nothing to do with one another."""
    folder = tmp_path_factory.mktemp("fetchd")
    (folder / "shop.py").write_text(CODE)
    with Outside() as outside, outside.opened():
        url = outside.url
        for path in ("/hung", "/silent"):
            outside.answer(path, HANG)
        outside.answer("/hook", Reply(500))
        jobs = f"""
        [jobs.well]
        url = "{url}/well"
        [jobs.refused]
        url = "{closed.url}/"
        [jobs.hung]
        url = "{url}/hung"
        ping = "{url}/ping/hung"
        [jobs.unsunk]
        url = "{url}/well"
        sinks = [{{ kind = "command", argv = ["sh", "-c", "test -e mended || {{ echo no room >&2; exit 1; }}"] }}]
        [jobs.buried]
        url = "{url}/well"
        interval = "2s"
        deadline = "1900ms"  # one that is cut off before its first try waits for its sink to back off
        sinks = [{{ kind = "webhook", url = "{url}/hook", max_attempts = 1 }}]
        [jobs.name-a]
        url = "http://a.good.test:{outside.port}/well"
        [jobs.name-b]
        url = "http://b.good.test:{outside.port}/well"
        [jobs.silent]
        url = "{url}/silent"
        overdue_after = "1s"
        alerts = {{ after = 0 }}
        [jobs.stuck]
        collect = "shop:stubborn"
        [dns]
        nameservers = ["127.0.0.1:{names.port}"]
        timeout = "100ms"
        attempts = 1
        """
        with watched(folder, outside, jobs) as running:
            running.daemon.wait_for("run_finished", job="well", outcome="succeeded")
            yield running


@pytest.mark.parametrize(("job", "reason"), [("refused", "connect"), ("hung", "timeout_read")])
def test_an_upstream_that_is_down(seen: Watched, closed: Outside, job: str, reason: str) -> None:
    """Whether it refuses or hangs, the reason is the same word everywhere; so is its recovery."""
    seen.daemon.wait_for("job_failing", job=job, reason=reason)
    seen.measures("fetchd_runs_total", lambda count: count >= 3, job=job, outcome="fetch_failed", reason=reason)
    seen.measures("fetchd_job_consecutive_failures", lambda count: count >= 3, job=job)
    seen.shows(f"/jobs/{job}", "failing", reason, "Failures in a row")
    seen.shows("/", "are failing", f'href="/jobs/{job}"')
    seen.outside.told(job=job, kind="failing", change="new", reason=reason)
    if job == "hung":
        seen.outside.pinged("hung/fail")
        before = len(seen.outside.pings)
        seen.outside.answer("/hung", Reply())
        _is_well(seen, job)
        seen.outside.pinged("hung", since=before)
    else:
        with closed.opened():
            _is_well(seen, job)


def test_a_sink_that_takes_nothing(seen: Watched) -> None:
    """What the command said is there to be read, and that deliveries are owed; once mended, all of them arrive."""
    seen.daemon.wait_for("delivery_failed", job="unsunk", sink="command")
    seen.daemon.wait_for("job_failing", job="unsunk", reason="sink")
    seen.measures("fetchd_deliveries_pending", lambda count: count >= 3, job="unsunk", sink="command")
    seen.measures("fetchd_deliveries_total", lambda count: count >= 1, job="unsunk", result="failed")
    seen.shows("/jobs/unsunk", "The delivery failed", "no room", "Next try")
    seen.shows("/", "Owed")
    seen.outside.told(job="unsunk", kind="failing", reason="sink")
    (seen.daemon.state / "out" / "mended").touch()
    seen.daemon.wait_for("delivery_recovered", job="unsunk")
    _is_well(seen, "unsunk")
    seen.measures("fetchd_deliveries_pending", lambda count: count == 0, job="unsunk")


def test_a_delivery_that_is_given_up(seen: Watched) -> None:
    """It waits for somebody's decision, so it stays to be seen when the sink does well again."""
    seen.daemon.wait_for("delivery_dead", job="buried", why="max_attempts")
    seen.measures("fetchd_dead_letters", lambda count: count >= 1, job="buried")
    seen.measures("fetchd_deliveries_total", lambda count: count >= 1, job="buried", sink="webhook", result="dead")
    told = seen.outside.told(job="buried", kind="dead_letters", sink="webhook", change="once")
    assert "answered 500" in told["message"]
    seen.outside.told(job="buried", kind="failing", reason="sink")
    seen.shows("/jobs/buried", "Dead letters", "answered 500", "fetchd dead replay")
    seen.outside.answer("/hook", Reply(204))
    _is_well(seen, "buried")
    assert seen.metric("fetchd_dead_letters", job="buried") >= 1
    seen.shows("/jobs/buried", "Dead letters")


def test_a_name_server_that_is_dead(seen: Watched, names: NameServer) -> None:
    """Each job tells its reason; people get one message, of a machine that seems to be offline."""
    for job in ("name-a", "name-b"):
        seen.daemon.wait_for("run_finished", 3, job=job, reason="dns")
        seen.measures("fetchd_runs_total", lambda count: count >= 3, job=job, reason="dns")
        seen.shows(f"/jobs/{job}", "the host's name could not be resolved")
    told = seen.outside.told(kind="offline", change="new")
    assert "2 jobs cannot reach their 2 hosts: dns (2)" in told["message"]
    seen.daemon.wait_for("daemon_in_trouble", trouble="offline")
    names.well = True
    seen.daemon.wait_for("daemon_recovered", was="offline")
    seen.outside.told(kind="offline", change="over")
    for job in ("name-a", "name-b"):
        seen.measures("fetchd_job_consecutive_failures", lambda count: count == 0, job=job)
        seen.shows(f"/jobs/{job}", '<span class="state well">')


def test_a_job_that_is_silent_for_too_long(seen: Watched) -> None:
    """Even where nobody wants to be told of its failures."""
    seen.daemon.wait_for("job_overdue", job="silent")
    seen.measures("fetchd_job_overdue", lambda value: value == 1, job="silent")
    seen.shows("/jobs/silent", "Overdue since")
    seen.shows("/", "is overdue")
    seen.outside.told(job="silent", kind="overdue", change="new")
    seen.outside.answer("/silent", Reply())
    _is_well(seen, "silent", was="overdue")
    seen.measures("fetchd_job_overdue", lambda value: value == 0, job="silent")


def test_a_run_that_is_stuck(seen: Watched) -> None:
    """Only a new process ends it: whoever asks whether the daemon is well is told that it is not."""
    seen.daemon.wait_for("run_stuck", job="stuck")
    seen.daemon.wait_for("slot_skipped", job="stuck", reason="stuck")
    seen.measures("fetchd_runs_stuck", lambda value: value == 1)
    seen.measures("fetchd_runs_total", lambda count: count == 1, job="stuck", reason="stuck")
    seen.measures("fetchd_slots_skipped_total", lambda count: count >= 1, job="stuck", reason="stuck")
    seen.answers("/readyz", 503, "to be ended only with the process: stuck")
    seen.shows("/", "Not ready:", "to be ended only with the process: stuck")
    seen.shows("/jobs/stuck", "It ran out of time", "ignores cancellation")
    assert "stuck" in seen.outside.told(kind="stuck", change="new")["message"]
    seen.outside.pinged("daemon/fail")


def test_a_configuration_that_is_refused(seen: Watched) -> None:
    """The old one goes on, and everybody can see that it is the old one, and why; also that it was mended."""
    good = seen.daemon.config.read_text()
    seen.daemon.config.write_text(good.replace("retries", "retriez"))
    seen.daemon.signal(signal.SIGHUP)
    (line,) = seen.daemon.wait_for("config_rejected")
    assert 'did you mean "retries"?' in str(line["findings"])
    seen.measures("fetchd_config_last_reload_successful", lambda value: value == 0)
    seen.shows("/", "The last configuration was rejected", 'did you mean "retries"?')
    assert 'did you mean "retries"?' in seen.outside.told(kind="config", change="new")["message"]
    seen.daemon.config.write_text(good)
    seen.daemon.signal(signal.SIGHUP)
    seen.daemon.wait_for("config_reloaded")
    seen.measures("fetchd_config_last_reload_successful", lambda value: value == 1)
    seen.shows("/", "was rejected", gone=True)
    seen.outside.told(kind="config", change="over")


def _is_well(seen: Watched, job: str, *, was: str = "failing") -> None:
    """Return once it is seen everywhere that ``job`` does well again."""
    seen.outside.told(job=job, kind=was, change="over")
    seen.daemon.wait_for("job_recovered", job=job, was=was)
    seen.measures("fetchd_job_consecutive_failures", lambda count: count == 0, job=job)
    seen.shows(f"/jobs/{job}", '<span class="state well">')
