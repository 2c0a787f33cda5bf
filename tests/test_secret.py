"""Secrets: where they are read from, and that no output shows them."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from fetchd.secret import EARLIER_KEPT, LONGEST, MASK, Redactor, Secret, SecretSource, is_sensitive

ADAPTER = TypeAdapter(Secret)
CANARY = "c4n4ry-value"


def read(value: Any, folder: Path = Path(), **environment: str) -> Secret:
    return ADAPTER.validate_python(value, context={"secrets": SecretSource(environment, folder)})


def refusal(value: Any, folder: Path = Path(), **environment: str) -> str:
    with pytest.raises(ValidationError) as caught:
        read(value, folder, **environment)
    return str(caught.value.errors()[0]["ctx"]["error"])


def test_a_secret_is_read_from_where_it_is_kept(tmp_path: Path) -> None:
    """Nobody has to write a secret into the configuration file."""
    (tmp_path / "token").write_text(CANARY + "\n")
    assert read("plain").reveal() == "plain"
    assert read({"env": "TOKEN"}, TOKEN=CANARY).reveal() == CANARY
    assert read({"file": "token"}, tmp_path).reveal() == CANARY
    assert read({"file": str(tmp_path / "token")}).reveal() == CANARY
    assert read({"credential": "token"}, CREDENTIALS_DIRECTORY=str(tmp_path)).reveal() == CANARY


def test_a_secret_never_shows_itself() -> None:
    """Log lines, tracebacks and dumps take whatever repr and str give them."""
    secret = read({"env": "TOKEN"}, TOKEN=CANARY)
    shown = [
        repr(secret),
        str(secret),
        f"{secret}",
        secret.masked(),
        json.dumps(ADAPTER.dump_python(secret, mode="json")),
    ]
    assert not any(CANARY in text for text in shown)
    assert secret.masked() == "[redacted: env TOKEN]"
    assert read(CANARY).masked() == MASK


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"env": "TOKEN"}, "the environment variable TOKEN is not set"),
        ({"env": "EMPTY"}, "the env EMPTY is empty"),
        ({"env": "BYTES"}, "the env BYTES is not UTF-8 text"),
        ({"file": "none"}, "cannot read {folder}/none: No such file or directory"),
        ({"file": "."}, "cannot read {folder}: Is a directory"),
        ({"file": "pipe"}, "cannot read {folder}/pipe: it is a pipe, a device or the like, not a regular file"),
        ({"file": "/dev/null"}, "cannot read /dev/null: it is a pipe, a device or the like, not a regular file"),
        ({"credential": "pipe"}, "cannot read {folder}/pipe: it is a pipe, a device or the like, not a regular file"),
        ({"file": "latin"}, "cannot read {folder}/latin: it is not UTF-8 text"),
        ({"file": "huge"}, "cannot read {folder}/huge: it is longer than 1MiB"),
        ({"file": "blank"}, "the file blank is empty"),
        (
            {"credential": "x"},
            (
                "$CREDENTIALS_DIRECTORY is not set: a service has it by LoadCredential=x:PATH in its unit; "
                "by hand, set it to the folder that the file is in"
            ),
        ),
        ({"env": ""}, "env takes a name, as a text"),
        ({"env": 3}, "env takes a name, as a text"),
        *(
            (value, 'write a text, or { env = "NAME" }, { file = "path" } or { credential = "NAME" }')
            for value in ({}, {"enf": CANARY}, {"env": "A", "file": "b"}, 3, True, [CANARY])
        ),
    ],
)
def test_what_cannot_be_read_is_said_without_a_value(tmp_path: Path, value: Any, message: str) -> None:
    """The message names the remedy; whoever reads it need not be the one who may know the secret."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "latin").write_bytes(b"caf\xe9")
    (tmp_path / "huge").write_bytes(b"x" * (LONGEST + 1))
    (tmp_path / "blank").write_text("\n")
    credentials = {"CREDENTIALS_DIRECTORY": str(tmp_path)} if value == {"credential": "pipe"} else {}
    environment = {"EMPTY": "", "BYTES": "\udce9", **credentials}
    assert refusal(value, tmp_path, **environment) == message.replace("{folder}", str(tmp_path))


@pytest.mark.parametrize("name", ["../token", "a/b", ".", ".."])
def test_a_credential_is_a_name(tmp_path: Path, name: str) -> None:
    """A credential cannot be used to read another file."""
    assert refusal({"credential": name}, CREDENTIALS_DIRECTORY=str(tmp_path)) == "a credential is a name, not a path"


def test_without_a_source_nothing_is_read() -> None:
    """A schema or an editor can look at a file without the secrets being there."""
    assert ADAPTER.validate_python({"env": "NOT_SET"}).masked() == "[redacted: env NOT_SET]"


@pytest.mark.parametrize(
    ("name", "sensitive"),
    [
        ("Authorization", True),
        ("X-Api-Key", True),
        ("Cookie", True),
        ("access_token", True),
        ("Accept", False),
        ("page", False),
    ],
)
def test_names_tell_which_values_are_secret(name: str, sensitive: bool) -> None:
    """People write keys inline in spite of everything."""
    assert is_sensitive(name) is sensitive


def test_the_redactor_reaches_into_structures() -> None:
    """A log line's fields are texts, lists and tables of texts, and keys of tables too."""
    redact = Redactor([CANARY, "abc"])
    line = {"url": f"https://h/?k={CANARY}", "list": [CANARY, 1, ("x", CANARY)], CANARY: None, "short": "abc"}
    assert redact(line) == {"url": f"https://h/?k={MASK}", "list": [MASK, 1, ["x", MASK]], MASK: None, "short": "abc"}
    assert Redactor()(line) is line


@given(st.lists(st.text(alphabet="abc.*", min_size=4, max_size=9), max_size=40), st.text(alphabet="abc.*", max_size=60))
def test_the_redactor_finds_what_a_plain_alternative_finds(words: list[str], text: str) -> None:
    """Its pattern branches by first letters for speed; that must not lose, or shorten, a match."""
    plain = re.compile("|".join(map(re.escape, sorted(set(words), key=len, reverse=True)))) if words else None
    assert Redactor(words)(text) == (plain.sub(MASK, text) if plain else text)


def test_one_secret_within_another_is_hidden_with_it() -> None:
    """The longest match wins: the rest of a secret must not stay behind."""
    redact = Redactor(["pass", "password", "password-of-the-database", "passport"])
    assert redact("password-of-the-database passport password pass pas") == f"{MASK} {MASK} {MASK} {MASK} pas"


def test_the_redactor_learns_and_does_not_forget() -> None:
    """A secret that was replaced is still in results and errors that are under way."""
    redact = Redactor(["first-secret"])
    redact.learn(["second-secret", "abc"])
    redact.learn([])
    assert redact("first-secret second-secret abc") == f"{MASK} {MASK} abc"


def test_the_redactor_forgets_the_oldest_of_very_many() -> None:
    """A daemon that takes a new token each minute for years must not grow by each of them."""
    redact = Redactor(["first-secret"])
    redact.learn(f"secret-{number:06}" for number in range(EARLIER_KEPT))
    redact.learn(["last-secret"])
    assert redact("secret-000001 last-secret") == f"{MASK} {MASK}"
    assert redact("first-secret") == "first-secret"
