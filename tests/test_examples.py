"""What users copy works: every example, command and link in the documents and the files beside them."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from fetchd.cli import main
from fetchd.config import load

ROOT = Path(__file__).parents[1]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")
ENVIRONMENT = {"HOME": "/nonexistent", "RATES_TOKEN": "x"}


def blocks(language: str) -> list[tuple[Path, str]]:
    """Return the code blocks in ``language`` of all documents."""
    return [
        (document, text)
        for document in DOCUMENTS
        for found, text in BLOCK.findall(document.read_text())
        if found == language
    ]


def verbs(text: str) -> set[str]:
    """Return the verbs that ``text`` calls fetchd with."""
    return set(re.findall(r"^\s*(?:\S*/)?fetchd ([a-z]+)", text, re.MULTILINE))


OF_THE_README = [(document, text) for document, text in blocks("toml") if document.parent == ROOT]
"""What the pages of docs show is tested in tests/docs."""


@pytest.mark.parametrize(("document", "text"), OF_THE_README, ids=lambda value: getattr(value, "name", ""))
def test_configurations_in_documents_load(document: Path, text: str, tmp_path: Path) -> None:
    """A newcomer copies the first block that is there."""
    path = tmp_path / "fetchd.toml"
    path.write_text(text)
    assert load(path, environment=ENVIRONMENT, functions=False).jobs


def test_there_is_a_configuration_in_the_readme() -> None:
    """The test above must have something to look at."""
    assert "README.md" in {document.name for document, _ in blocks("toml")}


@pytest.mark.parametrize(("document", "text"), blocks("python"), ids=lambda value: getattr(value, "name", ""))
def test_python_in_documents_parses(document: Path, text: str) -> None:
    """A typing error in the example of a user's function is a bad first impression."""
    ast.parse(text)


def test_verbs_in_documents_exist() -> None:
    """Documents, unit and image call only what the command line has."""
    called = {verb for _, text in blocks("sh") for verb in verbs(text)}
    unit = (ROOT / "systemd/fetchd.service").read_text()
    called |= set(re.findall(r"^Exec\w+=\S*/fetchd (\w+)", unit, re.MULTILINE))
    called |= set(re.findall(r'^CMD \["(\w+)"', (ROOT / "Dockerfile").read_text(), re.MULTILINE))
    assert {"run", "check", "once", "explain"} <= called
    assert called <= set(main.commands)


def test_make_targets_in_documents_exist() -> None:
    """The two commands of the README are the first thing that anyone types."""
    makefile = (ROOT / "Makefile").read_text()
    wanted = {target for _, text in blocks("sh") for target in re.findall(r"^make ([a-z-]+)", text, re.MULTILINE)}
    wanted |= set(re.findall(r"`make ([a-z-]+)`", "".join(document.read_text() for document in DOCUMENTS)))
    assert {"run", "test"} <= wanted
    assert wanted <= set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: str(document.relative_to(ROOT)))
def test_links_lead_somewhere(document: Path) -> None:
    """A file that was moved takes its links with it."""
    for target in LINK.findall(document.read_text()):
        if "://" not in target:
            assert (document.parent / target).exists(), target


def test_the_unit_grants_more_time_than_the_daemon_takes() -> None:
    """systemd must not kill what is still draining, nor before the daemon has dumped the stacks of a stalled loop."""
    unit = dict(
        line.split("=", 1) for line in (ROOT / "systemd/fetchd.service").read_text().splitlines() if "=" in line
    )
    daemon = load(ROOT / "config.example.toml", environment=ENVIRONMENT).daemon
    assert int(unit["TimeoutStopSec"]) > daemon.shutdown_grace + 5
    assert int(unit["WatchdogSec"]) > daemon.stall_timeout


def test_help_names_every_verb() -> None:
    """``fetchd`` without arguments tells what there is."""
    shown = CliRunner().invoke(main, ["--help"]).output
    for verb in main.commands:
        assert re.search(rf"^  {verb} +\w", shown, re.MULTILINE)


def test_nothing_names_an_index_or_a_machine() -> None:
    """Locks carry hashes without addresses, and no file a path of the machine that it was written on."""
    # Written in two pieces, so that this file does not name them either.
    forbidden = ["files.python" + "hosted", "py" + "pi.org", "registry.npm" + "js", "deb.debian" + ".org"]
    for path in [*ROOT.glob("*"), *ROOT.glob("requirements/*"), *ROOT.glob("docs/**/*"), *ROOT.glob("tests/**/*.py")]:
        if path.is_file():
            text = path.read_text(errors="replace")
            assert not [word for word in forbidden if word in text], path
