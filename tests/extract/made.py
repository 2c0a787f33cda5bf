"""Jobs, results and orders, as the room is given them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from fetchd.body import Body
from fetchd.extract.order import Answer, Order
from fetchd.extract.plain import Steps
from fetchd.extract.records import carried_out
from fetchd.job import Job
from fetchd.run import Fetched

MIB = 2**20


def job(**keys: Any) -> Job:
    """Return a job that reads its results as ``keys`` say."""
    return Job.model_validate({"name": "test", "url": "https://upstream.test/", **keys})


def fetched(content: bytes | Path, content_type: str = "application/json") -> Fetched:
    """Return a result of ``content``, which may be a spool file."""
    body = Body(content, size=content.stat().st_size, sha256="") if isinstance(content, Path) else Body.of(content)
    return Fetched(200, "https://upstream.test/feed", content_type, {"etag": '"1"'}, body)


def read(content: bytes, *, most: int = MIB, **keys: Any) -> Answer:
    """Return what is read of ``content``, in this process and without a bound of steps."""
    return carried_out(Order(content, most=most, **keys), Steps())


def rows(answer: Answer) -> list[Any]:
    """Return the records of ``answer``."""
    assert answer.content_type == "application/x-ndjson"
    assert isinstance(answer.content, bytes)
    assert answer.content.endswith(b"\n") or not answer.content
    return [json.loads(line) for line in answer.content.splitlines()]
