"""Values that are never shown: where they come from, and how they stay out of every output."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import core_schema

MASK: Final = "[redacted]"
SHORTEST_SEARCHED: Final = 4
"""Shorter secrets are masked where they are shown as values, but not hunted for in free text, which they would shred."""

_SENSITIVE: Final = re.compile(r"auth|cookie|credential|key|password|passwd|secret|session|signature|token", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class SecretSource:
    """Where secrets may be read from: the environment, and the folder that relative files start from."""

    environment: Mapping[str, str]
    folder: Path

    def read(self, kind: str, name: str) -> str:
        """Return the secret ``name`` of ``kind`` ``env``, ``file`` or ``credential``, without a trailing line end.

        Raises:
            ValueError: it is not set, cannot be read, or is empty; the message names the remedy, never a value.
        """
        if kind == "env":
            value = self.environment.get(name)
            if value is None:
                raise ValueError(f"the environment variable {name} is not set")
        else:
            value = self._file(self._path(kind, name))
        if not value:
            raise ValueError(f"the {kind} {name} is empty")
        return value

    def _path(self, kind: str, name: str) -> Path:
        if kind == "file":
            return self.folder / name
        folder = self.environment.get("CREDENTIALS_DIRECTORY")
        if not folder:
            raise ValueError(f"$CREDENTIALS_DIRECTORY is not set: add LoadCredential={name}:PATH to the service's unit")
        if os.sep in name or name in {".", ".."}:
            raise ValueError("a credential is a name, not a path")
        return Path(folder) / name

    @staticmethod
    def _file(path: Path) -> str:
        try:
            return path.read_text(encoding="utf-8").rstrip("\r\n")
        except (OSError, UnicodeDecodeError) as error:
            detail = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
            raise ValueError(f"cannot read {path}: {detail}") from None


class Secret:
    """A text that may be used but is never shown. In TOML: a text, or a table with one of env, file, credential."""

    __slots__ = ("_value", "origin")

    def __init__(self, value: str, origin: str = "inline") -> None:
        self._value = value
        self.origin = origin

    def reveal(self) -> str:
        """Return the value itself; for the one place that sends it."""
        return self._value

    def __repr__(self) -> str:
        return f"Secret({self.origin})"

    __str__ = __repr__

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and (self._value, self.origin) == (other._value, other.origin)

    def __hash__(self) -> int:
        return hash((self._value, self.origin))

    @classmethod
    def __get_pydantic_core_schema__(cls, _source: Any, _handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        return core_schema.with_info_plain_validator_function(cls._validate)

    @classmethod
    def __get_pydantic_json_schema__(
        cls, _schema: core_schema.CoreSchema, _handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        tables = [
            {
                "type": "object",
                "properties": {kind: {"type": "string", "description": text}},
                "required": [kind],
                "additionalProperties": False,
            }
            for kind, text in (
                ("env", "The environment variable that holds the value."),
                ("file", "The file that holds the value; relative to the configuration file."),
                ("credential", "The name of a systemd credential (LoadCredential=)."),
            )
        ]
        return {"anyOf": [{"type": "string"}, *tables]}

    @classmethod
    def _validate(cls, value: Any, info: core_schema.ValidationInfo) -> Secret:
        if isinstance(value, Secret):
            return value
        if isinstance(value, str):
            return cls(value)
        if not isinstance(value, dict) or len(value) != 1 or next(iter(value)) not in {"env", "file", "credential"}:
            raise ValueError('write a text, or { env = "NAME" }, { file = "path" } or { credential = "NAME" }')
        kind, name = next(iter(value.items()))
        if not isinstance(name, str) or not name:
            raise ValueError(f"{kind} takes a name, as a text")
        source = (info.context or {}).get("secrets")
        if not isinstance(source, SecretSource):
            return cls("", f"{kind} {name}")
        return cls(source.read(kind, name), f"{kind} {name}")


def is_sensitive(name: str) -> bool:
    """Return whether a header or parameter called ``name`` is taken for a secret even when written inline."""
    return bool(_SENSITIVE.search(name))


class Redactor:
    """Takes secrets out of any value that is about to be shown."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        words = sorted({word for word in secrets if len(word) >= SHORTEST_SEARCHED}, key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, words))) if words else None

    def __call__(self, value: Any) -> Any:
        """Return ``value`` with each secret replaced; texts, and texts within lists, tuples and tables."""
        if self._pattern is None:
            return value
        return self._clean(value)

    def _clean(self, value: Any) -> Any:
        assert self._pattern is not None
        if isinstance(value, str):
            return self._pattern.sub(MASK, value)
        if isinstance(value, Mapping):
            return {self._clean(key): self._clean(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [self._clean(item) for item in value]
        return value
