"""From a Job to the request that it sends."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import urlencode

import httpx

from fetchd.job import Job


def build(client: httpx.AsyncClient, job: Job) -> httpx.Request:
    """Return a fresh request for ``job``, which has a URL."""
    assert job.url is not None
    headers = {name: value.reveal() for name, value in job.headers.items()}
    if job.auth is not None:
        headers.update(job.auth.headers())
    return client.build_request(
        job.method,
        job.url.reveal(),
        params={name: value.reveal() for name, value in job.params.items()} or None,
        headers=headers,
        **_content(job, headers),
    )


def _content(job: Job, headers: dict[str, str]) -> dict[str, Any]:
    if job.json_body is not None:
        _default_type(headers, "application/json")
        return {"content": json.dumps(job.json_body, ensure_ascii=False, separators=(",", ":")).encode()}
    if job.form is not None:
        _default_type(headers, "application/x-www-form-urlencoded")
        return {"content": urlencode([(name, value.reveal()) for name, value in job.form.items()]).encode()}
    if job.body is not None:
        return {"content": job.body.reveal().encode()}
    return {}


def _default_type(headers: dict[str, str], content_type: str) -> None:
    """Declare ``content_type`` unless the job declares another."""
    if not any(name.lower() == "content-type" for name in headers):
        headers["Content-Type"] = content_type
