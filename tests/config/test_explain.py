"""What explain shows: every value that counts, where it comes from, and no secret."""

from __future__ import annotations

from pathlib import Path

import pytest

from fetchd.config import explain, values_of
from fetchd.errors import ConfigError
from tests.config.files import ENVIRONMENT, write

HOOK = {"HOOKURL": "https://me:pw-canary@hooks.example.com:8443/services/path-canary?key=canary"}

PASSING = (
    "dns, connect, tls, timeout_connect, timeout_read, timeout_write, timeout_pool, protocol, auth, local_resource, "
    "408, 425, 500, 502, 503, 504; 403 and 429 with a Retry-After"
)
POLITE = """\
[hosts."Api.Example"]
max_concurrent = 2
[hosts."api.example:8080"]
min_spacing = "1500ms"
[hosts."bücher.example"]
max_concurrent = 0
min_spacing = "1s"
[jobs.job-10]
url = "https://api.example/10"
[jobs.job-2]
url = "https://API.example:443/2"
[jobs.other]
url = "http://api.example:9090/"
[jobs.port]
url = "http://api.example:8080/"
[jobs.books]
url = "https://xn--bcher-kva.example/"
[jobs.free]
url = "http://127.0.0.1:9090/"
[jobs.code]
collect = "tests.tasks:sync"
[jobs.odd]
url = "http+unix://%2Frun%2Fapp.sock/"
"""

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
        "retry.on": (PASSING, "built-in"),
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
        "overdue_after": ("3 slots and the deadline", "built-in"),
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
        'hosts."h.example".max_concurrent': ("no limit", "built-in"),
        'hosts."h.example".min_spacing': ("no limit", "built-in"),
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


def politeness(folder: Path, job: str) -> tuple[dict[str, tuple[str, str]], str]:
    """Return the rows about the host of ``job``, and the words on whom it shares that with."""
    found = explain(write(folder, POLITE), job, environment=ENVIRONMENT)
    return {row.key: (row.value, row.origin) for row in found.rows if row.key.startswith("hosts.")}, found.shared


def test_the_limits_of_its_host_are_among_what_counts(tmp_path: Path) -> None:
    """Why does it start late? It waits for those whom it shares the host with, however that is written."""
    ours, shared = politeness(tmp_path, "job-10")
    assert ours == {
        'hosts."Api.Example".max_concurrent': ("2", "config.toml:2"),
        'hosts."Api.Example".min_spacing': ("no limit", "built-in"),
    }
    assert shared == (
        "api.example is asked by 3 jobs: job-2, job-10, other. Its limits hold for all of them together, and so does a "
        "time that it names with Retry-After: `fetchd status` shows when each is run next."
    )
    assert politeness(tmp_path, "other") == (ours, shared)
    assert politeness(tmp_path, "port")[0] == {
        'hosts."api.example:8080".max_concurrent': ("no limit", "built-in"),
        'hosts."api.example:8080".min_spacing': ('"1s500ms"', "config.toml:4"),
    }
    assert politeness(tmp_path, "books")[0] == {
        'hosts."bücher.example".max_concurrent': ("no limit", "config.toml:6"),
        'hosts."bücher.example".min_spacing': ('"1s"', "config.toml:7"),
    }


def test_a_host_without_limits_is_said_to_have_none(tmp_path: Path) -> None:
    """The key under which they would be written is shown; a job in code is shown none, for it asks whom it likes."""
    unlimited = ("no limit", "built-in")
    ours = {'hosts."127.0.0.1:9090".max_concurrent': unlimited, 'hosts."127.0.0.1:9090".min_spacing': unlimited}
    assert politeness(tmp_path, "free")[0] == ours
    assert politeness(tmp_path, "free")[1].startswith("127.0.0.1:9090 is asked by this job alone. ")
    assert politeness(tmp_path, "code") == ({}, "")
    assert politeness(tmp_path, "odd") == ({}, "")


def test_what_no_list_names_is_said_in_words(tmp_path: Path) -> None:
    """An empty list looks as if no status were a result, and nothing were ever tried again."""
    shown = rows(tmp_path, "post")
    assert shown["expect.status"] == ("200 to 299", "built-in")
    assert shown["retry.on"] == (PASSING, "built-in")
    job = explain(write(tmp_path, TEXT), "post", environment=ENVIRONMENT | HOOK).job
    assert dict(values_of(job))["expect.status"] == "200 to 299"
