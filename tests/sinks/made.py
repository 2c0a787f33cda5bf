"""Deliveries and resources, as sinks are given them."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from fetchd.body import Body
from fetchd.run import Delivery, Fetched
from fetchd.sinks import Outgoing, Resources
from fetchd.sinks.kinds import OPTIONS
from fetchd.worker import Workers

SLOT = datetime(2026, 3, 2, 0, 30, tzinfo=timezone(timedelta(hours=1)))
"""Still the first of March in UTC."""

assert SLOT.astimezone(UTC).day == 1


def delivery(
    content: bytes | Path = b'{"rate": 1.10}',
    *,
    id: str = "d1",
    job: str = "rates",
    content_type: str = "application/json",
    status: int | None = 200,
) -> Delivery:
    """Return a delivery of ``content``, which may be a spool file."""
    body = Body(content, size=content.stat().st_size, sha256="") if isinstance(content, Path) else Body.of(content)
    fetched = Fetched(
        status=status,
        url="https://upstream.test/v1/rates",
        content_type=content_type,
        headers={"etag": '"1"'},
        body=body,
    )
    return Delivery(id=id, job=job, run="r1", slot=SLOT, sink="target", fetched=fetched)


def records(*values: object, id: str = "d1", **parts: Any) -> Delivery:
    """Return a delivery made of records, one on each line."""
    content = b"".join(json.dumps(value).encode() + b"\n" for value in values)
    return delivery(content, id=id, content_type="application/x-ndjson", **parts)


async def refuse(_outgoing: Outgoing) -> int:
    """Stand where nothing shall be sent."""
    raise AssertionError("nothing is to be sent")


def resources(out: Path, **parts: Any) -> Resources:
    """Return resources whose relative paths start from ``out``."""
    return Resources(**{"out": out, "send": refuse, "workers": Workers(), **parts})


def options(kind: str, **values: Any) -> Any:
    """Return the options of a sink, as the configuration would make them."""
    return OPTIONS[kind].model_validate({"kind": kind, **values})
