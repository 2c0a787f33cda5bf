"""The JSON Schema: committed as it is generated, and of one mind with the loader."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import jsonschema
import pytest

from fetchd.config import schema
from fetchd.config.schema import schema_text
from tests.config.test_example import uncommented

ROOT: Final = Path(__file__).parents[2]
JOB = '[jobs.a]\nurl = "http://h/"\n'


@pytest.fixture(scope="module")
def validator() -> jsonschema.Draft202012Validator:
    return jsonschema.Draft202012Validator(schema())


def objects(node: Any) -> Iterator[dict[str, Any]]:
    if isinstance(node, dict):
        yield node
        for item in node.values():
            yield from objects(item)
    elif isinstance(node, list):
        for item in node:
            yield from objects(item)


def test_the_committed_schema_is_the_generated_one() -> None:
    """Editors complete from the file; regenerate it with ``fetchd schema > config.schema.json``."""
    assert (ROOT / "config.schema.json").read_text(encoding="utf-8") == schema_text()


def test_the_schema_is_one() -> None:
    """A schema that no validator takes completes nothing, and TOML has no null."""
    generated = schema()
    jsonschema.Draft202012Validator.check_schema(generated)
    assert not [node for node in objects(generated) if node.get("type") == "null" or node.get("default", 0) is None]


def test_every_key_is_described() -> None:
    """The description is what an editor shows beside the key."""
    for name, definition in schema()["$defs"].items():
        for key, item in definition.get("properties", {}).items():
            described = "description" in item or "$ref" in item or key == "kind"
            assert described, f"{name}.{key}"


def test_the_example_is_valid(validator: jsonschema.Draft202012Validator) -> None:
    """As it is, and with everything that it shows."""
    for text in ((ROOT / "config.example.toml").read_text(encoding="utf-8"), uncommented()):
        validator.validate(tomllib.loads(text))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[jobs]\n",
        "[jobs.a]\n",
        '[jobs."a b"]\nurl = "http://h/"\n',
        f"{JOB}intervall = 1\n",
        f"{JOB}interval = 5\n",
        f'{JOB}interval = "5 minutes"\n',
        f'{JOB}interval = "30s5m"\n',
        f'{JOB}name = "b"\n',
        f'{JOB}collect = "a:b"\n',
        f'{JOB}cron = "* * * * *"\ninterval = "1m"\n',
        f'{JOB}timezone = "UTC"\n',
        f"{JOB}retries = true\n",
        f'{JOB}max_body = "10 megabytes"\n',
        f'{JOB}headers = {{ a = {{ enf = "X" }} }}\n',
        f'{JOB}headers = {{ a = {{ env = "X", file = "y" }} }}\n',
        f"{JOB}auth = {{ kind = 'none' }}\n",
        f"{JOB}sinks = [{{ kind = 'file' }}]\n",
        f"{JOB}sinks = [{{ path = 'x' }}]\n",
        f"[log]\nlevel = 'loud'\n{JOB}",
        f"[job.b]\n{JOB}",
    ],
)
def test_wrong_files_are_wrong_in_an_editor_too(validator: jsonschema.Draft202012Validator, text: str) -> None:
    """Most mistakes are seen while they are typed."""
    with pytest.raises(jsonschema.ValidationError):
        validator.validate(tomllib.loads(text))
