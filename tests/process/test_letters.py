"""What the command line tells and changes of what was kept, with the daemon running and without it."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from fetchd.store import letters
from tests.process.daemon import Daemon, fetchd
from tests.upstream import UpstreamProcess


def config_of(folder: Path, upstream: UpstreamProcess) -> str:
    """Return a job whose command refuses for good until a file says otherwise."""
    return f"""
    [jobs.a]
    url = "{upstream.url("ok")}"
    interval = "300ms"
    deadline = "290ms"
    sinks = [{{ kind = "command", argv = ["sh", "-c", "test -e {folder}/open || exit 65; cat >> {folder}/taken"] }}]
    """


def test_dead_letters_are_listed_shown_replayed_and_purged(tmp_path: Path, upstream: UpstreamProcess) -> None:
    """A delivery that was refused for good waits for a person, who may try it again without a restart."""
    with Daemon(tmp_path, config_of(tmp_path, upstream)) as daemon:
        daemon.wait_for("delivery_dead", 2, job="a", sink="command")
        config = ("-c", str(daemon.config))
        listed = fetchd("dead", "list", *config, folder=tmp_path)
        assert listed.returncode == 0
        first = listed.stdout.split()[0]
        shown = fetchd("dead", "show", first, *config, folder=tmp_path).stdout
        assert "exited with status 65" in shown
        assert '"count"' in shown
        (tmp_path / "open").touch()
        replayed = fetchd("dead", "replay", first, *config, folder=tmp_path)
        assert replayed.stdout == "1 delivery to be tried again\n"
        daemon.wait_until(lambda: first not in {letter.id for letter in letters.dead_letters(daemon.state)})
        daemon.wait_until(lambda: letters.memory(daemon.state, "a").owed == 0)
        assert daemon.stop() == 0
    before = letters.memory(daemon.state, "a").dead
    assert before >= 1
    second = letters.dead_letters(daemon.state)[0].id
    assert fetchd("dead", "purge", second, *config, folder=tmp_path).stdout == "1 dead letter thrown away\n"
    assert letters.memory(daemon.state, "a").dead == before - 1
    assert fetchd("dead", "replay", *config, folder=tmp_path).returncode == 2
    fetchd("dead", "purge", "--all", *config, folder=tmp_path)
    assert fetchd("dead", "list", *config, folder=tmp_path).stdout == "no dead letters\n"


def test_history_tells_how_runs_ended(tmp_path: Path, upstream: UpstreamProcess) -> None:
    """The newest first, failures apart if wanted, whether or not the daemon runs."""
    config = f'[jobs.a]\nurl = "{upstream.url("status/500")}"\ninterval = "100ms"\nretries = 0\n'
    with Daemon(tmp_path, config) as daemon:
        daemon.wait_for("run_finished", 3, job="a")
        assert daemon.stop() == 0
    told = fetchd("history", "a", "-n", "2", "-c", str(daemon.config), folder=tmp_path).stdout.splitlines()
    assert len([line for line in told if "fetch_failed (http_5xx)" in line]) == 2
    none = fetchd("history", "a", "-c", str(daemon.config), folder=tmp_path.parent)
    assert none.returncode == 0


def test_a_name_that_says_nothing_is_not_taken_for_a_quiet_job(tmp_path: Path, upstream: UpstreamProcess) -> None:
    """One that is misspelt; not one that was removed, or has no run yet, nor any where the file cannot tell."""
    config = config_of(tmp_path, upstream) + f'[jobs.never]\nurl = "{upstream.url("ok")}"\ninterval = "30d"\n'
    with Daemon(tmp_path, config) as daemon:
        daemon.wait_for("delivery_dead", job="a")
        assert daemon.stop() == 0
    asked = [("-c", str(daemon.config)), ("--state-dir", str(daemon.state))]
    for where in asked:
        for verb in (("history",), ("dead", "list", "--job")):
            wrong = fetchd(*verb, "nevr", *where, folder=tmp_path)
            assert (wrong.returncode, wrong.stdout) == (78, "")
            assert wrong.stderr.endswith('nevr: there is no such job, and none is on record; did you mean "never"?\n')
            assert fetchd(*verb, "never", *where, folder=tmp_path).returncode == 0
    daemon.config.write_text(daemon.config.read_text().replace("[jobs.a]", "[jobs.added]"))
    for job, words in (("a", "delivery_failed (sink)"), ("added", "added: no run is on record")):
        told = fetchd("history", job, *asked[0], folder=tmp_path)
        assert (told.returncode, words in told.stdout) == (0, True)
    daemon.config.write_text(f"{daemon.config.read_text()}\n[jobs.")
    assert fetchd("history", "nevr", *asked[0], folder=tmp_path).stdout == "nevr: no run is on record\n"


def test_a_dead_letter_that_is_not_there(tmp_path: Path, upstream: UpstreamProcess) -> None:
    """Who misspells its id is told so; those that are there are tried again, or thrown away, all the same."""
    with Daemon(tmp_path, config_of(tmp_path, upstream)) as daemon:
        daemon.wait_for("delivery_dead", 2, job="a")
        assert daemon.stop() == 0
    first = letters.dead_letters(daemon.state)[0].id
    for verb, words in (("replay", "1 delivery to be tried again\n"), ("purge", "0 dead letters thrown away\n")):
        done = fetchd("dead", verb, first, "nosuch-file", "-c", str(daemon.config), folder=tmp_path)
        assert (done.returncode, done.stdout) == (1, words)
        missing = ["nosuch-file"] if verb == "replay" else [first, "nosuch-file"]
        assert done.stderr.splitlines() == [
            f"there is no dead letter {id}: `fetchd dead list` shows those that there are" for id in missing
        ]


def test_a_damaged_database_is_set_aside_only_when_asked(tmp_path: Path, upstream: UpstreamProcess) -> None:
    """The daemon refuses, says how to go on, and keeps what was there under a name with its date."""
    config = f'[jobs.a]\nurl = "{upstream.url("ok")}"\n'
    (tmp_path / "state").mkdir()
    (tmp_path / "state/state.db").write_bytes(b"this is no database, whatever its name says" * 100)
    daemon = Daemon(tmp_path, config)
    refused = fetchd("run", "-c", str(daemon.config), folder=tmp_path)
    assert refused.returncode == 73
    assert "--new-state" in refused.stderr
    with Daemon(tmp_path, config, arguments=["--new-state"]) as daemon:
        aside = Path(daemon.lines("state_set_aside")[0]["path"])
        assert daemon.stop() == 0
    assert aside.read_bytes().startswith(b"this is no database")


def test_a_terminal_that_closes_does_not_end_the_daemon(tmp_path: Path, upstream: UpstreamProcess) -> None:
    """SIGHUP's default is to end the process without a word."""
    with Daemon(tmp_path, f'[jobs.a]\nurl = "{upstream.url("ok")}"\n') as daemon:
        daemon.signal(signal.SIGHUP)
        daemon.wait_for("config_reloaded")
        assert daemon.stop() == 0


