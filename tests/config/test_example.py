"""The example file: complete, true, and usable as it is."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import trustme

from fetchd.config import load, schema

EXAMPLE: Final = Path(__file__).parents[2] / "config.example.toml"
SETTING: Final = re.compile(r"^# (?=\[|[a-z_]+ = )", re.MULTILINE)
NAMED: Final = {"jobs": "job", "hosts": "host", "notifiers": "notifier"}
"""Tables of tables whose names the user chooses, and what each of those is."""
ENVIRONMENT: Final = {
    "HOME": "/home/somebody",
    **dict.fromkeys(("CHAT_URL", "REPORT_PING"), "https://example.com/s3cret"),
    "KEY_PASSWORD": "s3cret",
    "MAIL_URL": "mailto://me:s3cret@example.com",
    **dict.fromkeys(("REPORT_KEY", "REPORT_TOKEN", "SEARCH_PASSWORD", "LOGIN_PASSWORD", "PGPASSWORD"), "s3cret"),
}


def uncommented() -> str:
    """Return the example with each setting that it shows."""
    return SETTING.sub("", EXAMPLE.read_text(encoding="utf-8"))


def settings(value: Any, within: str = "") -> Iterator[tuple[str, Any]]:
    """Yield each key of a file behind its table, and its value: ``daemon.state_dir``, ``job.url``."""
    if isinstance(value, list):
        for item in value:
            yield from settings(item, within)
    elif isinstance(value, dict) and within in NAMED:
        for item in value.values():
            yield from settings(item, NAMED[within])
    elif isinstance(value, dict):
        for key, item in value.items():
            place = f"{within}.{key}".lstrip(".")
            yield place, item
            yield from settings(item, place)


def declared(node: dict[str, Any], definitions: dict[str, Any], within: str = "") -> Iterator[tuple[str, Any]]:
    """Yield each key that the schema declares below ``node``, and its default."""
    if node.get("$ref") in {"#/$defs/Secret", "#/$defs/PemFile"}:
        return
    if "$ref" in node:
        node = definitions[node["$ref"].rpartition("/")[2]]
    for key, item in node.get("properties", {}).items():
        place = f"{within}.{key}".lstrip(".")
        yield place, item.get("default")
        yield from declared(item, definitions, place)
    inner = [*node.get("anyOf", []), *node.get("oneOf", []), *node.get("patternProperties", {}).values()]
    for item in [*inner, node.get("items"), node.get("additionalProperties")]:
        if item:
            yield from declared(item, definitions, NAMED.get(within, within))


def keys() -> dict[str, list[Any]]:
    """Return each key that a file may hold with its defaults; a job's only where it does not inherit them."""
    generated = schema()
    found: dict[str, list[Any]] = {}
    for place, default in declared(generated, generated["$defs"]):
        found.setdefault(place, []).append(default)
    return {
        place: defaults
        for place, defaults in found.items()
        if not place.startswith("job.") or place.replace("job.", "defaults.") not in found
    }


def shown() -> dict[str, list[Any]]:
    """Return each key that the example shows, with its values."""
    found: dict[str, list[Any]] = {}
    for place, value in settings(tomllib.loads(uncommented())):
        found.setdefault(place, []).append(value)
    return found


def test_it_loads_as_it_is(tmp_path: Path) -> None:
    """A newcomer copies it, edits one address and starts."""
    config = load(EXAMPLE, environment={"HOME": str(tmp_path)})
    assert list(config.jobs) == ["first"]


def test_it_loads_with_everything_that_it_shows(tmp_path: Path) -> None:
    """Whatever comment mark is taken away, the file stays right."""
    path = tmp_path / "config.toml"
    path.write_text(uncommented(), encoding="utf-8")
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    client = authority.issue_cert("client.example.com")
    client.cert_chain_pems[0].write_to_path(tmp_path / "client.pem")
    client.private_key_pem.write_to_path(tmp_path / "client.key")
    config = load(path, environment=ENVIRONMENT, functions=False)
    assert len(config.jobs["everywhere"].sinks) == 5


def test_it_names_every_key() -> None:
    """What the example does not show, nobody finds."""
    assert set(keys()) - set(shown()) == set()


def test_it_shows_the_built_in_values() -> None:
    """A value that is shown as the default and is another one misleads worse than none."""
    examples = shown()
    for place, defaults in keys().items():
        known = [default for default in defaults if default is not None]
        if not known or place in {"job.sinks", "job.params", "job.expect", "defaults.alerts", "defaults.tls"}:
            continue
        right = [value in known for value in examples[place]]
        # Jobs show other values as well; what they can have by default must still be there.
        several = place.startswith("job.") and not place.startswith("job.sinks.")
        assert any(right) if several else all(right), place


def test_each_key_says_why() -> None:
    """A default alone does not tell a reader when to change it."""
    lines = EXAMPLE.read_text(encoding="utf-8").splitlines()
    section = lines[lines.index("[daemon]") : lines.index("[defaults]")]
    bare = [
        line
        for before, line in pairwise(section)
        if SETTING.match(line) and (SETTING.match(before) or not before.startswith("# "))
    ]
    assert bare == []
