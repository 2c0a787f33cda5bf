"""Messages, and what notifiers share."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fetchd.notifiers.kinds import OPTIONS, open_notifier
from fetchd.notifiers.message import Message, Notifier
from tests.sinks.made import resources

MESSAGE = Message(
    id="m1",
    time=datetime(2026, 3, 2, 12, tzinfo=UTC),
    host="box",
    state="problem",
    title="fetchd on box: a is failing: dns",
    text="3 in a row: <no> & such",
    jobs=({"job": "a", "kind": "failing", "change": "new"},),
)


def options(kind: str, **values: Any) -> Any:
    """Return the options of a notifier, as the configuration would make them."""
    return OPTIONS[kind].model_validate({"kind": kind, **values})


def notifier(kind: str, folder: Path = Path(), parts: Any = None, **values: Any) -> Notifier:
    """Return a notifier; ``parts`` are its resources."""
    return open_notifier(options(kind, **values), resources(folder, **(parts or {})))
