"""Any file whatever: it is a configuration or a list of findings, and never shows a secret."""

from __future__ import annotations

import tempfile
import tomllib
from datetime import UTC, date, datetime, time
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fetchd.config import explain, load
from fetchd.config.jobs import JOB_TABLE
from fetchd.config.model import Daemon, Dns, Host, Log
from fetchd.config.written import key_text, toml_value
from fetchd.errors import ConfigError, Finding
from fetchd.fetch.auth import KINDS
from fetchd.job import Expect, Policy, Timeouts
from fetchd.sinks.kinds import OPTIONS

CANARY: Final = "c4n4ry"
ENVIRONMENT: Final = {"HOME": "/home/somebody", "SET": f"{CANARY}-env", "URL": f"https://h/?k={CANARY}"}

LIKELY = st.sampled_from(
    [
        *(
            "5s",
            "10ms",
            "1h30m",
            "0s",
            "10MiB",
            "* * * * *",
            "UTC",
            "GET",
            "POST",
            "http://h/",
            "https://u:p@h:1/?q=1",
            "a:b",
        ),
        *("json:dumps", "file", "bearer", "webhook", "command", "sh", "192.0.2.1", "", "\x00", "a\r\nb", "é", "info"),
        *({"env": "SET"}, {"env": "UNSET"}, {"file": "none"}, {"credential": "x"}, {"kind": "file", "path": "x"}),
    ]
)
SCALARS = (
    LIKELY
    | st.text(max_size=6)
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.sampled_from([date(2024, 2, 29), time(7, 32), datetime(2024, 1, 1, tzinfo=UTC), 10**30])
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)


