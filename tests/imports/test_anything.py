"""Any text whatever: it is imported without a crash, as TOML that the daemon reads, or as comments."""

from __future__ import annotations

import tempfile
import tomllib
from pathlib import Path
from typing import Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fetchd.config import load
from fetchd.errors import ConfigError
from fetchd.imports import Choices, Imported, Surroundings, from_command, from_crontab
from fetchd.imports.curl_options import NAMES
from tests.imports.lines import ENVIRONMENT

WORDS: Final = st.sampled_from(
    [
        *("curl", "wget", "https://h.test/x", "h.test", "'http://u:p@h/?a={b,c}'", "http://h/[1-3]", "-d", "-H", "-u"),
        *(
            "'X: y'",
            "X:",
            "a=b&c=d",
            "'{\"a\":1}'",
            "-o",
            "/tmp/x",
            "rel",
            "-X",
            "POST",
            "-G",
            "-I",
            "--json",
            "-x",
            "|",
        ),
        *("&&", ";", ">", "2>&1", ">>", "jq .", "$TOKEN", '"Bearer $TOKEN"', "$(date)", "timeout 5", "flock -n f", "-"),
        *(
            "sh -c",
            "'curl h'",
            "-m",
            "0.5",
            "99999",
            "é",
            "{now}",
            "@file",
            "@-",
            "--next",
            "--",
            "\\\n",
            "~/x",
            "http://",
        ),
        *(
            "-b",
            "a=1",
            "--retry",
            "3",
            "-k",
            "--unix-socket",
            "/run/x.sock",
            "$'\\x00'",
            "cd /srv &&",
            "-e",
            "A=b",
            "''",
        ),
    ]
)
OPTIONS: Final = st.sampled_from(sorted(NAMES)).map(lambda name: f"--{name}")
LINES: Final = st.lists(WORDS | OPTIONS | st.text(max_size=5), max_size=9).map(" ".join)
TIMES: Final = st.sampled_from(
    ["* * * * *", "*/5 1 * * mon", "@hourly", "@every 5m", "@reboot", "0 0 31 2 *", "A=b", "*"]
)


def _sound(found: Imported) -> None:
    """Check that what was imported is TOML, and a configuration but for files that are not there."""
    jobs = tomllib.loads(found.text).get("jobs", {})
    assert len(jobs) == found.jobs
    found.text.encode()


@settings(deadline=None, database=None, max_examples=150, derandomize=True)
@given(LINES, st.sampled_from(["inline", "env"]))
def test_any_command(line: str, secrets: str) -> None:
    """A command line, however odd."""
    choices = Choices(secrets="env" if secrets == "env" else "inline")
    _sound(from_command(f"curl {line}", Surroundings(folder="/srv"), choices))


@settings(deadline=None, database=None, max_examples=100, derandomize=True)
@given(
    st.lists(st.tuples(TIMES, LINES).map(" curl ".join) | st.text(max_size=20), max_size=4).map("\n".join),
    st.booleans(),
)
def test_any_crontab(text: str, system: bool) -> None:
    """A crontab, however odd."""
    _sound(from_crontab(text, Surroundings(), Choices(), system=system))


@settings(deadline=None, database=None, max_examples=60, derandomize=True)
@given(LINES.filter(lambda line: not {"cert", "key", "cacert"} & {word.lstrip("-") for word in line.split()}))
def test_what_is_imported_has_no_finding(line: str) -> None:
    """What is not a comment is what `fetchd check` accepts, once its variables are set."""
    found = from_command(f"curl http://first.test {line}", Surroundings(), Choices())
    if not found.jobs:
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "imported.toml"
        path.write_text(found.text, encoding="utf-8")
        try:
            load(path, environment=_Everything(ENVIRONMENT), functions=False)
        except ConfigError as error:
            # What a variable holds that is a URL as a whole is the user's matter.
            if left := [finding for finding in error.findings if "a URL begins with" not in finding.message]:
                pytest.fail(str(left))


class _Everything(dict[str, str]):
    """An environment in which every variable is set."""

    def get(self, name: str, default: str | None = None) -> str | None:  # type: ignore[override]
        """Return the variable's value."""
        if name.upper() in {"HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"}:
            return default
        if name.endswith(("URL", "PROXY")):
            return "http://in.test:1/"
        return super().get(name, default) or "x"
