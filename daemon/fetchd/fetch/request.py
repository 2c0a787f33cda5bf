"""From a Job to the requests that it sends."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlencode

import httpx

from fetchd import __version__
from fetchd.fetch.decode import ACCEPTED
from fetchd.fetch.exchange import EXTENSION, Exchange
from fetchd.job import Job
from fetchd.run import Validators

CONDITIONAL: Final = frozenset({"if-none-match", "if-modified-since"})
DEFAULT_HEADERS: Final = {"Accept": "*/*", "Accept-Encoding": ACCEPTED, "User-Agent": f"fetchd/{__version__}"}


@dataclass(frozen=True, slots=True)
class Template:
    """What all requests of a job have in common, put together once: parsing a URL costs as much as sending it."""

    job: Job
    url: httpx.URL
    headers: tuple[tuple[str, str], ...]
    content: bytes | None
    conditional: bool
    """Whether the job's own headers are conditional: then no others are added to them."""

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
        return cls(job, url, pairs, content, any(name.lower() in CONDITIONAL for name, _ in pairs))

    def request(self, exchange: Exchange, validators: Validators) -> httpx.Request:
        """Return a fresh request that carries ``exchange``, and asks for what is new since ``validators``."""
        return httpx.Request(
            self.job.method,
            self.url,
            headers=self.headers if self.conditional else (*self.headers, *_conditions(validators)),
            content=self.content,
            extensions={EXTENSION: exchange},
        )


def not_modified(response: httpx.Response) -> bool:
    """Return whether ``response`` says that there is nothing new, to a request that asked whether there is."""
    return response.status_code == 304 and any(name in response.request.headers for name in CONDITIONAL)


def _conditions(validators: Validators) -> Iterator[tuple[str, str]]:
    if validators.etag is not None:
        yield "If-None-Match", validators.etag
    if validators.last_modified is not None:
        yield "If-Modified-Since", validators.last_modified


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
