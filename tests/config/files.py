"""Configuration files for tests."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from fetchd.config import Config, load
from fetchd.errors import ConfigError

ENVIRONMENT: Mapping[str, str] = {"HOME": "/home/somebody", "TOKEN": "t0ken-from-env"}


def write(folder: Path, text: str) -> Path:
    """Write ``text`` as a configuration file into ``folder`` and return its path."""
    path = folder / "config.toml"
    path.write_text(text, encoding="utf-8")
    return path


def loaded(folder: Path, text: str, environment: Mapping[str, str] = ENVIRONMENT) -> Config:
    """Return the configuration that ``text`` is."""
    return load(write(folder, text), environment=environment)


def refused(folder: Path, text: str, environment: Mapping[str, str] = ENVIRONMENT) -> list[str]:
    """Return the findings of ``text``, a line each, as ``line: key: message``."""
    path = write(folder, text)
    with pytest.raises(ConfigError) as caught:
        load(path, environment=environment)
    return [str(finding).removeprefix(f"{path}:").strip() for finding in caught.value.findings]
