"""What a reader is told: the file's text on one side, the exact lines on the other."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from tests.config.files import loaded, refused

KINDS = "the kinds are command, function, file, sqlite, webhook"
AUTHS = "the kinds are basic, bearer, api_key, digest, oauth2"
ALL = "alerts, daemon, defaults, dns, hosts, jobs, log, maintenance, notifiers"
NAME_RULE = 'a name has 1 to 64 letters, digits, ".", "_" and "-", and begins with a letter or a digit'
NO_MODULE = "cannot import fetchd.nowhere: ModuleNotFoundError: No module named 'fetchd.nowhere'"
REMEDY = "; is its folder in daemon.python_path?"
NO_HOST = 'write the host alone, or with a port, such as [hosts."api.example.com"] or [hosts."localhost:8080"]'
NO_ADDRESS = 'not an IP address: write one such as "192.0.2.53", "192.0.2.53:5353" or "[2001:db8::53]:5353"'
JOB = '[jobs.a]\nurl = "https://h.example/"\n'

TABLES = [
    ("", ["jobs: there is no job: add a table such as [jobs.rates] with a url"]),
    ("[jobs]\n", ["1: jobs: there is no job: add a table such as [jobs.rates] with a url"]),
    ("jobs = 3\n", ["1: jobs: must be a table"]),
    ("[[jobs]]\n", ["1: jobs: must be a table"]),
    ("[jobs]\na = 3\n", ["2: jobs.a: must be a table"]),
    (f"[job.b]\n{JOB}", ['1: job: unknown key; did you mean "jobs"?']),
    (f"x = 1\n{JOB}", [f"1: x: unknown key; the keys here are {ALL}"]),
    (f"daemon = true\n{JOB}", ["1: daemon: must be a table"]),
    (f"hosts = []\n{JOB}", ["1: hosts: must be a table"]),
    (f"[hosts]\nx = 1\n{JOB}", ["2: hosts.x: must be a table"]),
    (f"defaults = 1\n{JOB}", ["1: defaults: must be a table"]),
    (
        '[jobs."a b"]\nurl = "http://h/"\n',
        [f'1: jobs."a b": {NAME_RULE}'],
    ),
]

TYPES = [
    (f"{JOB}interval = 5\n", '3: jobs.a.interval: a duration needs a unit: write "5s" if these are seconds'),
    (f"{JOB}interval = inf\n", '3: jobs.a.interval: a duration is a text such as "30s"'),
    (f"{JOB}interval = nan\n", '3: jobs.a.interval: a duration is a text such as "30s"'),
    (f"{JOB}interval = -5\n", '3: jobs.a.interval: a duration is a text such as "30s"'),
    (f"{JOB}interval = true\n", '3: jobs.a.interval: a duration is a text such as "30s"'),
    (f'{JOB}interval = "0s"\n', "3: jobs.a.interval: a duration must be longer than zero"),
    (f'{JOB}interval = "5ms"\n', "3: jobs.a.interval: must be at least 10ms"),
    (
        f'{JOB}interval = "5 minutes"\n',
        '3: jobs.a.interval: not a duration: write a number with its unit, such as "500ms", "30s", "5m" or "1h30m"',
    ),
    (f'{JOB}interval = "2d"\ndeadline = "25h"\n', "4: jobs.a.deadline: must be at most 1d"),
    (f"{JOB}max_body = 1000000\n", '3: jobs.a.max_body: a size needs a unit: write "1000000B" if these are bytes'),
    (f"{JOB}retries = true\n", "3: jobs.a.retries: must be a whole number"),
    (f"{JOB}retries = 1.0\n", "3: jobs.a.retries: must be a whole number"),
    (f'{JOB}retries = "1"\n', "3: jobs.a.retries: must be a whole number"),
    (f"{JOB}retries = 11\n", "3: jobs.a.retries: must be at most 10"),
    (f"{JOB}allow_insecure_redirects = 1\n", "3: jobs.a.allow_insecure_redirects: must be true or false"),
    (f"{JOB}expect = 200\n", "3: jobs.a.expect: must be a table"),
    (f"{JOB}expect.status = 200\n", "3: jobs.a.expect.status: must be a list"),
    (f"{JOB}expect.status = [\n  200,\n  99,\n]\n", "5: jobs.a.expect.status[1]: must be at least 100"),
    (f"{JOB}expect.content_type = 1\n", "3: jobs.a.expect.content_type: must be a text"),
    (f"{JOB}headers = 1\n", "3: jobs.a.headers: must be a table"),
    (
        f'{JOB}method = "TRACE"\n',
        '3: jobs.a.method: must be "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE" or "OPTIONS"',
    ),
    (
        f"{JOB}params = {{ page = 1 }}\n",
        '3: jobs.a.params.page: write a text, or { env = "NAME" }, { file = "path" } or { credential = "NAME" }',
    ),
    (f'{JOB}[jobs.a.timeout]\nconect = "1s"\n', '4: jobs.a.timeout.conect: unknown key; did you mean "connect"?'),
    (f'{JOB}intervall = "5m"\n', '3: jobs.a.intervall: unknown key; did you mean "interval"?'),
    (f'[log]\nlevel = "trace"\n{JOB}', '2: log.level: must be "debug", "info", "warning" or "error"'),
    (f'[daemon]\nstall_timeout = "1ms"\n{JOB}', "2: daemon.stall_timeout: must be at least 1s"),
    (f"[daemon]\nmax_concurrent_runs = 0\n{JOB}", "2: daemon.max_concurrent_runs: must be at least 1"),
    (f'[daemon]\nstate_dir = ""\n{JOB}', "2: daemon.state_dir: must be a path"),
    (f"[daemon]\nstate_dir = 1\n{JOB}", "2: daemon.state_dir: must be a text"),
    (f'[daemon]\npython_path = ["none"]\n{JOB}', "2: daemon.python_path[0]: there is no such folder"),
    (f'[daemon]\nca_file = "none.pem"\n{JOB}', "2: daemon.ca_file: cannot be read: No such file or directory"),
    (f'[daemon]\nca_file = "config.toml"\n{JOB}', "2: daemon.ca_file: not a PEM file of certificates"),
    (
        f'[dns]\nnameservers = ["192.0.2.1", "dns.example"]\n{JOB}',
        f"2: dns.nameservers[1]: {NO_ADDRESS}",
    ),
    (f'[hosts."https://h.example"]\n{JOB}', f'1: hosts."https://h.example": {NO_HOST}'),
    (f'[hosts."h:0"]\n{JOB}', f'1: hosts."h:0": {NO_HOST}'),
    (f'[hosts."h:65536"]\n{JOB}', f'1: hosts."h:65536": {NO_HOST}'),
    (f'[hosts."[::g]:80"]\n{JOB}', f'1: hosts."[::g]:80": {NO_HOST}'),
    (
        f'[hosts."[::1]:80"]\n[hosts."[0:0::1]:80"]\n{JOB}',
        '2: hosts."[0:0::1]:80": this host has a table already, as [::1]:80',
    ),
    (f"[hosts.h]\n[hosts.H]\n{JOB}", "2: hosts.H: this host has a table already, as h"),
    (f"[hosts.h]\nmax_concurrent = -1\n{JOB}", "2: hosts.h.max_concurrent: must be at least 0"),
]

JOBS = [
    ("[jobs.a]\n", ["1: jobs.a: needs a url, or collect with a function"]),
    (f'{JOB}interval = "1m"\ncron = "* * * * *"\n', ["4: jobs.a.cron: write either interval or cron, not both"]),
    (f'{JOB}timezone = "UTC"\n', ["3: jobs.a.timezone: goes with cron only"]),
    (
        f'{JOB}cron = "* * * * *"\ntimezone = "Europe/Pragu"\n',
        ['4: jobs.a.timezone: unknown time zone; did you mean "Europe/Prague"?'],
    ),
    (
        f'{JOB}cron = "* * * * *"\ntimezone = "/etc/passwd"\n',
        ['4: jobs.a.timezone: unknown time zone; write one such as "Europe/Prague"'],
    ),
    (
        f'{JOB}cron = "* * * * *"\ndeadline = "2m"\n',
        ["4: jobs.a.deadline: is longer than the time between two slots, 1m"],
    ),
    (f'{JOB}interval = "10s"\ndeadline = "20s"\n', ["4: jobs.a.deadline: is longer than the interval, 10s"]),
    (
        f'{JOB}interval = "2h"\nbackoff = {{ after = 3 }}\n',
        ["4: jobs.a.backoff.longest: is not longer than the interval, 2h: it would never grow"],
    ),
    (f'{JOB}timeout = "40s"\n', ["3: jobs.a.timeout: is longer than the deadline, 30s"]),
    (f'{JOB}timeout = {{ read = "40s" }}\n', ["3: jobs.a.timeout.read: is longer than the deadline, 30s"]),
    (f'{JOB}interval = "5s"\ntimeout = "6s"\n', ["4: jobs.a.timeout: is longer than the deadline, 5s"]),
    (f'{JOB}body = "x"\n', ['3: jobs.a.body: a body needs a method, such as method = "POST"']),
    (
        f'{JOB}method = "HEAD"\nform = {{ a = "b" }}\n',
        ['4: jobs.a.form: a body needs a method, such as method = "POST"'],
    ),
    (
        f'{JOB}method = "PUT"\nbody = "x"\njson = 1\n',
        ["5: jobs.a.json: only one body can be sent, and body is one"],
    ),
    (
        f'{JOB}method = "POST"\n[jobs.a.json]\na = [1, 07:32:00, inf]\n',
        [
            "5: jobs.a.json.a[1]: JSON knows no dates and times: write a text",
            "5: jobs.a.json.a[2]: JSON knows finite numbers only",
        ],
    ),
    (
        '[jobs.a]\ncollect = "tests"\n',
        ['2: jobs.a.collect: name a function as "package.module:function"'],
    ),
    (
        '[jobs.a]\ncollect = "fetchd.nowhere:f"\n',
        [f"2: jobs.a.collect: {NO_MODULE}{REMEDY}"],
    ),
    (
        '[jobs.a]\ncollect = "json:dumps"\nmethod = "POST"\nexpect = { status = [200] }\n',
        [
            "3: jobs.a.method: goes with url only: with collect, the function makes the requests",
            "4: jobs.a.expect: goes with url only: with collect, the function makes the requests",
        ],
    ),
]

REQUESTS = [
    ('[jobs.a]\nurl = "ftp://h/"\n', '2: jobs.a.url: a URL begins with "http://" or "https://"'),
    ('[jobs.a]\nurl = "h.example"\n', '2: jobs.a.url: a URL begins with "http://" or "https://"'),
    ('[jobs.a]\nurl = ""\n', '2: jobs.a.url: a URL begins with "http://" or "https://"'),
    ('[jobs.a]\nurl = "http:///x"\n', "2: jobs.a.url: not a URL: its host is missing"),
    ('[jobs.a]\nurl = "http://h:0/"\n', "2: jobs.a.url: not a URL: there is no port 0"),
    *(
        (
            f'[jobs.a]\nurl = "http://{host}/"\n',
            "2: jobs.a.url: not a URL: write an IPv4 address as four decimal numbers",
        )
        for host in ("127.1", "0x7f.0.0.1", "10.0.0.010", "256.1.1.1", "2130706433")
    ),
    ('[jobs.a]\nurl = "http://h:99999/"\n', "2: jobs.a.url: not a URL: its host or its port is not valid"),
    ('[jobs.a]\nurl = "http://[::1/"\n', "2: jobs.a.url: not a URL: its host or its port is not valid"),
    ('[jobs.a]\nurl = "http://a..b/"\n', "2: jobs.a.url: not a URL: its host or its port is not valid"),
    (
        '[jobs.a]\nurl = "http://h/a b"\n',
        "2: jobs.a.url: a URL holds no spaces and no control characters; percent-encode them",
    ),
    ('[jobs.a]\nurl = { env = "NO_URL" }\n', "2: jobs.a.url: the environment variable NO_URL is not set"),
    (
        f'{JOB}headers = {{ "X-A" = "a\\r\\nX-B: b" }}\n',
        "3: jobs.a.headers.X-A: a header's value holds no line break, no control character and nothing beyond Latin-1",
    ),
    (
        f'{JOB}headers = {{ X-A = "€" }}\n',
        "3: jobs.a.headers.X-A: a header's value holds no line break, no control character and nothing beyond Latin-1",
    ),
    (
        f'{JOB}[jobs.a.headers]\n"X A" = "b"\n',
        '4: jobs.a.headers."X A": not a header\'s name: letters, digits and hyphens, without spaces and colons',
    ),
    (
        f'{JOB}headers = {{ content-length = "1" }}\n',
        "3: jobs.a.headers.content-length: the client sets this header itself",
    ),
    (
        f'{JOB}headers = {{ Expect = "100-continue" }}\n',
        "3: jobs.a.headers.Expect: the client sets this header itself",
    ),
    (f'{JOB}headers = {{ X-A = "1", x-a = "2" }}\n', "3: jobs.a.headers: X-A and x-a are the same header"),
    (f"{JOB}auth = 1\n", "3: jobs.a.auth: must be a table"),
    (f'{JOB}auth = {{ token = "x" }}\n', f"3: jobs.a.auth.kind: is missing; {AUTHS}"),
    (f'{JOB}auth = {{ kind = "ntlm" }}\n', f"3: jobs.a.auth.kind: unknown kind; {AUTHS}"),
    (
        f'{JOB}auth = {{ kind = "baerer" }}\n',
        f'3: jobs.a.auth.kind: unknown kind; did you mean "bearer"? ({AUTHS})',
    ),
    (f'{JOB}auth = {{ kind = "bearer" }}\n', "3: jobs.a.auth.token: is missing"),
    (
        f'{JOB}auth = {{ kind = "bearer", token = "x" }}\nheaders = {{ authorization = "y" }}\n',
        "4: jobs.a.headers.authorization: auth sets this header",
    ),
]

SINKS = [
    ("sinks = 1\n", ["3: jobs.a.sinks: must be a list"]),
    ("sinks = [1]\n", ["3: jobs.a.sinks[0]: must be a table"]),
    (
        'sinks = [{ kind = "fle", path = "x" }]\n',
        [
            f'3: jobs.a.sinks[0].kind: unknown kind; did you mean "file"? ({KINDS})',
        ],
    ),
    (
        "sinks = [{ kind = 3 }]\n",
        [f"3: jobs.a.sinks[0].kind: unknown kind; {KINDS}"],
    ),
    (
        '[[jobs.a.sinks]]\nkind = "file"\npth = "x"\n',
        ["3: jobs.a.sinks[0].path: is missing", '5: jobs.a.sinks[0].pth: unknown key; did you mean "path"?'],
    ),
    (
        'sinks = [{ kind = "command", command = "x", argv = 3 }]\n',
        [
            "3: jobs.a.sinks[0].argv: must be a list",
            (
                "3: jobs.a.sinks[0].command: unknown key; the keys here are "
                "argv, cwd, deadline, env, kind, max_age, max_attempts, name"
            ),
        ],
    ),
    (
        """\
