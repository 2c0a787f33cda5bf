"""The JSON Schema of the configuration file, for completion in editors; made from the very models that read it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Final

from pydantic import BaseModel, TypeAdapter
from pydantic.json_schema import models_json_schema

from fetchd.alerts.options import AlertOptions, Maintenance
from fetchd.config.jobs import JOB_TABLE
from fetchd.config.model import Daemon, Dns, Host, Log
from fetchd.job import JOB_NAME, Policy
from fetchd.job.network import KeyFile
from fetchd.notifiers.kinds import OPTIONS
from fetchd.secret import Secret
from fetchd.units import Duration, Size, format_duration, format_size

_DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"


def schema() -> dict[str, Any]:
    """Return the JSON Schema of the whole file."""
    models: tuple[type[BaseModel], ...]
    models = (Daemon, Dns, Log, Policy, Host, JOB_TABLE, AlertOptions, Maintenance, *OPTIONS.values())
    _, generated = models_json_schema([(model, "validation") for model in models])
    definitions = {name: _tidy(definition) for name, definition in generated["$defs"].items()}
    definitions |= {name: TypeAdapter(kind).json_schema() for name, kind in _SHARED.items()}
    definitions["Daemon"].pop("required")
    _adapt_job(definitions["Job"])
    tables = {"daemon": "Daemon", "dns": "Dns", "log": "Log", "defaults": "Policy", "alerts": "AlertOptions"}
    notifiers = [{"$ref": f"#/$defs/{options.__name__}"} for options in OPTIONS.values()]
    return {
        "$schema": _DIALECT,
        "title": "Configuration of fetchd",
        "type": "object",
        "properties": {
            **{key: {"$ref": f"#/$defs/{name}"} for key, name in tables.items()},
            "hosts": {
                "description": "Politeness by host.",
                "type": "object",
                "additionalProperties": {"$ref": "#/$defs/Host"},
            },
            "notifiers": {
                "description": "Where messages to people go, by name.",
                "type": "object",
                "patternProperties": {JOB_NAME: {"oneOf": notifiers}},
                "additionalProperties": False,
            },
            "maintenance": {
                "description": "When nobody is told what happens to some jobs.",
                "type": "array",
                "items": {"$ref": "#/$defs/Maintenance"},
            },
            "jobs": {
                "description": "Jobs by name.",
                "type": "object",
                "minProperties": 1,
                "patternProperties": {JOB_NAME: {"$ref": "#/$defs/Job"}},
                "additionalProperties": False,
            },
        },
        "required": ["jobs"],
        "additionalProperties": False,
        "$defs": dict(sorted(definitions.items())),
    }


def schema_text() -> str:
    """Return the JSON Schema as it is kept in a file."""
    return json.dumps(schema(), indent=2, sort_keys=True) + "\n"


_SHARED: Final[dict[str, Any]] = {"Duration": Duration, "PemFile": KeyFile, "Size": Size, "Secret": Secret}
_WRITE: Final[dict[str, Callable[[Any], str]]] = {"Duration": format_duration, "Size": format_size}


def _adapt_job(job: dict[str, Any]) -> None:
    """Say what only the rules between keys know; the job's name is not a key of its table."""
    del job["properties"]["name"]
    del job["required"]
    job["oneOf"] = [{"required": ["url"]}, {"required": ["collect"]}]
    job["not"] = {"required": ["interval", "cron"]}
    job["dependentRequired"] = {"timezone": ["cron"]}


def _tidy(node: Any) -> Any:
    """Return ``node`` without titles and nulls, which TOML has not, and with references for what is in many places."""
    if isinstance(node, list):
        return [_tidy(item) for item in node]
    if not isinstance(node, dict):
        return node
    if "properties" in node:
        properties = {key: _tidy(item) for key, item in node["properties"].items()}
        return {key: item for key, item in node.items() if key != "title"} | {"properties": properties}
    dropped = {"title", "discriminator"}
    node = {key: item if key == "default" else _tidy(item) for key, item in node.items() if key not in dropped}
    return _referring(_without_null(node))


def _without_null(node: dict[str, Any]) -> dict[str, Any]:
    default = node.get("default", ...)
    if default is None:
        del node["default"]
    elif isinstance(default, dict):
        node["default"] = {key: item for key, item in default.items() if item is not None}
    kinds = node.get("anyOf", [])
    if {"type": "null"} not in kinds:
        return node
    kinds = [kind for kind in kinds if kind != {"type": "null"}]
    rest = {key: item for key, item in node.items() if key != "anyOf"}
    return kinds[0] | rest if len(kinds) == 1 else {"anyOf": kinds, **rest}


def _referring(node: dict[str, Any]) -> dict[str, Any]:
    for name, kind in _SHARED.items():
        whole = TypeAdapter(kind).json_schema()
        own = {key: item for key, item in node.items() if item != whole.get(key)}
        if set(whole) - {"description"} <= set(node) - set(own):
            if name in _WRITE and "default" in own:
                own["default"] = _WRITE[name](own["default"])
            return {"$ref": f"#/$defs/{name}", **own}
    return node
