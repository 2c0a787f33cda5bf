"""The verbs on the command line: what they print, and how they end."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from fetchd.cli import main
from tests.imports.lines import ENVIRONMENT


def run(*words: str, stdin: str | bytes | None = None) -> Result:
    """Run ``fetchd import`` with ``words``."""
    return CliRunner().invoke(main, ["import", *words], input=stdin, env={**ENVIRONMENT, "HOME": "/"})


@pytest.mark.parametrize(
    ("words", "stdin"),
    [
        (("curl", "curl -s https://h.test/rates"), None),
        (("curl", "--name", "h-rates", "--interval", "5m", "curl -s https://h.test/rates"), None),
        (("curl", "curl", "-s", "https://h.test/rates"), None),
        (("curl", "-s", "https://h.test/rates"), None),
        (("curl", "-"), "curl -s \\\n  https://h.test/rates\n"),
    ],
)
def test_a_command(words: tuple[str, ...], stdin: str | None) -> None:
    """Quoted, bare, or on the standard input: it is the same job, and passes `fetchd check`."""
    result = run(*words, stdin=stdin)
    assert result.exit_code == 0
    assert "[jobs.h-rates]\n" in result.stdout
    assert 'url = "https://h.test/rates"\ninterval = "5m"\n' in result.stdout


def test_what_is_printed_passes_check(tmp_path: Path) -> None:
    """The text goes from one verb to the other as it is."""
    crontab = tmp_path / "crontab"
    crontab.write_text("*/5 * * * * curl -s https://h.test/x | cat\n0 1 * * * true\n")
    printed = run("crontab", str(crontab), "--timezone", "Europe/Prague")
    assert (printed.exit_code, printed.stderr) == (0, "1 imported; 1 not, as the comments say\n")
    config = tmp_path / "fetchd.toml"
    config.write_text(printed.stdout)
    checked = CliRunner().invoke(main, ["check", "-c", str(config)], env={"HOME": str(tmp_path)})
    assert checked.exit_code == 0, checked.output


def test_a_crontab_on_the_standard_input() -> None:
    """`crontab -l | fetchd import crontab -` is how a user's own is had; old ones are not all UTF-8."""
    result = run("crontab", "-", stdin=b"# caf\xe9\n@daily curl https://h.test/x\n0 1 * * * echo \xe9\n")
    assert result.exit_code == 0
    assert "[jobs.h]" in result.stdout
    assert "echo \\udce9" in result.stdout


def test_nothing_to_import() -> None:
    """A script can tell that there is no job."""
    result = run("curl", "echo hello")
    assert result.exit_code == 1
    assert "# Not imported: no fetch with curl or wget." in result.stdout


def test_no_command_at_all() -> None:
    """A preamble alone says nothing."""
    result = run("curl", "curl")
    assert (result.exit_code, result.stderr) == (1, "there is no command to import\n")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("curl", "--interval", "5", "curl https://h.test"), "not a duration"),
        (("curl", "--interval", "1ms", "curl https://h.test"), "the shortest is 10ms"),
        (("curl", "--name", "a b", "curl https://h.test"), "letters, digits"),
        (("crontab", "/nonexistent/crontab"), "cannot be read"),
        (("crontab", "-", "--timezone", "Nowhere"), "there is no time zone"),
        (("curl",), "Missing argument"),
    ],
)
def test_what_is_said_wrongly(words: tuple[str, ...], message: str) -> None:
    """Options are judged before anything is printed."""
    result = run(*words, stdin="")
    assert result.exit_code == 2
    assert message in result.stderr
    assert not result.stdout