sinks = [
  { kind = "file", path = 3 },
  { kind = "function", call = "fetchd.nowhere:f" },
  { kind = "file" },
]
""",
        [
            "4: jobs.a.sinks[0].path: must be a text",
            f"5: jobs.a.sinks[1].call: {NO_MODULE}{REMEDY}",
            "6: jobs.a.sinks[2].path: is missing",
        ],
    ),
    (
        """\
sinks = [
  { kind = "file", path = "x", name = "out" },
  { kind = "file", path = "y", name = "out" },
]
""",
        ["5: jobs.a.sinks[1].name: another sink of this job has this name"],
    ),
    (
        'sinks = [{ kind = "file", path = "x", name = "a b" }]\n',
        [
            f"3: jobs.a.sinks[0].name: {NAME_RULE}",
        ],
    ),
    (
        'sinks = [{ kind = "webhook", url = "http://h/", timeout = { conect = "1s" } }]\n',
        ['3: jobs.a.sinks[0].timeout.conect: unknown key; did you mean "connect"?'],
    ),
]


@pytest.mark.parametrize(("text", "findings"), TABLES)
def test_the_tables_of_the_file(tmp_path: Path, text: str, findings: list[str]) -> None:
    """A table that nobody reads would be a wish that nobody hears."""
    assert refused(tmp_path, text) == findings


@pytest.mark.parametrize(("text", "finding"), TYPES)
def test_a_value_of_the_wrong_kind(tmp_path: Path, text: str, finding: str) -> None:
    """TOML has infinities, and true is a number elsewhere; here each is said, once, in the reader's words."""
    assert refused(tmp_path, text) == [finding]