def tables(*models: Any, **named: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Draw tables with the keys of ``models``, and some that they have not."""
    keys = sorted({info.alias or name for model in models for name, info in model.model_fields.items()})
    pairs = st.dictionaries(st.sampled_from(keys) | st.text(max_size=3), VALUES, max_size=5)
    chosen = st.fixed_dictionaries({}, optional=named)
    return st.builds(lambda free, given: {**free, **given}, pairs, chosen)


JOBS = tables(
    JOB_TABLE,
    timeout=tables(Timeouts) | VALUES,
    expect=tables(Expect) | VALUES,
    auth=tables(*KINDS.values(), kind=st.sampled_from(sorted(KINDS))) | VALUES,
    sinks=st.lists(tables(*OPTIONS.values(), kind=st.sampled_from(sorted(OPTIONS))) | VALUES, max_size=3) | VALUES,
)
FILES = st.fixed_dictionaries(
    {"jobs": st.dictionaries(st.sampled_from(["a", "b"]) | st.text(max_size=3), JOBS | VALUES, max_size=3) | VALUES},
    optional={
        "daemon": tables(Daemon) | VALUES,
        "dns": tables(Dns) | VALUES,
        "log": tables(Log) | VALUES,
        "defaults": tables(Policy, timeout=tables(Timeouts)) | VALUES,
        "hosts": st.dictionaries(st.text(max_size=4), tables(Host) | VALUES, max_size=2) | VALUES,
        "other": VALUES,
    },
)


def toml(data: dict[str, Any]) -> str:
    """Return ``data`` as a file."""
    return "".join(f"{key_text((key,))} = {toml_value(value)}\n" for key, value in data.items())


@given(FILES)
def test_any_file_is_a_configuration_or_findings(data: dict[str, Any]) -> None:
    """A reload must be able to refuse whatever it is given, in its own words, with a line for each."""
    text = toml(data)
    tomllib.loads(text)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "config.toml"
        path.write_text(text, encoding="utf-8")
        judge(path)


def judge(path: Path) -> None:
    """Load the file at ``path`` and look at what comes of it."""
    findings: tuple[Finding, ...] = ()
    try:
        config = load(path, environment=ENVIRONMENT)
    except ConfigError as error:
        findings = error.findings
    else:
        assert not any(CANARY in str(explain(path, name, environment=ENVIRONMENT).rows) for name in config.jobs)
        return
    assert len(set(findings)) == len(findings) > 0
    for finding in findings:
        assert "\n" not in str(finding)
        assert not any(word in finding.message for word in ("Input", "should", "pydantic", CANARY))
        assert finding.line or finding.key in {"jobs", "daemon.state_dir"}


SOURCES: Final[list[dict[str, Any]]] = [
    {"url": f"https://u:{CANARY}@h:1/?q={CANARY}#{CANARY}", "params": {"q": CANARY}},
    {"url": {"env": "URL"}, "method": "POST", "json": {"token": CANARY}, "expect": {"status": [200]}},
    {"url": "http://h/", "method": "PUT", "form": {"a": CANARY}, "auth": {"kind": "bearer", "token": CANARY}},
    {"url": "http://h/", "method": "PUT", "body": CANARY, "headers": {"x-token": CANARY}},
    {"url": "http://h/", "auth": {"kind": "basic", "username": CANARY, "password": {"env": "SET"}}},
    {"collect": "json:dumps", "sinks": [{"kind": "webhook", "url": f"http://h/{CANARY}"}] * 2},
]
SLOTS: Final[list[dict[str, Any]]] = [
    *({}, {"interval": "10ms"}, {"interval": "5s"}, {"interval": "1h"}, {"cron": "*/20 * * * * *"}),
    *({"cron": "0 9 * * mon-fri", "timezone": "Europe/Prague"},),
]
DEADLINES = st.sampled_from(["10ms", "3s", "2h"])
TIMEOUTS = st.sampled_from(["10ms", "1s", "1m", {"read": "2s"}, {"connect": "10ms", "write": "1m"}])
TOKENS = st.sampled_from([{"X-Token": CANARY}, {"x-token": {"env": "SET"}, "Authorization": f"Bearer {CANARY}"}])
LIMITS = st.fixed_dictionaries({}, optional={"deadline": DEADLINES, "timeout": TIMEOUTS})
DEFAULTS = st.fixed_dictionaries({}, optional={"deadline": DEADLINES, "timeout": TIMEOUTS, "headers": TOKENS})


@given(st.tuples(DEFAULTS, st.sampled_from(SLOTS[:4]), st.sampled_from(SOURCES), st.sampled_from(SLOTS), LIMITS))
def test_whatever_loads_fits_and_hides_its_secrets(tables: tuple[dict[str, Any], ...]) -> None:
    """The rules hold for every mixture of what is inherited and what is written."""
    defaults, usual, source, slots, limits = tables
    text = toml({"defaults": {**defaults, **usual}, "jobs": {"a": {**source, **slots, **limits}}})
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "config.toml"
        path.write_text(text, encoding="utf-8")
        try:
            job = load(path, environment=ENVIRONMENT).jobs["a"]
        except ConfigError as error:
            words = str(error)
        else:
            assert 0.01 <= job.deadline <= job.interval
            assert all(0 < seconds <= job.deadline for _, seconds in job.timeout)
            assert CANARY not in str(explain(path, "a", environment=ENVIRONMENT).rows)
            return
    assert all("is longer than the" in line for line in words.splitlines())


SECRETS = [
    f'url = "https://u:{CANARY}@h/?k={CANARY}"\nwrong = 1\nsinks = [1]',
    f'url = "{CANARY}://h/"',
    f'url = "http://{CANARY} h/"',
    f'url = "http://h:{CANARY}/"',
    f'url = ["{CANARY}"]',
    f'url = {{ env = "SET", x = "{CANARY}" }}',
    'url = { env = "SET" }',
    f'url = "http://h/"\nheaders = {{ Authorization = "{CANARY}\\n" }}',
    'url = "http://h/"\nheaders = { Authorization = { env = "LINES" } }',
    f'url = "http://h/"\nheaders = "{CANARY}"',
    f'url = "http://h/"\nparams = {{ k = ["{CANARY}"] }}',
    f'url = "http://h/"\nparams = "{CANARY}"',
    f'url = "http://h/"\nauth = {{ kind = "{CANARY}" }}',
    f'url = "http://h/"\nauth = {{ kind = "bearer", token = ["{CANARY}"] }}',
    f'url = "http://h/"\nauth = {{ kind = "bearer", tokn = "{CANARY}" }}',
    f'url = "http://h/"\nauth = "{CANARY}"',
    f'url = "http://h/"\nbody = "{CANARY}"\nform = {{ a = "{CANARY}" }}',
    f'url = "http://h/"\nmethod = "{CANARY}"',
    f'url = "http://h/"\ninterval = "{CANARY}"\nmax_body = "{CANARY}"\nretries = "{CANARY}"',
    f'url = "http://h/"\ncron = "{CANARY}"',
    f'url = "http://h/"\nsinks = [{{ kind = "webhook", url = "{CANARY}" }}]',
    f'url = "http://h/"\nsinks = [{{ kind = "webhook", url = "http://h/", headers = {{ X-Key = "{CANARY}\\n" }} }}]',
    f'url = "http://h/"\nsinks = [{{ kind = "command", argv = ["sh"], env = {{ A = ["{CANARY}"] }} }}]',
    f'url = "http://h/"\nsinks = [{{ kind = "command", argv = ["sh"], env = "{CANARY}" }}]',
]


@pytest.mark.parametrize("job", SECRETS)
def test_no_finding_shows_a_value(tmp_path: Path, job: str) -> None:
    """Findings are printed, logged and pasted; whatever is wrong with a secret, it stays one."""
    path = tmp_path / "config.toml"
    path.write_text(f"[jobs.a]\n{job}\n", encoding="utf-8")
    environment = {**ENVIRONMENT, "LINES": f"{CANARY}\r\nX: y"}
    with pytest.raises(ConfigError) as caught:
        load(path, environment=environment)
    assert CANARY not in str(caught.value)
