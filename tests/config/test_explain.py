"""What explain shows: every value that counts, where it comes from, and no secret."""

from __future__ import annotations

from pathlib import Path

import pytest

from fetchd.config import explain
from fetchd.errors import ConfigError
from tests.config.files import ENVIRONMENT, write

HOOK = {"HOOKURL": "https://me:pw-canary@hooks.example.com:8443/services/path-canary?key=canary"}

TEXT = """\
[defaults]
deadline = "1m"
timeout = { connect = "2s", read = "20s" }
headers = { Accept = "text/csv", X-Team = "ops" }
[jobs.rates]
url = "https://h.example/v1?key=query-canary"
interval = "15s"
headers = { accept = "application/json", X-Key = { env = "TOKEN" } }
params = { page = "param-canary" }
auth = { kind = "bearer", token = { env = "TOKEN" } }
expect.status = [200, 204]
sinks = [
  { kind = "file", path = "a.json" },
  { kind = "webhook", url = "https://w/hook-canary", timeout = "3s" },
]
[jobs.sync]
collect = "tests.tasks:sync"
cron = "0 9 * * mon-fri"
timezone = "Europe/Prague"
[jobs.post]
url = "https://h.example/"
method = "POST"
json = { password = "json-canary" }
[jobs.form]
url = "https://me:pw-canary@h.example/"
method = "PUT"
form = { a = "form-canary" }
[jobs.hook]
url = { env = "HOOKURL" }
"""


def rows(folder: Path, job: str) -> dict[str, tuple[str, str]]:
    found = explain(write(folder, TEXT), job, environment=ENVIRONMENT | HOOK).rows
    assert len({row.key for row in found}) == len(found)
    return {row.key: (row.value, row.origin) for row in found}


def test_every_value_has_its_origin(tmp_path: Path) -> None:
    """Why does it wait so long? The answer is a line of the file."""
    assert rows(tmp_path, "rates") == {
        "url": ('"https://h.example/v1?[redacted]"', "config.toml:6"),
        "method": ('"GET"', "built-in"),
        "params.page": ("[redacted]", "config.toml:9"),
        "auth.kind": ('"bearer"', "config.toml:10"),
        "auth.token": ("[redacted: env TOKEN]", "config.toml:10"),
        "expect.status": ("[200, 204]", "config.toml:11"),
        "interval": ('"15s"', "config.toml:7"),
        "deadline": ('"14s250ms"', "shrunk to fit the interval"),
        "timeout.connect": ('"2s"', "config.toml:3 [defaults]"),
        "timeout.read": ('"14s250ms"', "shrunk to the deadline"),
        "timeout.write": ('"10s"', "built-in"),
        "timeout.pool": ('"10s"', "built-in"),
        "max_body": ('"10MiB"', "built-in"),
        "retries": ("2", "built-in"),
        "redirects": ("5", "built-in"),
        "allow_insecure_redirects": ("false", "built-in"),
        "on_unchanged": ('"skip"', "built-in"),
        "backlog": ("1000", "built-in"),
        "backlog_size": ('"100MiB"', "built-in"),
        "catch_up": ("false", "built-in"),
        "retry.on": ("[]", "built-in"),
        "retry.first": ('"500ms"', "built-in"),
        "retry.longest": ('"10s"', "built-in"),
        "retry.unsafe": ("false", "built-in"),
        "retry.longest_retry_after": ('"1h"', "built-in"),
        "backoff.after": ("0", "built-in"),
        "backoff.factor": ("2.0", "built-in"),
        "backoff.longest": ('"1h"', "built-in"),
        "proxy": ('""', "built-in"),
        "ip": ('"any"', "built-in"),
        "deny_private": ("false", "built-in"),
        "tls.verify": ("true", "built-in"),
        "respect_cache_control": ("false", "built-in"),
        "longest_fresh": ('"1d"', "built-in"),
        "alerts.after": ("3", "built-in"),
        "alerts.overdue": ("true", "built-in"),
        "alerts.recovery": ("true", "built-in"),
        "alerts.reminder": ('"4h"', "built-in"),
        "headers.X-Team": ("[redacted]", "config.toml:4 [defaults]"),
        "headers.accept": ('"application/json"', "config.toml:8"),
        "headers.X-Key": ("[redacted: env TOKEN]", "config.toml:8"),
        "sinks[0].kind": ('"file"', "config.toml:13"),
        "sinks[0].name": ('"file"', "built-in"),
        "sinks[0].max_attempts": ("1000", "built-in"),
        "sinks[0].max_age": ('"1d"', "built-in"),
        "sinks[0].path": ('"a.json"', "config.toml:13"),
        "sinks[0].mode": ('"replace"', "built-in"),
        "sinks[1].kind": ('"webhook"', "config.toml:14"),
        "sinks[1].name": ('"webhook"', "built-in"),
        "sinks[1].max_attempts": ("1000", "built-in"),
        "sinks[1].max_age": ('"1d"', "built-in"),
        "sinks[1].url": ("[redacted]", "config.toml:14"),
        "sinks[1].method": ('"POST"', "built-in"),
        "sinks[1].headers": ("{}", "built-in"),
        "sinks[1].timeout.connect": ('"3s"', "config.toml:14"),
        "sinks[1].timeout.read": ('"3s"', "config.toml:14"),
        "sinks[1].timeout.write": ('"3s"', "config.toml:14"),
        "sinks[1].timeout.pool": ('"3s"', "config.toml:14"),
    }


def test_a_job_in_code_shows_only_what_counts_for_it(tmp_path: Path) -> None:
    """Keys of a request would suggest that there is one."""
    shown = rows(tmp_path, "sync")
    assert shown["cron"] == ('"0 9 * * mon-fri"', "config.toml:18")
    assert shown["timezone"] == ('"Europe/Prague"', "config.toml:19")
    assert not {"interval", "method", "params", "expect.status", "url"} & set(shown)


@pytest.mark.parametrize("job", ["rates", "sync", "post", "form", "hook"])
def test_no_secret_is_shown(tmp_path: Path, job: str) -> None:
    """The output is what people paste into tickets."""
    text = str(rows(tmp_path, job))
    assert "canary" not in text
    assert ENVIRONMENT["TOKEN"] not in text


def test_bodies_are_shown_as_being_there(tmp_path: Path) -> None:
    """That there is one counts; what is in it may be secret."""
    assert rows(tmp_path, "post")["json"] == ("[redacted]", "config.toml:23")
    assert rows(tmp_path, "form")["form.a"] == ("[redacted]", "config.toml:27")


def test_an_address_that_is_kept_elsewhere_shows_its_host_alone(tmp_path: Path) -> None:
    """The path of a webhook is its password."""
    masked = '"https://hooks.example.com:8443/[redacted: env HOOKURL]"'
    assert rows(tmp_path, "hook")["url"][0] == masked


def test_the_user_s_functions_are_not_imported(tmp_path: Path) -> None:
    """To look at a job must not run code; the job that is returned has its slots all the same."""
    path = write(tmp_path, TEXT)
    assert explain(path, "sync", environment=ENVIRONMENT | HOOK).job.cron == "0 9 * * mon-fri"


def test_an_unknown_job_is_a_finding(tmp_path: Path) -> None:
    """A typing error is answered with the name that was meant."""
    with pytest.raises(ConfigError, match=r"jobs\.rats: there is no such job") as caught:
        rows(tmp_path, "rats")
    assert str(caught.value).endswith('did you mean "rates"?')