@pytest.mark.parametrize(("text", "findings"), JOBS)
def test_keys_that_do_not_go_together(tmp_path: Path, text: str, findings: list[str]) -> None:
    """What contradicts itself is not resolved by a rule that the reader does not know."""
    assert refused(tmp_path, text) == findings


@pytest.mark.parametrize(("text", "finding"), REQUESTS)
def test_a_request_that_could_not_be_sent(tmp_path: Path, text: str, finding: str) -> None:
    """It is said before the first run, not by it."""
    assert refused(tmp_path, text) == [finding]


@pytest.mark.parametrize(("text", "findings"), SINKS)
def test_sinks_that_could_not_be_opened(tmp_path: Path, text: str, findings: list[str]) -> None:
    """One wrong sink does not hide what is wrong with the next."""
    assert refused(tmp_path, JOB + text) == findings


def test_a_job_does_not_name_itself(tmp_path: Path) -> None:
    """The table's header is the name; a second one would contradict it."""
    (finding,) = refused(tmp_path, f'{JOB}name = "b"\n')
    assert finding.startswith(
        "3: jobs.a.name: unknown key; the keys here are alerts, allow_insecure_redirects, auth, backlog, backlog_size,"
    )


def test_url_and_collect_exclude_each_other(tmp_path: Path) -> None:
    """Two sources of one result are none."""
    text = f'{JOB}collect = "json:dumps"\n'
    assert refused(tmp_path, text) == ["3: jobs.a.collect: write either url or collect, not both"]


