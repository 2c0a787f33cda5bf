"""From a Job to the requests that it sends."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlencode

import httpx

from fetchd import __version__
from fetchd.fetch.decode import ACCEPTED
from fetchd.fetch.exchange import EXTENSION, Exchange
from fetchd.job import Job

DEFAULT_HEADERS: Final = {"Accept": "*/*", "Accept-Encoding": ACCEPTED, "User-Agent": f"fetchd/{__version__}"}


@dataclass(frozen=True, slots=True)
class Template:
    """What all requests of a job have in common, put together once: parsing a URL costs as much as sending it."""

    job: Job
    url: httpx.URL
    headers: tuple[tuple[str, str], ...]
    content: bytes | None

    @classmethod
    def of(cls, job: Job) -> Template:
        """Return the template for ``job``, which has a URL."""
        assert job.url is not None
        url = httpx.URL(job.url.reveal())
        if job.params:
            url = url.copy_merge_params({name: value.reveal() for name, value in job.params.items()})
        content, content_type = _content(job)
        headers = httpx.Headers(DEFAULT_HEADERS)
        if content_type:
            headers["Content-Type"] = content_type
        for name, value in job.headers.items():
            headers[name] = value.reveal()
        if job.auth is not None:
            headers.update(job.auth.headers())
        pairs = tuple((name.decode("ascii"), value.decode("ascii")) for name, value in headers.raw)
        return cls(job, url, pairs, content)

    def request(self, exchange: Exchange) -> httpx.Request:
        """Return a fresh request that carries ``exchange``."""
        return httpx.Request(
            self.job.method,
            self.url,
            headers=self.headers,
            content=self.content,
            extensions={EXTENSION: exchange},
        )


def _content(job: Job) -> tuple[bytes | None, str]:
    """Return the request's body and its media type."""
    if job.json_body is not None:
        return json.dumps(job.json_body, ensure_ascii=False, separators=(",", ":")).encode(), "application/json"
    if job.form is not None:
        pairs = [(name, value.reveal()) for name, value in job.form.items()]
        return urlencode(pairs).encode(), "application/x-www-form-urlencoded"
    if job.body is not None:
        return job.body.reveal().encode(), ""
    return None, ""
