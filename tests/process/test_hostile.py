"""The daemon among upstreams that misbehave in every known way: each Run ends, and nobody else notices."""

from __future__ import annotations

import http.client
import time
from datetime import datetime
from pathlib import Path

import pytest

from tests.process.daemon import Daemon, Line
from tests.upstream import UpstreamProcess

DEADLINE = 1.2

MODES: dict[str, tuple[str, str]] = {
    "hang": ("fetch_failed", "timeout_read"),
    "hangbody": ("fetch_failed", "timeout_read"),
    "drip/0.1": ("deadline_exceeded", "timeout_read"),
    "driphdr/0.1": ("fetch_failed", "timeout_read"),
    "1xx/0.1": ("fetch_failed", "timeout_read"),
    "1xx/0": ("fetch_failed", "protocol"),
    "infchunk": ("fetch_failed", "too_large"),
    "hdrbomb/20": ("fetch_failed", "protocol"),
    "redir": ("fetch_failed", "too_many_redirects"),
    "slowredir/0.3": ("deadline_exceeded", "timeout_read"),
    "redirbig/300": ("succeeded", ""),
    "redirdrip/0.1": ("succeeded", ""),
    "bomb/gzip/1000": ("fetch_failed", "too_large"),
    "bomb/deflate/100": ("fetch_failed", "too_large"),
    "bomb/zstd/100": ("fetch_failed", "decode"),
    "bomb/gzip+gzip/100": ("fetch_failed", "decode"),
    "big/300": ("fetch_failed", "too_large"),
    "short": ("fetch_failed", "protocol"),
    "twocl": ("fetch_failed", "protocol"),
    "hugecl": ("fetch_failed", "too_large"),
    "rst": ("fetch_failed", "protocol"),
    "close": ("fetch_failed", "protocol"),
    "truncgzip": ("fetch_failed", "decode"),
    "badgzip": ("fetch_failed", "decode"),
    "status/404": ("fetch_failed", "http_4xx"),
    "status/503": ("fetch_failed", "http_5xx"),
    "retryafter/0/429": ("fetch_failed", "http_429"),
    "cookie": ("succeeded", ""),
    "charset/punycode": ("succeeded", ""),
    "extra": ("succeeded", ""),
}
"""What each mode of the upstream comes to: outcome and reason."""

PORTS: dict[str, tuple[str, str]] = {
    "https://127.0.0.1:{silent}/": ("fetch_failed", "timeout_connect"),
    "http://127.0.0.1:{syn_hang}/": ("fetch_failed", "timeout_connect"),
    "http://127.0.0.1:1/": ("fetch_failed", "connect"),
    "https://127.0.0.1:{tls_unknown}/ok": ("fetch_failed", "tls"),
    "https://127.0.0.1:{http}/ok": ("fetch_failed", "timeout_connect"),
    "http://n.missing.test/": ("fetch_failed", "dns"),
    "http://n.broken.test/": ("fetch_failed", "dns"),
    "http://n.hung.test/": ("fetch_failed", "dns"),
}
"""The same for what is wrong below HTTP."""


pytestmark = [pytest.mark.timeout(60), pytest.mark.alone]


def hostile_config(upstream: UpstreamProcess, interval: str = "1400ms") -> tuple[str, dict[str, tuple[str, str]]]:
    """Return a configuration with a job for each misbehaviour and one in good health, and what each comes to."""
    urls = {upstream.url(mode): ending for mode, ending in MODES.items()}
    urls |= {url.format(**upstream.ports): ending for url, ending in PORTS.items()}
    expected = {f"hostile-{number}-{_word(url)}": ending for number, (url, ending) in enumerate(urls.items())}
    jobs = "\n".join(f'[jobs.{name}]\nurl = "{url}"' for name, url in zip(expected, urls, strict=True))
    config = f"""
    [dns]
    nameservers = ["127.0.0.1:{upstream.ports["dns"]}"]
    timeout = "10s"
    [defaults]
    interval = "{interval}"
    deadline = "{DEADLINE * 1000:.0f}ms"
    timeout = "600ms"
    retries = 0
    max_body = "1MiB"
    on_unchanged = "deliver"
    [jobs.healthy]
    url = "{upstream.url("ok")}"
    interval = "400ms"
    deadline = "400ms"
    [jobs.held]
    url = "http://held.good.test:{upstream.ports["http"]}/retryafter/86400/429"
    {jobs}
    """
    return config, expected


def _word(url: str) -> str:
    return "".join(letter if letter.isalnum() else "-" for letter in url.partition("//")[2].partition(":")[2])


def slots_kept(lines: list[Line], interval: float) -> float:
    """Return which part of its slots the healthy job kept, from its lines."""
    first, last = (line["slot"] for line in (lines[0], lines[-1]))
    span = (datetime.fromisoformat(last) - datetime.fromisoformat(first)).total_seconds()
    return (len(lines) - 1) / round(span / interval)