@pytest.mark.parametrize("cron", ["* * * *", "61 * * * *", "a b c d e", "0 0 31 2 *", "9" * 5000 + " * * * *", ""])
def test_a_cron_expression_that_never_comes_due(tmp_path: Path, cron: str) -> None:
    """A job that is never due is silent for ever."""
    (finding,) = refused(tmp_path, f'{JOB}cron = "{cron}"\n')
    assert finding.startswith("3: jobs.a.cron: ")


def test_everything_wrong_is_said_at_once_in_the_file_s_order(tmp_path: Path) -> None:
    """Nobody mends a file finding by finding."""
    text = """\
[jobs.b]
url = "ftp://h/"
cron = "nonsense"
interval = 5
[jobs.a]
url = "http://h/"
deadline = "10m"
retries = -1
timeout = "20m"
[daemon]
stat_dir = "x"
"""
    assert [finding.split(": ")[:2] for finding in refused(tmp_path, text)] == [
        ["2", "jobs.b.url"],
        ["3", "jobs.b.cron"],
        ["3", "jobs.b.cron"],
        ["4", "jobs.b.interval"],
        ["7", "jobs.a.deadline"],
        ["8", "jobs.a.retries"],
        ["9", "jobs.a.timeout"],
        ["11", "daemon.stat_dir"],
    ]


