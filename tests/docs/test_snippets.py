"""Whatever a reader copies from the documents is right: each configuration loads, each command is one that there is."""

from __future__ import annotations

import ast
import json
import re
import shlex
import tomllib
from pathlib import Path

import click
import pytest

from fetchd.cli import main
from fetchd.config import load
from tests.docs.book import DOCS, ROOT, Block, all_blocks
from tests.docs.declared import furnish
from tests.docs.shell import lines
from tests.systemd.pages import PAGES

JOB = '\n[jobs.another]\nurl = "https://api.example.com/"\n'


def configurations() -> list[Block]:
    """Return the snippets of fetchd's own configuration; what is a file is played with its page."""
    return [block for block in all_blocks("toml") if block.mark in ("", "machine")]


def complete(text: str) -> str:
    """Return ``text`` with what a page leaves out that shows a part: a job, and notifiers that are named."""
    data = tomllib.loads(text)
    if "jobs" not in data:
        text += JOB
    named = set(re.findall(r'notify = \["(\w+)"\]', text)) - set(data.get("notifiers", ()))
    return text + "".join(f'\n[notifiers.{name}]\nkind = "command"\nargv = ["true"]\n' for name in sorted(named))


def test_no_command_is_merely_printed() -> None:
    """What a reader types is typed by a test, and where that is not this folder's, the page says whose."""
    assert {block.mark for block in all_blocks("sh")} == {"run", "machine", "elsewhere"}
    assert not all_blocks("console", "shell", "bash")
    machine = {block.page for block in all_blocks("sh") if block.mark == "machine"}
    assert machine == {DOCS / name for name in PAGES}
    for block in all_blocks("sh"):
        if block.mark == "elsewhere":
            place = ROOT / block.what
            text = "".join(path.read_text() for path in (place.rglob("*.py") if place.is_dir() else [place]))
            missing = [verb for verb in _verbs(block) if f'"{verb}"' not in text]
            assert "blocks(" in text or not missing, f"{block}: {block.what} does not do {missing}"


def _verbs(block: Block) -> set[str]:
    """Return the verbs that ``block`` calls; of a group of them, what is called of it."""
    calls = (shlex.split(call) for line in lines(block.text) for call in re.findall(r"\bfetchd ([a-z][^|&;>]*)", line))
    return {words[1] if isinstance(main.commands.get(words[0]), click.Group) else words[0] for words in calls}


@pytest.mark.parametrize("block", configurations(), ids=str)
def test_a_configuration_loads(block: Block, tmp_path: Path) -> None:
    """A reader who copies it must not be met with a finding."""
    environment = furnish(tmp_path)
    path = tmp_path / "fetchd.toml"
    path.write_text(complete(block.text).replace("/run/secrets", "run/secrets"), encoding="utf-8")
    assert load(path, environment=environment, functions=False).jobs


@pytest.mark.parametrize("block", all_blocks("python"), ids=str)
def test_python_is_python(block: Block) -> None:
    """A typing error in the example of a function is a bad first impression."""
    ast.parse(block.text)


@pytest.mark.parametrize("block", all_blocks("json"), ids=str)
def test_json_is_json(block: Block) -> None:
    """Who writes a receiver goes by it."""
    json.loads(block.text)


@pytest.mark.parametrize("block", all_blocks("sh"), ids=str)
def test_commands_are_there(block: Block) -> None:
    """A verb or an option that was renamed takes the documents with it."""
    for line in lines(block.text):
        for call in re.findall(r"(?:^|[|;] |^sudo |exec fetchd |=\S+ +)(fetchd [^|&;>]*)", line):
            judge(shlex.split(call, comments=True)[1:])


def judge(arguments: list[str]) -> None:
    """Parse a command line as `fetchd` does, without carrying it out."""
    if arguments[:1] in (["--version"], ["--help"]):
        return
    command: click.Command = main
    while isinstance(command, click.Group):
        found = command.get_command(click.Context(command), arguments[0])
        assert found is not None, arguments
        command, arguments = found, arguments[1:]
    if "--help" not in arguments:
        command.make_context("fetchd", list(arguments), resilient_parsing=False).close()
