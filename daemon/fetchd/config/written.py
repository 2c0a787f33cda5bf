"""Keys and values as they would be written in a configuration file."""

from __future__ import annotations

import re
from typing import Any, Final

from fetchd.config.lines import KeyPath

_BARE: Final = re.compile(r"[A-Za-z0-9_-]+")
_UNPRINTABLE: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


def key_text(path: KeyPath) -> str:
    """Return ``path`` as one text: ``hosts."api.example.com".max_concurrent``, ``jobs.rates.sinks[1].path``."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            text += ("." if text else "") + (part if _BARE.fullmatch(part) else toml_text(part))
    return text


def toml_text(text: str) -> str:
    """Return ``text`` as a TOML string on one line."""
    quoted = text.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + _UNPRINTABLE.sub(lambda match: f"\\u{ord(match[0]):04x}", quoted) + '"'


def toml_value(value: Any) -> str:
    """Return ``value`` as TOML on one line."""
    if isinstance(value, str):
        return toml_text(value)
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(toml_value, value))}]"
    if isinstance(value, dict):
        pairs = ", ".join(f"{key_text((key,))} = {toml_value(item)}" for key, item in value.items())
        return f"{{ {pairs} }}" if pairs else "{}"
    return str(value)
