"""The configuration as values, and which of its texts must never be shown."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from trustme import CA

from fetchd.config import Config, Daemon, Dns, Host, Log
from fetchd.config.load import extend_path
from fetchd.secret import MASK, Redactor
from tests.config.files import ENVIRONMENT, loaded, write

JOB = '[jobs.a]\nurl = "https://h.example/"\n'


def test_a_minimal_file_gets_everything_built_in(tmp_path: Path) -> None:
    """One job is a configuration."""
    config = loaded(tmp_path, JOB)
    assert config.path == tmp_path / "config.toml"
    assert config.daemon == Daemon(state_dir=Path("/home/somebody/.local/state/fetchd"))
    assert (config.dns, config.log, config.hosts) == (Dns(), Log(), {})
    daemon = config.daemon
    assert (daemon.max_concurrent_runs, daemon.memory_budget, daemon.spool_above) == (500, 256 * 2**20, 2**20)
    assert daemon.max_workers == 4
    assert (daemon.shutdown_grace, daemon.stall_timeout, daemon.python_path, daemon.ca_file) == (20.0, 20.0, (), None)
    assert (config.dns.nameservers, config.dns.timeout, config.dns.attempts) == ((), 2.0, 2)
    assert (config.log.level, config.log.format) == ("info", "auto")


def test_paths_start_from_the_file_s_folder(tmp_path: Path) -> None:
    """Where the daemon is started makes no difference."""
    CA().cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    (tmp_path / "code").mkdir()
    text = f'[daemon]\nstate_dir = "state"\npython_path = ["code"]\nca_file = "ca.pem"\n{JOB}'
    daemon = loaded(tmp_path, text).daemon
    sys.path.remove(str(tmp_path / "code"))
    assert (daemon.state_dir, daemon.python_path, daemon.ca_file) == (
        tmp_path / "state",
        (tmp_path / "code",),
        tmp_path / "ca.pem",
    )
    assert loaded(tmp_path, f'[daemon]\nstate_dir = "/abs"\nca_file = ""\n{JOB}').daemon.state_dir == Path("/abs")
    assert loaded(tmp_path, f'[daemon]\nstate_dir = "~/x"\n{JOB}').daemon.state_dir == Path("/home/somebody/x")


def test_functions_are_found_in_python_path_and_nowhere_twice(tmp_path: Path) -> None:
    """A reload must not grow the import path."""
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "config_test_tasks.py").write_text("def sync(context):\n    return None\n")
    text = '[daemon]\npython_path = ["code"]\n[jobs.a]\ncollect = "config_test_tasks:sync"\n'
    try:
        for _ in range(2):
            assert loaded(tmp_path, text).jobs["a"].collect == "config_test_tasks:sync"
        assert sys.path.count(str(tmp_path / "code")) == 1
    finally:
        sys.path.remove(str(tmp_path / "code"))
    path = ["x"]
    extend_path([Path("x"), Path("y")], path)
    assert path == ["x", "y"]


def test_a_module_that_ends_the_process_is_a_finding(tmp_path: Path) -> None:
    """A script without a guard around its main call must not take the daemon with it."""
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "config_test_script.py").write_text("import sys\nsys.exit(3)\n")
    path = write(tmp_path, '[daemon]\npython_path = ["code"]\n[jobs.a]\ncollect = "config_test_script:main"\n')
    try:
        with pytest.raises(Exception, match="cannot import config_test_script: SystemExit: 3"):
            loaded(tmp_path, path.read_text())
    finally:
        sys.path.remove(str(tmp_path / "code"))


def test_hosts_are_named_as_requests_name_them(tmp_path: Path) -> None:
    """Names of hosts know no case, and an address has one spelling."""
    named = ("API.example.com", "[2001:DB8::1]", "192.0.2.1:80", "b.test.")
    hosts = loaded(tmp_path, "".join(f'[hosts."{name}"]\nmax_concurrent = 4\n' for name in named) + JOB).hosts
    assert hosts == dict.fromkeys(("api.example.com", "2001:db8::1", "192.0.2.1:80", "b.test"), Host(max_concurrent=4))


@pytest.mark.parametrize("server", ["192.0.2.1", "192.0.2.1:53", "2001:db8::1", "[2001:db8::1]:5353"])
def test_name_servers_may_have_ports(tmp_path: Path, server: str) -> None:
    """A local resolver often listens elsewhere."""
    assert loaded(tmp_path, f'[dns]\nnameservers = ["{server}"]\n{JOB}').dns.nameservers == (server,)


def test_a_config_cannot_be_changed(tmp_path: Path) -> None:
    """What is read at the start counts until the next load."""
    config = loaded(tmp_path, JOB)
    with pytest.raises(ValueError, match="frozen"):
        config.daemon.max_concurrent_runs = 3  # type: ignore[misc]


def secrets(folder: Path, own: str, environment: dict[str, str] | None = None) -> Config:
    return loaded(folder, f"[jobs.a]\n{own}", {**ENVIRONMENT, **(environment or {})})


@pytest.mark.parametrize(
    ("own", "texts"),
    [
        ('url = "https://h/path"', set()),
        ('url = "https://me:p%40ss@h/?key=va%6Cue&n=a+b"', {"p%40ss", "p@ss", "va%6Cue", "value", "bWU6cEBzcw=="}),
        ('url = "https://t0ken@h/?bare"', {"t0ken", "bare", "dDBrZW46"}),
        (
            'url = { env = "URL" }',
            {"https://h/hook/abcd?k=efgh", "efgh", "/hook/abcd"},
        ),
        ('url = "https://h/"\nheaders = { Accept = "a/b", X-Api-Key = "k e y" }', {"k e y"}),
        ('url = "https://h/"\nheaders = { X-Plain = { env = "TOKEN" } }', {"t0ken-from-env"}),
        (
            'url = "https://h/"\nheaders = { Authorization = "Bearer b-t0ken" }',
            {"Bearer b-t0ken", "b-t0ken"},
        ),
        ('url = "https://h/"\nparams = { page = "first", api_key = "second" }', {"second"}),
        (
            'url = "https://h/"\nauth = { kind = "basic", username = "user", password = "pass" }',
            {"pass", "dXNlcjpwYXNz"},
        ),
        ('url = "https://h/"\nmethod = "POST"\nform = { user = "fetchd", scope = "read" }', set()),
        (
            'url = "https://h/"\nmethod = "POST"\nform = { x = "v1", api_key = "v2", y = { env = "TOKEN" } }',
            {"v2", "t0ken-from-env"},
        ),
        ('url = "https://h/"\nmethod = "POST"\nbody = "read"', set()),
        ('url = "https://h/"\nmethod = "POST"\nbody = { env = "TOKEN" }', {"t0ken-from-env"}),
        (
            'url = "https://h/"\nheaders = { X-Key = "https://h/x" }',
            {"https://h/x"},
        ),
        (
            'url = "http://h"\nsinks = [{ kind = "command", argv = ["sh"], env = { M = "read", API_KEY = "k1" } }]',
            {"k1"},
        ),
        (
            'url = "http://h"\nsinks = [{ kind = "command", argv = ["sh"], env = { DB = "db://app:pw1@h/" } }]',
            {"pw1", "YXBwOnB3MQ=="},
        ),
        (
            'url = "https://h/"\nmethod = "POST"\njson = { name = "n", token = "t1", keys = ["t2", { x = "t3" }] }',
            {"t1", "t2", "t3"},
        ),
        (
            'url = "https://h/"\nsinks = [{ kind = "webhook", url = "http://w?sig=wk", headers = { X-Token = "wt" } }]',
            {"wk", "wt"},
        ),
        (
            'url = "https://h/"\nsinks = [{ kind = "command", argv = ["sh"], env = { P = { env = "TOKEN" } } }]',
            {"t0ken-from-env"},
        ),
    ],
)
def test_every_secret_is_known_to_whoever_hides_it(tmp_path: Path, own: str, texts: set[str]) -> None:
    """What the file holds in the clear counts where it is meant as a secret; what it refers to counts always."""
    environment = {"URL": "https://h/hook/abcd?k=efgh"}
    assert secrets(tmp_path, own, environment).secret_texts() == texts


def test_a_job_s_name_is_never_hidden(tmp_path: Path) -> None:
    """It is the label of every line and metric; a query that asks for it must not blank it out."""
    text = '[jobs.eur-rates]\nurl = "https://h/?symbol=rates&key=k3y-value"\n'
    config = loaded(tmp_path, text)
    assert config.secret_texts() == {"k3y-value"}
    assert Redactor(config.secret_texts())({"job": "eur-rates", "k": "k3y-value"}) == {"job": "eur-rates", "k": MASK}
