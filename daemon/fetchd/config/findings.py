"""What is wrong with a configuration, in its reader's words: each thing once, at its line, without any value."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from fetchd.config.document import Document
from fetchd.config.lines import KeyPath
from fetchd.config.written import key_text
from fetchd.errors import Finding
from fetchd.job import JOB_NAME
from fetchd.units import format_duration, format_size, parse_duration, parse_size

_TEXT: Final = "must be a text"
_TABLE: Final = "must be a table"
_LIST: Final = "must be a list"
_WHOLE: Final = "must be a whole number"

_WORDS: Final[Mapping[str, str]] = {
    "missing": "is missing",
    "string_type": _TEXT,
    "string_sub_type": _TEXT,
    "bool_type": "must be true or false",
    "int_type": _WHOLE,
    "int_from_float": _WHOLE,
    "int_parsing_size": _WHOLE,
    "float_type": "must be a number",
    "finite_number": "must be a finite number",
    "dict_type": _TABLE,
    "model_type": _TABLE,
    "model_attributes_type": _TABLE,
    "list_type": _LIST,
    "tuple_type": _LIST,
    "set_type": _LIST,
    "frozen_set_type": _LIST,
    "string_too_short": "must not be empty",
    "string_too_long": "is too long",
}
"""The complaints that need no detail, by the validator's own names for them."""

_LIMITS: Final[Mapping[str, tuple[str, str]]] = {
    "greater_than": ("must be more than {}", "gt"),
    "greater_than_equal": ("must be at least {}", "ge"),
    "less_than": ("must be less than {}", "lt"),
    "less_than_equal": ("must be at most {}", "le"),
    "too_short": ("must hold at least {}", "min_length"),
    "too_long": ("must hold at most {}", "max_length"),
}

NAME_RULE: Final = 'a name has 1 to 64 letters, digits, ".", "_" and "-", and begins with a letter or a digit'


@dataclass
class Findings:
    """Collects what is wrong with one document."""

    document: Document
    _seen: dict[Finding, None] = field(default_factory=dict)

    def add(self, path: KeyPath, message: str) -> None:
        """Note ``message`` about the key at ``path``; the same one twice counts once."""
        one_line = " ".join(message.split())
        finding = Finding(str(self.document.path), self.document.line(path), key_text(path), one_line)
        self._seen[finding] = None

    def unknown(self, path: KeyPath, allowed: Iterable[str]) -> None:
        """Note that the key at ``path`` is none of those ``allowed``."""
        self.add(path, f"unknown key; {suggestion(str(path[-1]), allowed)}")

    def refused(self, path: KeyPath, raw: Any, model: type[BaseModel], error: ValidationError) -> set[KeyPath]:
        """Note all that ``model`` has against ``raw``, the table at ``path``; return the places within ``raw``."""
        places = set()
        for detail in error.errors(include_url=False, include_input=False):
            place = _Place(raw, [model])
            place.follow(detail["loc"])
            places.add(place.path)
            where = (*path, *place.path)
            kind = detail["type"]
            if kind == "extra_forbidden":
                self.unknown(where, allowed_keys(place.table) if place.table else ())
            elif kind in {"union_tag_not_found", "union_tag_invalid"}:
                self.add((*where, "kind"), _kind_words(place.value, place.models))
            elif kind == "missing":
                self.add((*where, *detail["loc"][-1:]), _words(detail, None))
            else:
                self.add(where, _words(detail, place.value))
        return places

    def all(self) -> list[Finding]:
        """Return the findings in the order of the file."""
        return sorted(self._seen, key=lambda finding: finding.line or 0)


def suggestion(word: str, allowed: Iterable[str]) -> str:
    """Return what may have been meant by ``word``, or everything that is ``allowed``."""
    names = sorted(allowed)
    near = difflib.get_close_matches(word, names, n=1)
    return f'did you mean "{near[0]}"?' if near else f"the keys here are {', '.join(names)}"


def allowed_keys(model: type[BaseModel]) -> list[str]:
    """Return the keys that a table of ``model`` may hold."""
    return [info.alias or name for name, info in model.model_fields.items() if not info.exclude]


def _words(detail: ErrorDetails, value: Any) -> str:
    kind, context = detail["type"], detail.get("ctx", {})
    if kind in _WORDS:
        return _WORDS[kind]
    if kind in _LIMITS:
        text, limit = _LIMITS[kind]
        return text.format(_in_units(context[limit], value))
    if kind == "literal_error":
        return f"must be {context['expected']}".replace("'", '"')
    if kind == "string_pattern_mismatch":
        return NAME_RULE if context["pattern"] == JOB_NAME else f"must match {context['pattern']}"
    if kind in {"value_error", "assertion_error"}:
        return str(context["error"])
    return f"is not valid ({kind})"


def _kind_words(table: Any, models: Iterable[type[BaseModel]]) -> str:
    """Return what is wrong with the kind of ``table``, which should be one of ``models``."""
    kinds = [kind for model in models for kind in get_args(_annotation(model, "kind"))]
    choice = f"the kinds are {', '.join(kinds)}"
    given = table.get("kind")
    if given is None:
        return f"is missing; {choice}"
    near = difflib.get_close_matches(given, kinds, n=1) if isinstance(given, str) else []
    return f'unknown kind; did you mean "{near[0]}"? ({choice})' if near else f"unknown kind; {choice}"


def _in_units(limit: Any, value: Any) -> str:
    """Return ``limit`` in the units that ``value`` was written in."""
    units: tuple[tuple[Callable[[str], Any], Callable[[Any], str]], ...] = (
        (parse_duration, format_duration),
        (parse_size, format_size),
    )
    for parse, write in units:
        try:
            parse(value)
        except (TypeError, ValueError):
            continue
        return write(limit)
    return str(limit)


@dataclass
class _Place:
    """Follows the validator's way to an error through the raw data.

    That way also holds what is not in the file: a union's tag, a marker for a table's key, the name of a missing key.
    """

    value: Any
    models: Sequence[type[BaseModel]]
    path: KeyPath = ()
    table: type[BaseModel] | None = None
    """The model of the table that holds the last key of the path."""

    def follow(self, way: tuple[int | str, ...]) -> None:
        """Go along ``way`` as far as the raw data goes."""
        for index, part in enumerate(way):
            tag = self._is_tag(part) and index + 1 < len(way)
            if not tag and _holds(self.value, part):
                self._step(part)

    def _is_tag(self, part: int | str) -> bool:
        return len(self.models) > 1 and isinstance(self.value, dict) and self.value.get("kind") == part

    def _step(self, part: int | str) -> None:
        if isinstance(part, str):
            self.table = self._model()
            self.models = _models_within(_annotation(self.table, part))
        self.value = self.value[part]
        self.path = (*self.path, part)

    def _model(self) -> type[BaseModel] | None:
        if len(self.models) == 1:
            return self.models[0]
        kind = self.value.get("kind")
        return next((model for model in self.models if kind in get_args(_annotation(model, "kind"))), None)


def _annotation(model: type[BaseModel] | None, key: str) -> Any:
    """Return the type of what ``key`` holds in a table of ``model``."""
    fields = model.model_fields.items() if model else ()
    return next((info.annotation for name, info in fields if (info.alias or name) == key), None)


def _models_within(annotation: Any) -> list[type[BaseModel]]:
    """Return the models in ``annotation``, whatever lists and unions are around them."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for inner in get_args(annotation) for model in _models_within(inner)]


def _holds(value: Any, part: str | int) -> bool:
    if isinstance(value, dict):
        return part in value
    return isinstance(value, list) and isinstance(part, int) and part < len(value)
