"""From a Job to the requests that it sends."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlencode

import httpx

from fetchd import __version__
from fetchd.fetch.auth import basic
from fetchd.fetch.decode import ACCEPTED
from fetchd.fetch.exchange import EXTENSION, Exchange
from fetchd.fetch.failures import NotSendableError
from fetchd.job import Job, public_url
from fetchd.run import Validators

ASKING: Final = ("if-none-match", "if-modified-since")
CONDITIONAL: Final = frozenset(name.encode() for name in ASKING)
NO_VALIDATORS: Final = Validators()
DEFAULT_HEADERS: Final = {"Accept": "*/*", "Accept-Encoding": ACCEPTED, "User-Agent": f"fetchd/{__version__}"}


@dataclass(frozen=True, slots=True)
class Template:
    """What all requests of a job have in common, put together once: parsing a URL costs as much as sending it."""

    job: Job
    url: httpx.URL
    headers: tuple[tuple[bytes, bytes], ...]
    stream: httpx.AsyncByteStream
    source: str
    """The URL, fit to be shown."""
    conditional: bool
    """Whether the job's own headers are conditional: then no others are added to them."""

    @classmethod
    def of(cls, job: Job) -> Template:
        """Return the template for ``job``, which has a URL.

        Raises:
            NotSendableError: the URL is not one that the client can ask for.
        """
        assert job.url is not None
        url = parsed(job.url.reveal())
        content, content_type = _content(job)
        headers = httpx.Headers(DEFAULT_HEADERS)
        if content_type:
            headers["Content-Type"] = content_type
        if url.userinfo:
            headers["Authorization"] = basic(url.username, url.password)
        headers.update(own_headers(job))
        if job.auth is not None:
            headers.update(job.auth.headers())
        first = httpx.Request(job.method, _address(url, job), headers=headers, content=content)
        assert isinstance(first.stream, httpx.AsyncByteStream)
        pairs = tuple(first.headers.raw)
        conditional = any(name.lower() in CONDITIONAL for name, _ in pairs)
        return cls(job, first.url, pairs, first.stream, public_url(str(first.url)), conditional)

    def request(self, exchange: Exchange, validators: Validators = NO_VALIDATORS) -> httpx.Request:
        """Return a fresh request that carries ``exchange``, and asks for what is new since ``validators``."""
        return httpx.Request(
            self.job.method,
            self.url,
            headers=list(self.headers) if self.conditional else [*self.headers, *_conditions(validators)],
            stream=self.stream,
            extensions={EXTENSION: exchange},
        )


def not_modified(response: httpx.Response) -> bool:
    """Return whether ``response`` says that there is nothing new, to a request that asked whether there is."""
    return response.status_code == 304 and any(name in response.request.headers for name in ASKING)


def _conditions(validators: Validators) -> Iterator[tuple[bytes, bytes]]:
    if validators.etag is not None:
        yield b"If-None-Match", validators.etag.encode("latin-1", "replace")
    if validators.last_modified is not None:
        yield b"If-Modified-Since", validators.last_modified.encode("latin-1", "replace")


def parsed(url: str) -> httpx.URL:
    """Return ``url`` as the client understands it, which is stricter about international names than the configuration.

    Raises:
        NotSendableError: it does not.
    """
    try:
        return httpx.URL(url)
    except httpx.InvalidURL as error:
        raise NotSendableError(f"the URL cannot be asked for: {error}") from None


def own_headers(job: Job) -> list[tuple[bytes, bytes]]:
    """Return the headers that ``job`` names itself. Beyond ASCII they are sent in UTF-8."""
    return [(name.encode("ascii"), value.reveal().encode()) for name, value in job.headers.items()]


def _address(url: httpx.URL, job: Job) -> httpx.URL:
    """Return ``url`` without the user, and with the job's parameters after the query that it has already."""
    added = urlencode([(name, value.reveal()) for name, value in job.params.items()]).encode()
    query = b"&".join(part for part in (url.query, added) if part)
    return url.copy_with(username=None, password=None, query=query or None)


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
