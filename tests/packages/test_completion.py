"""Completion, as the shells ask for it: each TAB is a process of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from fetchd.cli.completion import SHELLS

ROOMS: Final = ("aiohttp", "asyncio", "httpx", "pydantic", "sqlite3", "structlog")
"""What takes time to import, and is not needed to tell names."""
CANARY: Final = "canary-71b0de"
CONFIG: Final = f"""
[jobs.rates]
url = "http://127.0.0.1:1/?key={CANARY}"
[jobs.rain]
[jobs.weather]
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Give a folder with a configuration that is not good, but has names, and the program on the path."""
    (tmp_path / "fetchd.toml").write_text(CONFIG)
    program = tmp_path / "bin/fetchd"
    program.parent.mkdir()
    program.write_text(f"#!{sys.executable}\nfrom fetchd.cli import main\nmain()\n")
    program.chmod(0o755)
    return tmp_path


def call(folder: Path, *command: str, **environment: str) -> str:
    """Return what ``command`` prints."""
    path = f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}"
    inherited = {name: value for name, value in os.environ.items() if name != "FETCHD_CONFIG"}
    kept = {**inherited, "PATH": path, "HOME": str(folder), "XDG_CONFIG_HOME": str(folder), **environment}
    done = subprocess.run(command, cwd=folder, env=kept, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def completed(folder: Path, words: str) -> list[str]:
    """Return how the last of ``words`` may go on."""
    asked = {"COMP_WORDS": words, "COMP_CWORD": str(words.count(" ")), "_FETCHD_COMPLETE": "bash_complete"}
    said = call(folder, "fetchd", **asked).split()
    return [kind_and_word.partition(",")[2] for kind_and_word in said]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("fetchd che", ["check"]),
        ("fetchd once ra", ["rain", "rates"]),
        ("fetchd explain we", ["weather"]),
        ("fetchd history r", ["rain", "rates"]),
        ("fetchd trigger w", ["weather"]),
        ("fetchd pause rain ra", ["rates"]),
        ("fetchd resume rates rain ", ["weather"]),
        ("fetchd dead list --job w", ["weather"]),
        ("fetchd once -c other.toml ", ["else"]),
        ("fetchd once -c ~/other.toml ", ["else"]),
        ("fetchd once -c missing.toml ", []),
        ("fetchd once -c broken.toml ", []),
        ("fetchd once -c array.toml ", []),
        ("fetchd completion z", ["zsh"]),
    ],
)
def test_words(folder: Path, words: str, expected: list[str]) -> None:
    """Verbs, options and the jobs that are not named yet; where the file tells none, nothing, and no complaint."""
    (folder / "other.toml").write_text("[jobs.else]\n")
    (folder / "broken.toml").write_text("[jobs.else\n")
    (folder / "array.toml").write_text("jobs = [1]\n")
    assert completed(folder, words) == expected


def test_it_is_quick(folder: Path) -> None:
    """Somebody waits for each answer: nothing is imported that the daemon alone needs."""
    program = f"import atexit, sys; atexit.register(lambda: print({ROOMS!r} & sys.modules.keys()))"
    program = (
        program.replace(repr(ROOMS), f"set({ROOMS!r})") + "\nfrom fetchd.cli import main\nmain(prog_name='fetchd')"
    )
    asked = {"COMP_WORDS": "fetchd once ra", "COMP_CWORD": "2", "_FETCHD_COMPLETE": "bash_complete"}
    assert call(folder, sys.executable, "-c", program, **asked) == "plain,rain\nplain,rates\nset()\n"


@pytest.mark.parametrize("shell", SHELLS)
def test_nothing_of_a_job_but_its_name(folder: Path, shell: str) -> None:
    """Descriptions would be nice; addresses hold keys, and a terminal is looked at by others."""
    asked = {"COMP_WORDS": "fetchd once ra", "COMP_CWORD": "2" if shell != "fish" else "ra"}
    said = call(folder, "fetchd", _FETCHD_COMPLETE=f"{shell}_complete", **asked)
    assert "rates" in said
    assert CANARY not in said


def test_bash(folder: Path) -> None:
    """The script, in the shell that it is for."""
    script = (
        'source <(fetchd completion bash); COMP_WORDS=(fetchd once ra); COMP_CWORD=2; "$(complete -p fetchd | '
        'sed -E "s/.*-F ([^ ]+) .*/\\1/")" fetchd; echo "${COMPREPLY[@]}"'
    )
    assert call(folder, "bash", "--norc", "-c", script) == "rain rates\n"


@pytest.mark.skipif(shutil.which("zsh") is None, reason="needs the Debian package zsh")
def test_zsh(folder: Path) -> None:
    """The script is one that it reads, and sets itself up for the program."""
    script = "autoload -U compinit; compinit -D; source <(fetchd completion zsh); print $_comps[fetchd]"
    assert call(folder, "zsh", "-f", "-c", script) == "_fetchd_completion\n"


@pytest.mark.skipif(shutil.which("fish") is None, reason="needs the Debian package fish")
def test_fish(folder: Path) -> None:
    """The script, in the shell that it is for."""
    said = call(folder, "fish", "--no-config", "-c", "fetchd completion fish | source; complete -C 'fetchd once ra'")
    assert said.splitlines() == ["rain", "rates"]