def test_a_wrong_default_is_said_once(tmp_path: Path) -> None:
    """A thousand jobs inherit it; it is one mistake."""
    jobs = "".join(f'[jobs.j{number}]\nurl = "http://h/"\ninterval = "5s"\n' for number in range(50))
    text = f'[defaults]\nretries = 99\nheaders = {{ X = {{ env = "NO_X" }} }}\ninterval = "1ms"\ndeadlin = "1s"\n{jobs}'
    assert refused(tmp_path, text) == [
        "2: defaults.retries: must be at most 10",
        "3: defaults.headers.X: the environment variable NO_X is not set",
        "4: defaults.interval: must be at least 10ms",
        '5: defaults.deadlin: unknown key; did you mean "deadline"?',
    ]


def test_nothing_says_where_state_is_kept(tmp_path: Path) -> None:
    """A daemon must not write to wherever it happens to be started."""
    message = "set it: neither $STATE_DIRECTORY nor $XDG_STATE_HOME nor $HOME says where state is kept"
    assert refused(tmp_path, JOB, environment={}) == [f"daemon.state_dir: {message}"]


def sinks_of(*jobs: str) -> str:
    return "".join(f'[jobs.j{number}]\nurl = "http://h/"\nsinks = [{sinks}]\n' for number, sinks in enumerate(jobs))