def test_a_removed_lock_is_noticed(tmp_path: Path, upstream: UpstreamProcess) -> None:
    """A second daemon could start on the same state: this one says so and makes way."""
    with Daemon(tmp_path, f'[jobs.a]\nurl = "{upstream.url("ok")}"\n') as daemon:
        (daemon.state / "lock").unlink()
        assert daemon.wait() == 70
        assert "lock file" in daemon.lines("daemon_failed")[0]["message"]


def test_once_gives_a_stuck_run_up(tmp_path: Path) -> None:
    """The command line comes back, with the reason, even from a function that ignores its cancellation."""
    (tmp_path / "stubborn.py").write_text(
        "import asyncio\n\n\nasync def stay(context):\n    while True:\n        try:\n"
        "            await asyncio.sleep(60)\n        except asyncio.CancelledError:\n            pass\n"
    )
    path = tmp_path / "c.toml"
    path.write_text(
        '[daemon]\nstate_dir = "state"\npython_path = ["."]\n'
        '[jobs.a]\ncollect = "stubborn:stay"\ninterval = "1s"\ndeadline = "300ms"\n'
    )
    done = fetchd("once", "a", "-c", str(path), folder=tmp_path)
    assert (done.returncode, "(stuck)" in done.stdout) == (1, True)


