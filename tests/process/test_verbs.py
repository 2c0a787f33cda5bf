"""The verbs of the command line, as their users type them."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tomllib
from base64 import b64encode
from pathlib import Path

import pytest

from tests.process.daemon import PATHS, ROOT, UNPRIVILEGED, Daemon, fetchd
from tests.upstream import UpstreamProcess

CANARY = "canary-5f2c9e"


def write(folder: Path, text: str) -> str:
    """Write a configuration and return its path."""
    path = folder / "c.toml"
    path.write_text(f'[daemon]\nstate_dir = "state"\n{text}')
    return str(path)


def test_run_and_check_refuse_a_configuration_with_findings(tmp_path: Path) -> None:
    """Everything that is wrong is said at once, with file, line and key; nothing starts."""
    path = write(
        tmp_path,
        """[jobs.a]
url = "http://127.0.0.1:1/"
intervall = "5m"
deadline = 30
[jobs.b]
url = "ftp://127.0.0.1/"
""",
    )
    for verb in ("run", "check"):
        done = fetchd(verb, "-c", path, folder=tmp_path)
        assert done.returncode == 78
        lines = done.stderr.splitlines()
        assert lines[0] == f'{path}:5: jobs.a.intervall: unknown key; did you mean "interval"?'
        assert lines[1] == f'{path}:6: jobs.a.deadline: a duration needs a unit: write "30s" if these are seconds'
        assert lines[2].startswith(f"{path}:8: jobs.b.url: ")
        assert len(lines) == 3
    assert not (tmp_path / "state").exists()


def test_the_journal_is_told_that_findings_are_errors(tmp_path: Path) -> None:
    """``journalctl -p warning`` is where one looks for why the service does not start; elsewhere no mark is wanted."""
    path = write(tmp_path, '[jobs.a]\nurl = "ftp://127.0.0.1/"\n')
    with (tmp_path / "log").open("w") as log:
        stream = os.fstat(log.fileno())
        for journal in (f"{stream.st_dev}:{stream.st_ino}", "1:2"):
            command = [sys.executable, "-m", "fetchd", "run", "-c", path]
            environment = {**os.environ, "JOURNAL_STREAM": journal}
            assert subprocess.run(command, stderr=log, env=environment, timeout=30, check=False).returncode == 78
    marked, plain = (tmp_path / "log").read_text().splitlines()
    assert marked == f"<3>{plain}"
    assert plain.startswith(f"{path}:4: jobs.a.url: ")


def test_once_runs_a_job_and_says_how_it_ended(tmp_path: Path, upstream: UpstreamProcess) -> None:
    """Exit status 0 with the result delivered, 1 with the reason, 78 for a job that is not there."""
    path = write(
        tmp_path,
        f"""[jobs.good]
url = "{upstream.url("ok")}"
sinks = [{{ kind = "file", path = "good.json" }}]
[jobs.bad]
url = "{upstream.url("status/404")}"
""",
    )
    good = fetchd("once", "good", "-c", path, folder=tmp_path)
    assert (good.returncode, good.stdout.splitlines()[0]) == (0, "good: succeeded")
    assert json.loads((tmp_path / "state/out/good.json").read_text())
    bad = fetchd("once", "bad", "-c", path, folder=tmp_path)
    assert (bad.returncode, bad.stdout.splitlines()[0]) == (1, "bad: fetch_failed (http_4xx) - the server answered 404")
    missing = fetchd("once", "goood", "-c", path, folder=tmp_path)
    assert (missing.returncode, 'did you mean "good"?' in missing.stderr) == (78, True)


def test_a_dry_run_delivers_nothing(tmp_path: Path, upstream: UpstreamProcess) -> None:
    """It shows the result and where it would go."""
    path = write(
        tmp_path,
        f"""[jobs.good]
