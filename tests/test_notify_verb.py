"""`fetchd notify test` through real notifiers: what arrives, what is said of those that fail, and what is not shown."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from fetchd.cli import main
from fetchd.instance import hold

CANARY = "canary-20b6d4"
JOB = '[jobs.a]\nurl = "http://127.0.0.1:1/"\n'


def config(folder: Path, notifiers: str) -> str:
    """Write a configuration with ``notifiers`` and return its path."""
    path = folder / "fetchd.toml"
    path.write_text(f'[daemon]\nstate_dir = "state"\n{notifiers}{JOB}')
    return str(path)


def command(name: str, script: str) -> str:
    """Return a notifier that runs ``script``."""
    return f"[notifiers.{name}]\nkind = \"command\"\nargv = ['sh', '-c', '{script}']\n"


def test_each_notifier_is_tried_beside_a_running_daemon(tmp_path: Path) -> None:
    """It takes no lock, makes no folder, and one that fails does not keep the message from the others."""
    notifiers = command("good", f"cat > {tmp_path}/taken") + command("bad", "echo no such room >&2; exit 3")
    path = config(tmp_path, notifiers)
    with hold(tmp_path / "state"):
        before = sorted((tmp_path / "state").iterdir())
        done = CliRunner().invoke(main, ["notify", "test", "-c", path])
        assert sorted((tmp_path / "state").iterdir()) == before
    assert done.exit_code == 1
    assert done.stdout == "good: taken\n"
    assert done.stderr == "bad: not taken: sh exited with status 3: no such room\n"
    message = json.loads((tmp_path / "taken").read_text())
    assert message["state"] == "test"
    assert message["title"].endswith(": this is a test")


def test_one_alone(tmp_path: Path) -> None:
    """Whoever mends one notifier does not want to wake those behind the others."""
    notifiers = command("one", f"touch {tmp_path}/one") + command("two", f"touch {tmp_path}/two")
    done = CliRunner().invoke(main, ["notify", "test", "two", "-c", config(tmp_path, notifiers)])
    assert (done.exit_code, done.output) == (0, "two: taken\n")
    assert [(tmp_path / name).exists() for name in ("one", "two")] == [False, True]
    assert not (tmp_path / "state").exists()


def test_secrets_do_not_come_back(tmp_path: Path) -> None:
    """An address that is told of problems is a secret, and a failing command may say what it was given."""
    notifiers = f"""[notifiers.hook]
kind = "webhook"
url = "http://127.0.0.1:1/{CANARY}"
[notifiers.loud]
kind = "command"
argv = ["sh", "-c", 'echo "$PASSWORD" >&2; exit 1']
env = {{ PASSWORD = "{CANARY}" }}
"""
    done = CliRunner().invoke(main, ["notify", "test", "-c", config(tmp_path, notifiers)])
    assert done.exit_code == 1
    assert "hook: not taken: http://127.0.0.1:1: cannot connect to 127.0.0.1:1: Connection refused" in done.stderr
    assert "loud: not taken: sh exited with status 1: [redacted]" in done.stderr
    assert CANARY not in done.output


@pytest.mark.parametrize(
    ("notifiers", "name", "said"),
    [
        (command("ops", "true"), "opps", 'notifiers.opps: there is no such notifier; did you mean "ops"?'),
        (command("ops", "true"), "x", "notifiers.x: there is no such notifier; there are ops"),
        ("", "ops", "notifiers.ops: there is no such notifier; add a table [notifiers.ops]"),
        ("", None, "notifiers: there are none: add a table such as [notifiers.ops]"),
    ],
)
def test_a_notifier_that_there_is_not(notifiers: str, name: str | None, said: str, tmp_path: Path) -> None:
    """A test that tests nothing must not look like one that went well."""
    path = config(tmp_path, notifiers)
    done = CliRunner().invoke(main, ["notify", "test", *([name] if name else []), "-c", path])
    assert (done.exit_code, done.stdout, done.stderr) == (78, "", f"{path}: {said}\n")
