"""Files that are no configuration at all: each is answered with a finding, and a line where there is one."""

from __future__ import annotations

from pathlib import Path

import pytest

from fetchd.config import load
from fetchd.config.document import DEEPEST
from fetchd.errors import ConfigError
from tests.config.files import ENVIRONMENT

JOB = b'[jobs.a]\nurl = "http://h/"\n'


def finding(path: Path) -> str:
    with pytest.raises(ConfigError) as caught:
        load(path, environment=ENVIRONMENT)
    (only,) = caught.value.findings
    return str(only)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a = 1\nb = \n", ":2: is not TOML: Invalid value"),
        (b"a = 1\na = 2\n", ":2: is not TOML: Cannot overwrite a value"),
        (b'a = "x', ":1: is not TOML: Unterminated string"),
        (b'\n\na = """x\n', ":4: is not TOML: Unterminated string"),
        (b"a = 1\nb = '\xe9'\n", ":2: is not UTF-8 text"),
        (b"a = " + b"9" * 5000, ": is not TOML: Exceeds the limit"),
        (b"a = " + b"[" * 5000 + b"]" * 5000, ": is nested too deeply"),
        (b"a = " + b"[" * DEEPEST + b"]" * DEEPEST, ": is nested too deeply"),
        (b".".join([b"a"] * 5000) + b" = 1", ": is nested too deeply"),
    ],
)
def test_what_is_not_toml_is_a_finding(tmp_path: Path, content: bytes, message: str) -> None:
    """A typing error must not end in a traceback."""
    path = tmp_path / "config.toml"
    path.write_bytes(content)
    assert finding(path).startswith(f"{path}{message}")


def test_a_file_that_cannot_be_read_is_a_finding(tmp_path: Path) -> None:
    """The file may be missing, or be a folder."""
    assert finding(tmp_path / "none.toml") == f"{tmp_path}/none.toml: cannot be read: No such file or directory"
    assert finding(tmp_path) == f"{tmp_path}: cannot be read: Is a directory"


@pytest.mark.parametrize("content", [b"\xef\xbb\xbf" + JOB, JOB.replace(b"\n", b"\r\n")])
def test_what_editors_add_does_no_harm(tmp_path: Path, content: bytes) -> None:
    """Some write a byte order mark, or other line ends."""
    path = tmp_path / "config.toml"
    path.write_bytes(content)
    assert list(load(path, environment=ENVIRONMENT).jobs) == ["a"]


def test_lines_are_counted_over_any_line_end(tmp_path: Path) -> None:
    """A finding must point at the line that the reader's editor shows."""
    path = tmp_path / "config.toml"
    path.write_bytes(JOB.replace(b"\n", b"\r\n") + b'note = """\r\n\r\n"""\r\nretries = 99')
    with pytest.raises(ConfigError) as caught:
        load(path, environment=ENVIRONMENT)
    assert [finding.line for finding in caught.value.findings] == [3, 6]