url = "{upstream.url("ok")}"
sinks = [{{ kind = "file", path = "good.json" }}, {{ kind = "command", argv = ["touch", "{tmp_path}/ran"] }}]
""",
    )
    done = fetchd("once", "good", "--dry-run", "-c", path, folder=tmp_path)
    assert done.returncode == 0
    assert "count" in done.stdout
    assert "would go to: file, command" in done.stdout
    assert not (tmp_path / "state/out").exists()
    assert not (tmp_path / "ran").exists()


def test_once_shows_no_secret_and_nothing_that_a_terminal_obeys(tmp_path: Path, upstream: UpstreamProcess) -> None:
    """What a command or an upstream says is shown on a terminal, and pasted into tickets."""
    address = upstream.url("echo").replace("://", f"://user:{CANARY}-userinfo@")
    path = write(
        tmp_path,
        f"""[jobs.a]
url = "{address}?api_key={CANARY}-query"
headers = {{ X-Api-Key = {{ env = "A_TOKEN" }} }}
sinks = [{{ kind = "command", argv = ["sh", "-c", 'cat >&2; printf "\\033[2J" >&2; exit 3'] }}]
""",
    )
    environment = {"A_TOKEN": f"{CANARY}-env"}
    basic = b64encode(f"user:{CANARY}-userinfo".encode()).decode()
    for arguments in (["a"], ["a", "--dry-run"]):
        done = fetchd("once", *arguments, "-c", path, folder=tmp_path, environment=environment)
        shown = done.stdout + done.stderr
        assert "[redacted]" in done.stdout
        assert not any(text in shown for text in (CANARY, basic, "\x1b"))


def test_the_path_of_an_address_that_is_a_secret_is_shown_nowhere(tmp_path: Path, upstream: UpstreamProcess) -> None:
    """That of a webhook is its password; neither explain, nor once, nor a log line tells it."""
    config = """
    [jobs.a]
    url = { env = "HOOKURL" }
    interval = "300ms"
    sinks = [{ kind = "command", argv = ["sh", "-c", "echo took $FETCHD_URL ${FETCHD_URL#http:}; exit 3"] }]
    """
    path = write(tmp_path, config)
    environment = {"HOOKURL": upstream.url(f"ok/{CANARY}")}
    for verb in ("explain", "once"):
        done = fetchd(verb, "a", "-c", path, folder=tmp_path, environment=environment)
        assert "[redacted" in done.stdout
        assert CANARY not in done.stdout + done.stderr
    with Daemon(tmp_path, config, environment=environment) as daemon:
        (said,) = daemon.wait_for("command_output", job="a")[:1]
        assert re.fullmatch(r"took \[redacted\] //[\w.:]+\[redacted\]", said["stdout"].strip())
        assert daemon.stop() == 0
    assert CANARY not in "".join(daemon.raw)


def test_explain_imports_no_code(tmp_path: Path) -> None:
    """To look at a job must not run what it would run."""
    (tmp_path / "shop_tasks.py").write_text(f"open({str(tmp_path / 'imported')!r}, 'w')\n")
    path = write(tmp_path, 'python_path = ["."]\n[jobs.a]\ncollect = "shop_tasks:sync"\n')
    done = fetchd("explain", "a", "-c", path, folder=tmp_path)
    assert (done.returncode, "next slots" in done.stdout) == (0, True)
    assert not (tmp_path / "imported").exists()


@pytest.mark.parametrize("verb", ["explain", "check"])
def test_what_is_shown_holds_no_secret(tmp_path: Path, verb: str) -> None:
    """Wherever a secret was written, it is not printed."""
    (tmp_path / "token").write_text(f"https://hooks.test/{CANARY}-file\n")
    path = write(
        tmp_path,
        f"""[jobs.a]