def test_every_misbehaviour_ends_with_its_reason(tmp_path: Path, upstream: UpstreamProcess) -> None:
    """All at once, several times over: each has its outcome, reason and time, and the healthy job keeps its slots."""
    for mode in MODES:
        if mode.startswith("bomb"):
            _ask(upstream, mode)  # bombs are built at the first request, which takes its time
    config, expected = hostile_config(upstream)
    with Daemon(tmp_path, config) as daemon:
        daemon.wait_for("run_finished", job="healthy")
        base_threads = daemon.status("Threads")
        base_rss = daemon.status("VmRSS")
        for name in expected:
            daemon.wait_for("run_finished", 3, job=name)
        peak = daemon.status("VmHWM") - base_rss
        endings = {
            name: {(line["outcome"], line["reason"] or "") for line in daemon.lines("run_finished", job=name)}
            for name in expected
        }
        slowest = max(line["duration_s"] for line in daemon.lines("run_finished"))
        healthy = daemon.lines("run_finished", job="healthy")
        held = [line["reason"] for line in daemon.lines("run_finished", job="held")]
        threads = daemon.status("Threads")
        assert daemon.stop() == 0
    assert held == ["http_429"]
    assert endings == {name: {ending} for name, ending in expected.items()}
    assert slowest <= DEADLINE + 0.5
    late = sorted(line["lateness_s"] for line in healthy)
    assert late[len(late) * 99 // 100] < 0.1
    assert slots_kept(healthy, 0.4) > 0.95
    assert peak < (1 + 16) * 1024
    assert threads <= base_threads + 1
    assert not daemon.lines("internal_error")
    assert not daemon.lines("not_json")
    assert not list((daemon.state / "spool").iterdir())


def test_two_hundred_hung_connections_and_dead_names(tmp_path: Path, upstream: UpstreamProcess) -> None:
    """The healthy job keeps its rate and its lateness, and all sockets are given back."""
    hung = "\n".join(f'[jobs.hung-{n}]\nurl = "{upstream.url("hang")}"' for n in range(200))
    names = "\n".join(f'[jobs.name-{n}]\nurl = "http://n{n}.hung.test/"' for n in range(20))
    config = f"""
    [dns]
    nameservers = ["127.0.0.1:{upstream.ports["dns"]}"]
    timeout = "30s"
    [defaults]
    interval = "2s"
    deadline = "1900ms"
    timeout = "1900ms"
    retries = 0
    [jobs.healthy]
    url = "http://x.good.test:{upstream.ports["http"]}/ok"
    interval = "150ms"
    deadline = "150ms"
    {hung}
    {names}
    """
    with Daemon(tmp_path, config) as daemon:
        daemon.wait_for("run_finished", 40, job="healthy")
        assert upstream.stats()["active"]["hang"] > 150
        daemon.wait_until(lambda: len(daemon.lines("run_finished", reason="timeout_read")) >= 200)
        healthy = daemon.lines("run_finished", job="healthy")
        began = time.monotonic()
        assert daemon.stop() == 0
        assert time.monotonic() - began < 4
    assert {line["outcome"] for line in healthy} == {"succeeded"}
    assert slots_kept(healthy, 0.15) > 0.98
    late = sorted(line["lateness_s"] for line in healthy)
    assert late[len(late) * 98 // 100] < 0.1


def test_memory_descriptors_and_threads_stay_flat(tmp_path: Path, upstream: UpstreamProcess) -> None:
    """Many hundred hostile Runs after a warm-up: nothing grows."""
    for mode in MODES:
        if mode.startswith("bomb"):
            _ask(upstream, mode)
    quick = [mode for mode, (_, reason) in MODES.items() if reason not in {"timeout_read", "too_many_redirects"}]
    jobs = "\n".join(f'[jobs."j{n}"]\nurl = "{upstream.url(mode)}"' for n, mode in enumerate(quick))
    config = f"""
    [log]
    level = "info"
    [defaults]
    interval = "120ms"
    deadline = "100ms"
    timeout = "100ms"
    retries = 0
    max_body = "256KiB"
    {jobs}
    """
    with Daemon(tmp_path, config) as daemon:
        daemon.wait_for("run_finished", 500, patience=30)
        rss, descriptors, threads = daemon.status("VmRSS"), daemon.descriptors(), daemon.status("Threads")
        daemon.wait_for("run_finished", 1200, patience=30)
        assert daemon.status("VmRSS") - rss < 2048
        # Each job may have a connection open at either instant; what leaks would be hundreds by now.
        assert daemon.descriptors() - descriptors <= len(quick)
        assert daemon.status("Threads") <= threads + 1
        assert daemon.stop() == 0


def _ask(upstream: UpstreamProcess, mode: str) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", upstream.ports["http"], timeout=20)
    connection.request("GET", f"/{mode}")
    connection.getresponse()
    connection.close()