@pytest.mark.parametrize("closed", ["2>&-", "0<&- 1>&- 2>&-"])
def test_closed_standard_streams(tmp_path: Path, upstream: UpstreamProcess, closed: str) -> None:
    """Some supervisors close them: the first file opened must not be taken for stderr."""
    import subprocess
    import sys

    from tests.process.daemon import PATHS

    (tmp_path / "c.toml").write_text(
        f'[daemon]\nstate_dir = "state"\n[jobs.a]\nurl = "{upstream.url("ok")}"\n'
        'sinks = [{ kind = "file", path = "a" }]\n'
    )
    command = f"exec {sys.executable} -m fetchd once a -c c.toml {closed}"
    done = subprocess.run(["sh", "-c", command], cwd=tmp_path, env={"PYTHONPATH": PATHS, "HOME": "/"}, check=False)
    assert done.returncode == 0
    assert '"count"' in (tmp_path / "state/out/a").read_text()


def test_what_was_kept_is_shown_without_secrets(tmp_path: Path, upstream: UpstreamProcess) -> None:
    """A command that prints its token into an error, an upstream that echoes a header: neither reaches the terminal."""
    secret = "canary-77c1d0"
    config = f"""
    [jobs.a]
    url = "{upstream.url("echo")}"
    headers = {{ X-Api-Key = "{secret}" }}
    interval = "300ms"
    deadline = "290ms"
    sinks = [{{ kind = "command", argv = ["sh", "-c", "cat >&2; exit 65"] }}]
    """
    with Daemon(tmp_path, config) as daemon:
        daemon.wait_for("delivery_dead", job="a")
        assert daemon.stop() == 0
    id = letters.dead_letters(daemon.state)[0].id
    told = "".join(
        fetchd(*verb, "-c", str(daemon.config), folder=tmp_path).stdout
        for verb in (("dead", "list"), ("dead", "show", id), ("history", "a"))
    )
    assert "x-api-key" in told.lower()
    assert "[redacted]" in told
    assert secret not in told


def test_what_was_kept_is_shown_where_the_secrets_are_not(tmp_path: Path, upstream: UpstreamProcess) -> None:
    """An administrator has no credentials of the service: messages are kept without them, and a body is not shown."""
    secret, path = "canary-5be3f2", tmp_path / "key"
    path.write_text(secret)
    config = f"""
    [jobs.a]
    url = "{upstream.url("echo")}"
    headers = {{ X-Api-Key = {{ file = "{path}" }} }}
    interval = "300ms"
    deadline = "290ms"
    sinks = [{{ kind = "command", argv = ["sh", "-c", "cat >&2; exit 65"] }}]
    """
    with Daemon(tmp_path, config) as daemon:
        daemon.wait_for("delivery_dead", job="a")
        assert daemon.stop() == 0
    path.unlink()
    id = letters.dead_letters(daemon.state)[0].id
    for known in (("-c", str(daemon.config)), ("--state-dir", str(daemon.state))):
        verbs = (("dead", "list"), ("dead", "show", id), ("history", "a"))
        done = [fetchd(*verb, *known, folder=tmp_path) for verb in verbs]
        assert [one.returncode for one in done] == [0, 0, 0]
        assert all("[redacted]" in one.stdout for one in done[:2])
        assert "x-api-key" in done[1].stdout.lower()
        assert done[1].stdout.rstrip().splitlines()[-1].startswith("error")
        assert "the body" in done[1].stderr
        assert not [one for one in done if secret in one.stdout + one.stderr]
    purged = fetchd("dead", "purge", "--all", "--state-dir", str(daemon.state), folder=tmp_path)
    assert "thrown away" in purged.stdout