url = "http://user:{CANARY}-userinfo@127.0.0.1:1/path?api_key={CANARY}-query"
headers = {{ X-Api-Key = "{CANARY}-header", Accept = "text/csv" }}
params = {{ token = "{CANARY}-param" }}
sinks = [{{ kind = "webhook", url = {{ file = "token" }} }}]
[jobs.b]
url = "http://127.0.0.1:1/path"
auth = {{ kind = "bearer", token = {{ env = "A_TOKEN" }} }}
""",
    )
    shown = ""
    for arguments in (["explain", "a"], ["explain", "b"]) if verb == "explain" else (["check"],):
        done = fetchd(*arguments, "-c", path, folder=tmp_path, environment={"A_TOKEN": f"{CANARY}-env"})
        assert done.returncode == 0
        shown += done.stdout + done.stderr
    assert CANARY not in shown
    if verb == "explain":
        assert "text/csv" in shown
        assert "env A_TOKEN" in shown
        assert "next slots" in done.stdout


def test_no_log_line_holds_a_secret(tmp_path: Path, upstream: UpstreamProcess) -> None:
    """Not even if the upstream echoes it, a command prints it, or an error quotes it."""
    (tmp_path / "token").write_text(f"{upstream.url('status/500')}?sig={CANARY}-webhook\n")
    auth = f'auth = {{ kind = "basic", username = "user", password = "{CANARY}-password" }}'
    config = f"""
    [log]
    level = "debug"
    [defaults]
    interval = "300ms"
    deadline = "290ms"
    retries = 0
    headers = {{ X-Api-Key = {{ env = "A_TOKEN" }} }}
    [jobs.echo]
    url = "{upstream.url("echo")}?api_key={CANARY}-query"
    {auth}
    sinks = [{{ kind = "command", argv = ["sh", "-c", "cat; exit 3"] }}]
    [jobs.refused]
    url = "http://user:{CANARY}-userinfo@127.0.0.1:1/?token={CANARY}-query2"
    [jobs.webhook]
    url = "{upstream.url("ok")}"
    sinks = [{{ kind = "webhook", url = {{ file = "token" }} }}]
    [jobs.redirected]
    url = "{upstream.url("redir")}?token={CANARY}-query3"
    """
    with Daemon(tmp_path, config, environment={"A_TOKEN": f"{CANARY}-env"}) as daemon:
        for job in ("echo", "refused", "webhook", "redirected"):
            daemon.wait_for("run_finished", 2, job=job)
        assert daemon.lines("command_output", job="echo")
        assert daemon.stop() == 0
    assert CANARY not in "".join(daemon.raw)


def test_the_service_manager_is_told(tmp_path: Path) -> None:
    """READY only once slots are armed, WATCHDOG while the loop turns, STATUS as things change, STOPPING at the end."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(10)
        environment = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "2000000"}
        config = '[jobs.a]\nurl = "http://127.0.0.1:1/"\ninterval = "200ms"\noverdue_after = "1h"\n'
        with Daemon(tmp_path, config, environment=environment) as daemon:
            heard = []
            while heard.count("WATCHDOG=1") < 2 or "STATUS=1 job, 1 failing" not in heard:
                heard.append(manager.recv(4096).decode())
            daemon.config.write_text("bad")
            daemon.signal(signal.SIGHUP)
            refused = "1 job, 1 failing; the new configuration was refused"
            while f"STATUS={refused}" not in heard:
                heard.append(manager.recv(4096).decode())
            assert daemon.stop() == 0
            while "STOPPING=1" not in heard:
                heard.append(manager.recv(4096).decode())
    ready = next(message for message in heard if message.startswith("READY=1"))
    assert "STATUS=" in ready
    assert len([message for message in heard if message.startswith("STATUS=")]) == 2, "it is told what it knows"


def test_the_schema_is_printed() -> None:
    """Editors take it from the file, scripts from the verb."""
    done = fetchd("schema", folder=ROOT)
    assert json.loads(done.stdout) == json.loads((ROOT / "config.schema.json").read_text())


def test_the_version_has_one_source() -> None:
    """What is installed, what is printed and what is built are the same."""
    from fetchd import __version__

    assert fetchd("--version", folder=ROOT).stdout == f"fetchd {__version__}\n"
    assert tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dynamic"] == ["version"]


@pytest.mark.parametrize(
    "verb", ["run", "check", "once", "explain", "schema", "demo", "status", "trigger", "pause", "resume", "reload"]
)
def test_each_verb_explains_itself(verb: str) -> None:
    """``--help`` works without a configuration, and names the verb's exit statuses or purpose."""
    done = fetchd(verb, "--help", folder=ROOT)
    assert (done.returncode, "Usage: " in done.stdout) == (0, True)