REPLACED = '{ kind = "file", path = "x" }'
APPENDED = '{ kind = "file", path = "x", mode = "append" }'
TABLE = '{ kind = "sqlite", path = "x" }'


@pytest.mark.parametrize(
    ("jobs", "findings"),
    [
        ([REPLACED, REPLACED], {"6: jobs.j1.sinks[0].path": "the job j0"}),
        ([REPLACED, TABLE], {"6: jobs.j1.sinks[0].path": "the job j0"}),
        ([APPENDED, REPLACED], {"6: jobs.j1.sinks[0].path": "the job j0"}),
        ([f"{APPENDED}, {TABLE}"], {"3: jobs.j0.sinks[1].path": "another sink of this job"}),
        (
            [f'{{ kind = "file", path = 3 }}, {REPLACED}, {REPLACED}'],
            {
                "3: jobs.j0.sinks[0].path": "must be a text",
                "3: jobs.j0.sinks[2].path": "another sink of this job",
            },
        ),
        (
            [REPLACED, '{ kind = "file", path = "y/../x" }', '{ kind = "file", path = "{folder}/state/out/x" }'],
            {"6: jobs.j1.sinks[0].path": "the job j0", "9: jobs.j2.sinks[0].path": "the job j0"},
        ),
    ],
)
def test_two_sinks_that_would_spoil_each_other_s_file(
    tmp_path: Path, jobs: list[str], findings: dict[str, str]
) -> None:
    """Whoever reads it would find the result of the one or of the other."""
    text = f'[daemon]\nstate_dir = "state"\n{sinks_of(*jobs)}'.replace("{folder}", str(tmp_path))
    found = refused(tmp_path, text)
    assert len(found) == len(findings)
    for line, (place, what) in zip(found, findings.items(), strict=True):
        number, key = place.split(": ")
        assert line.startswith(f"{int(number) + 2}: {key}: {what}")


@pytest.mark.parametrize(
    "jobs",
    [
        [APPENDED, APPENDED],
        [f"{TABLE}, {TABLE}", TABLE],
        ['{ kind = "file", path = "{job}" }', '{ kind = "file", path = "{job}" }'],
        [REPLACED, '{ kind = "file", path = "y" }'],
    ],
)
def test_sinks_that_may_share_a_file(tmp_path: Path, jobs: list[str]) -> None:
    """Lines of many jobs stand in one file, and tables in one database."""
    assert loaded(tmp_path, sinks_of(*jobs)).jobs


def test_a_module_that_is_missing_elsewhere_has_another_remedy(tmp_path: Path) -> None:
    """The folder is right if the module was found, and what it imports itself was not."""
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "findings_test_tasks.py").write_text("import no_such_library\n")
    text = '[daemon]\npython_path = ["code"]\n[jobs.a]\ncollect = "findings_test_tasks:sync"\n'
    try:
        (finding,) = refused(tmp_path, text)
    finally:
        sys.path.remove(str(tmp_path / "code"))
    assert finding.endswith("No module named 'no_such_library'")


def test_a_missing_package_has_the_same_remedy(tmp_path: Path) -> None:
    """Python names the package that it does not find, not the module that was asked for."""
    (finding,) = refused(tmp_path, '[jobs.a]\ncollect = "no_such_shop.tasks:sync"\n')
    assert finding.endswith(f"No module named 'no_such_shop'{REMEDY}")


def test_certificates_are_not_waited_for(tmp_path: Path) -> None:
    """A pipe that nobody writes to would hold the check for ever."""
    os.mkfifo(tmp_path / "pipe")
    findings = refused(tmp_path, f'[daemon]\nca_file = "pipe"\n{JOB}')
    assert findings == ["2: daemon.ca_file: cannot be read: it is not a regular file"]
