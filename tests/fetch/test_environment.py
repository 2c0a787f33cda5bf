"""Only the configuration counts: what other clients obey in the environment changes nothing here."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.fetch.child import run
from tests.upstream import UpstreamProcess

NOWHERE = "http://127.0.0.1:1"


@pytest.mark.parametrize(
    "environment",
    [
        dict.fromkeys(("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY"), NOWHERE),
        {"ALL_PROXY": "socks5://127.0.0.1:1", "HTTP_PROXY": "nonsense", "HTTPS_PROXY": "ftp://x", "NO_PROXY": "]["},
        {"SSL_CERT_FILE": "/nowhere/ca.pem", "SSL_CERT_DIR": "/nowhere", "REQUESTS_CA_BUNDLE": "/nowhere/ca.pem"},
        {"LC_ALL": "C", "PYTHONUTF8": "0", "TZ": "Nowhere/Nowhere", "AIOHTTP_NO_EXTENSIONS": "1"},
    ],
    ids=["proxies", "nonsense", "certificates", "locale"],
)
def test_nothing_changes(environment: dict[str, str], upstream: UpstreamProcess) -> None:
    """A proxy left over in a shell must not see a daemon's tokens; a missing file must not stop it."""
    jobs = [{"url": url} for url in (upstream.url("echo"), upstream.tls_url("echo"), upstream.url("gzipok"))]
    ends = run(jobs, environment, ca_file=str(upstream.ca_file))
    assert [end["why"] for end in ends] == ["ok"] * 3, ends


def test_netrc(upstream: UpstreamProcess, tmp_path: Path) -> None:
    """Nobody expects a daemon to send a password that it was never given."""
    (tmp_path / ".netrc").write_text("default login canary password canary\n")
    (tmp_path / ".netrc").chmod(0o600)
    environment = {"HOME": str(tmp_path), "NETRC": str(tmp_path / ".netrc")}
    gets = {"collect": "tests.fetch.child:get_all", "gets": [upstream.url("echo")]}
    [end, _] = run([{"url": upstream.url("echo")}, gets], environment)
    assert "authorization" not in dict(json.loads(end["content"])["headers"])