def test_a_state_directory_that_cannot_be_used(tmp_path: Path) -> None:
    """A file in its place: said clearly, with a status of its own."""
    (tmp_path / "state").write_text("a file")
    done = fetchd("run", "-c", write(tmp_path, '[jobs.a]\nurl = "http://127.0.0.1:1/"\n'), folder=tmp_path)
    assert done.returncode == 73
    assert str(tmp_path / "state") in done.stderr


@pytest.mark.skipif(bool(UNPRIVILEGED) and shutil.which(UNPRIVILEGED[0]) is None, reason="needs util-linux")
def test_what_whoever_asks_may_not_read(tmp_path: Path) -> None:
    """An administrator who forgets sudo beside a service: it is said what is another user's, and never as a defect."""
    path = write(tmp_path, '[jobs.a]\nurl = "http://127.0.0.1:1/"\nsinks = [{ kind = "file", path = "a" }]\n')
    state = tmp_path / "state"
    state.mkdir(mode=0)
    theirs = f"{state} is another user's: ask as the user that the daemon runs as, or as root\n"

    def ask(*verb: str) -> tuple[int, str]:
        done = fetchd(*verb, "-c", path, folder=tmp_path, before=UNPRIVILEGED)
        return done.returncode, done.stderr

    for verb in (("history", "a"), ("dead", "list"), ("dead", "purge", "--all")):
        assert ask(*verb) == (73, theirs)
    assert ask("status") == (69, theirs)
    assert ask("run")[0] == ask("once", "a")[0] == 73
    code, err = ask("check", "--online")
    assert (code, f"failed jobs.a.sinks.file: the folder {state} may not be written to\n" in err) == (78, True)
    Path(path).chmod(0)
    for verb in (("check",), ("run",), ("status",), ("history", "a")):
        assert ask(*verb) == (78, f"{path}: cannot be read: Permission denied\n")


@pytest.mark.parametrize("verb", ["explain", "schema", "history"])
def test_output_that_nobody_takes(tmp_path: Path, verb: str) -> None:
    """A full disk is said in a line; a reader that has seen enough ends it without a word, as other programs."""
    path = write(tmp_path, '[jobs.a]\nurl = "http://127.0.0.1:1/"\n')
    job = ["a"] if verb in {"explain", "history"} else []
    words = [verb] if verb == "schema" else [verb, *job, "-c", path]
    command = [sys.executable, "-m", "fetchd", *words]
    if verb == "history":
        fetchd("once", "a", "-c", path, folder=tmp_path)

    def ended(command: list[str], output: int | None) -> tuple[int, bytes]:
        environment = {**os.environ, "PYTHONPATH": PATHS}
        done = subprocess.run(command, env=environment, stdout=output, stderr=subprocess.PIPE, check=False)
        return done.returncode, done.stderr

    with Path("/dev/full").open("wb") as full:
        assert ended(command, full.fileno()) == (1, b"cannot write to the standard output: No space left on device\n")
    read, write_to = os.pipe()
    os.close(read)
    assert ended(command, write_to) == (128 + signal.SIGPIPE, b"")
    os.close(write_to)
    assert ended(["sh", "-c", 'exec "$@" >&-', "sh", *command], None) == (0, b"")


def test_a_closed_output_is_no_defect_where_a_terminal_is_looked_for(tmp_path: Path) -> None:
    """The status asks how wide it is."""
    with Daemon(tmp_path, '[jobs.a]\nurl = "http://127.0.0.1:1/"\ninterval = "1d"\n') as daemon:
        done = fetchd("status", "-c", str(daemon.config), folder=tmp_path, before=("sh", "-c", 'exec "$@" >&-', "sh"))
        assert (done.returncode, done.stderr) == (0, "")


def test_output_in_an_encoding_that_lacks_letters(tmp_path: Path) -> None:
    """What an upstream, or a path, says need not be in the letters of somebody's terminal."""
    path = tmp_path / "\u2713.toml"
    path.write_text('[jobs.a]\nurl = "http://127.0.0.1:1/"\n')
    latin = {"PYTHONIOENCODING": "latin-1", "HOME": "/"}
    done = fetchd("check", "-c", str(path), folder=tmp_path, environment=latin)
    assert (done.returncode, done.stdout.rpartition("/")[2]) == (0, "\\u2713.toml: 1 job, nothing wrong\n")
