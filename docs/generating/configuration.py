"""Every key of the configuration, from the JSON Schema, which is made of the models that read the file."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Final

from docs.generating.markdown import code, document, one_line, table
from fetchd.config import schema

Node = dict[str, Any]

HEADS: Final = ("Key", "Type", "Default", "What it says")
TITLES: Final = {
    "Daemon": "`[daemon]`",
    "Dns": "`[dns]`",
    "Log": "`[log]`",
    "AlertOptions": "`[alerts]`",
    "Maintenance": "`[[maintenance]]`",
    "Policy": "`[defaults]`, and each job",
    "Timeouts": "`timeout`",
    "Retry": "`retry`",
    "Backoff": "`backoff`",
    "Tls": "`tls`",
    "Alerting": "`alerts` of a job",
    "Host": '`[hosts."NAME"]`',
    "Job": "`[jobs.NAME]`",
    "Expect": "`expect`",
    "Cursor": "`cursor`",
}
"""The tables of a file in the order of the page; those that come in kinds follow."""
KINDS: Final = (
    ("`auth`", "auth", "How the requests of a job are authorised."),
    ("`pages`", "pages", "How a result is fetched that one response does not hold."),
    ("`sinks`", "sinks", "Where results go. A job may have several; they take turns, in their order."),
    ("`[notifiers.NAME]`", "notifiers", "Where messages to people go."),
)
INTRODUCTION: Final = """
The file is TOML. fetchd takes the first of these that there is: the one that `-c` names, the one that
`$FETCHD_CONFIG` names, `./fetchd.toml`, `$XDG_CONFIG_HOME/fetchd/config.toml` (`~/.config/fetchd/config.toml`),
`/etc/fetchd/config.toml`.

An unknown key, a wrong type or a value that does not fit another one is a finding, with its line and what to do.
`fetchd check` prints all of them. Nothing starts with a file that has one. `fetchd explain JOB` shows what counts for a
job and where each value comes from. `fetchd example` shows each key once, with a reason to change it;
`config.schema.json` lets an editor complete them.
"""
VALUES: Final = """
- **duration**: a text with a unit, such as `"500ms"`, `"30s"`, `"5m"`, `"1h30m"`, `"1d"`; at most 366 days.
- **size**: a text with a unit, such as `"64KiB"`, `"10MiB"`, `"1GB"`. `KiB` is 1024 bytes, `KB` 1000.
- **secret**: in the place of a text, `{ env = "NAME" }`, `{ file = "path" }` or `{ credential = "NAME" }`: see
  [secrets](../how-to/secrets.md). It is never shown.
- **expression**: JMESPath, such as `"data.items[*]"`: what is taken from a JSON document.
- **function**: `"package.module:function"`. Folders of your own are named in `daemon.python_path`.
- **path**: certificates, secret files, `state_dir` and `python_path` start from the folder of the configuration file. A
  sink's path starts from `out` in the state directory, and does not leave it unless it is absolute. In the place of a
  job's certificates may stand `{ credential = "NAME" }`.
"""
POLICY: Final = """
What stands in `[defaults]` counts for every job; a job that names a key itself goes by its own value. Three keys are
joined instead: `headers` by name, `timeout` by phase, `alerts` by key. The other tables, such as `retry`, are taken
whole.

