"""What is shipped in monitoring/, read for the tests that look at it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import yaml

FOLDER: Final = Path(__file__).parents[2] / "monitoring"


def document(name: str) -> Any:
    """Return what the YAML file ``name`` holds."""
    return yaml.safe_load((FOLDER / name).read_text())


def rules() -> list[Mapping[str, Any]]:
    """Return all alerts."""
    return [rule for group in document("alerts.yml")["groups"] for rule in group["rules"]]


def dashboard() -> Any:
    """Return the dashboard."""
    return json.loads((FOLDER / "dashboard.json").read_text())


def targets() -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield each panel's title with each of its queries."""
    for panel in dashboard()["panels"]:
        for target in panel.get("targets", []):
            yield panel["title"], target
