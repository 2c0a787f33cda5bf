"""The configuration: found, read, judged and explained. Everything downstream gets values and knows no file."""

from __future__ import annotations

from fetchd.config.environment import ignored_environment
from fetchd.config.explain import Explained, Row, explain, values_of
from fetchd.config.load import load
from fetchd.config.model import Config, Daemon, Dns, Host, Log
from fetchd.config.schema import schema
from fetchd.config.sharing import limits_of
from fetchd.whereabouts import find

__all__ = [
    "Config",
    "Daemon",
    "Dns",
    "Explained",
    "Host",
    "Log",
    "Row",
    "explain",
    "find",
    "ignored_environment",
    "limits_of",
    "load",
    "schema",
    "values_of",
]