An inherited `deadline` shrinks to the job's interval less a twentieth of it, at most a second, so that a run is over
before the next slot. An inherited `timeout` shrinks to the job's deadline. A value that is written on the job itself
and does not fit is a finding.
"""
JOB: Final = """
A job's name has letters, digits, `.`, `_` and `-`, at most 64 of them. A job has either a `url` or a `collect`, and
either an `interval` or a `cron`. All keys of [`[defaults]`](#defaults-and-each-job) may stand here too.
"""
BEFORE: Final = {"Policy": POLICY, "Job": JOB}
PLACEHOLDERS: Final = """
In `url`, `params`, `form`, `json` and `body`, a text in braces stands for something else in each Run:

| Placeholder | Stands for |
| --- | --- |
| `{cursor}` | what the last Run left, as [`cursor`](#cursor) says |
| `{now}` | the time at which the Run begins |
| `{slot}` | the time at which it was due |
| `{last_success}` | when the last success was asked for, or the first page of it; 1970 if there was none |

Times may have an offset and a format: `{last_success-5m}`, `{slot:%Y-%m-%d}`, `{now:unix}`, `{now:unix_ms}`. Without a
format they are RFC 3339 in UTC. `{{now}}` stands for the text `{now}` itself. Other braces stay as they are.
"""
_PLAIN: Final = {
    "Duration": "duration",
    "Size": "size",
    "Secret": "text or [secret](#values)",
    "PemFile": "[path](#values)",
}
_UNTYPED: Final = {"start": "date and time", "end": "date and time"}
_OPTIONAL: Final = "-"
_REQUIRED: Final = "required"


def page() -> str:
    """Return the page."""
    generated = schema()
    definitions: Node = generated["$defs"]
    parts = [INTRODUCTION, "## Values", VALUES]
    for name, title in TITLES.items():
        parts += _section(title, definitions[name], definitions, BEFORE.get(name, ""), own=name == "Job")
    parts += ["## Placeholders", PLACEHOLDERS]
    for title, key, words in KINDS:
        parts += [f"## {title}", words]
        for kind in _kinds(key, generated):
            parts += _kind(definitions[kind], definitions)
    return document("Configuration", *parts)


def _section(title: str, node: Node, definitions: Node, before: str, *, own: bool) -> Iterator[str]:
    node = _table_of(node)
    yield f"## {title}"
    yield one_line(node.get("description", ""))
    yield before
    inherited = definitions["Policy"]["properties"] if own else {}
    keys = {key: item for key, item in node["properties"].items() if key not in inherited}
    yield _keys(keys, node.get("required", []), definitions)


def _kind(node: Node, definitions: Node) -> Iterator[str]:
    keys = dict(node["properties"])
    kind = keys.pop("kind")["const"]
    yield f'### `kind = "{kind}"`'
    yield one_line(node["description"])
    yield _keys(keys, node.get("required", []), definitions)


def _keys(keys: Node, required: list[str], definitions: Node) -> str:
    rows = [
        (code(key), _type(item, definitions, key), _default(item, needed=key in required), _words(item, definitions))
        for key, item in sorted(keys.items(), key=lambda pair: pair[0] not in required)
    ]
    return table(HEADS, rows)


def _words(item: Node, definitions: Node) -> str:
    words = item.get("description", "")
    if "$ref" in item and item["$ref"].rpartition("/")[2] in TITLES and not words:
        words = definitions[item["$ref"].rpartition("/")[2]].get("description", "")
    return one_line(words)


def _default(item: Node, *, needed: bool) -> str:
    if needed:
        return _REQUIRED
    default = item.get("default")
    if default in (None, [], {}, "") or isinstance(default, dict):
        return _OPTIONAL
    return code(json.dumps(default, ensure_ascii=False))


def _type(item: Node, definitions: Node, key: str = "") -> str:
    if "$ref" in item:
        return _named(item["$ref"].rpartition("/")[2])
    choices = item.get("oneOf") or item.get("anyOf")
    if choices:
        tables = [choice for choice in choices if choice.get("$ref", "").rpartition("/")[2] in definitions]
        if "oneOf" in item and len(tables) == len(choices):
            return f"[table](#{key})"
        return " or ".join(_type(choice, definitions) for choice in choices)
    if "enum" in item:
        return " or ".join(code(json.dumps(value)) for value in item["enum"])
    if item.get("type") == "array":
        return f"list of {_type(item['items'], definitions, key)}"
    if item.get("type") == "object":
        return _table_type(item, definitions)
    return _plain(item, key)


def _table_type(item: Node, definitions: Node) -> str:
    values = item.get("additionalProperties") or next(iter(item.get("patternProperties", {}).values()), None)
    return f"table of {_type(values, definitions)}" if values else "table"


def _plain(item: Node, key: str) -> str:
    name = {"string": "text", "boolean": "true or false", "integer": "integer", "number": "number"}
    kind = name.get(item.get("type", ""), _UNTYPED.get(key, "any value"))
    least, most = item.get("minimum", item.get("exclusiveMinimum")), item.get("maximum")
    if least is not None and most is not None:
        above = "above " if "exclusiveMinimum" in item else ""
        return f"{kind}, {above}{least:,} to {most:,}"
    return f"{kind}, at least {least}" if least is not None else kind


def _named(name: str) -> str:
    if name in _PLAIN:
        return _PLAIN[name]
    title = TITLES[name].strip("`").replace("`", "")
    anchor = "".join(letter for letter in title.lower().replace(" ", "-") if letter.isalnum() or letter in "-_")
    return f"[table](#{anchor})" if name != "Timeouts" else f"duration or [table](#{anchor})"


def _table_of(node: Node) -> Node:
    """Return the table that a node describes, where a single value may stand in its place too."""
    return next((inner for inner in node.get("anyOf", []) if "properties" in inner), node)


def _kinds(key: str, generated: Node) -> list[str]:
    definitions: Node = generated["$defs"]
    if key == "notifiers":
        node = next(iter(generated["properties"]["notifiers"]["patternProperties"].values()))
    else:
        node = definitions["Job"]["properties"][key]
    choices = node.get("items", node)["oneOf"]
    return [choice["$ref"].rpartition("/")[2] for choice in choices]
