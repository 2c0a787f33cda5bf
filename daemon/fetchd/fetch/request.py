"""From a Job to the requests that it sends."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import unquote_plus, urlencode

import httpx

from fetchd import __version__
from fetchd.fetch.ask import Ask, Place
from fetchd.fetch.auth import basic
from fetchd.fetch.decode import ACCEPTED
from fetchd.fetch.exchange import EXTENSION, Exchange
from fetchd.fetch.failures import NotSendableError
from fetchd.fetch.network import carried
from fetchd.fetch.pages import as_text
from fetchd.fetch.placeholders import Known, fill, filled
from fetchd.job import CursorPages, Job, LinkPages, NumberedPages, OffsetPages, public_url
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
        address = _address(url, [(name, value.reveal()) for name, value in job.params.items()])
        first = httpx.Request(job.method, address, headers=headers, content=content)
        assert isinstance(first.stream, httpx.AsyncByteStream)
        pairs = tuple(first.headers.raw)
        conditional = any(name.lower() in CONDITIONAL for name, _ in pairs)
        return cls(job, first.url, pairs, first.stream, public_url(str(first.url)), conditional)

    def request(
        self, exchange: Exchange, validators: Validators = NO_VALIDATORS, ask: Ask | None = None
    ) -> httpx.Request:
        """Return a fresh request that carries ``exchange``, and asks for what is new since ``validators``.

        With ``ask`` it is put together anew: its placeholders filled in, and for the page that is asked for. No
        validators go with it, for they are those of another request.

        Raises:
            NotSendableError: the URL is none any more once it is filled in.
        """
        if ask is not None:
            return self._asking(ask, exchange)
        return httpx.Request(
            self.job.method,
            self.url,
            headers=list(self.headers) if self.conditional else [*self.headers, *_conditions(validators)],
            stream=self.stream,
            extensions={EXTENSION: exchange},
        )

    def _asking(self, ask: Ask, exchange: Exchange) -> httpx.Request:
        job, known = self.job, ask.known
        assert job.url is not None
        params = [(name, fill(value.reveal(), known)) for name, value in job.params.items()]
        try:
            url = _on_page(_address(parsed(fill(job.url.reveal(), known, quoted=True)), params), job, ask.place)
        except httpx.InvalidURL as error:
            raise NotSendableError(f"the page's URL cannot be asked for: {error}", exchange) from None
        content, _ = _content(job, ask)
        headers = [pair for pair in self.headers if pair[0].lower() != b"content-length"]
        ask.asked = url
        return httpx.Request(job.method, url, headers=headers, content=content, extensions={EXTENSION: exchange})


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
        return httpx.URL(carried(url))
    except httpx.InvalidURL as error:
        raise NotSendableError(f"the URL cannot be asked for: {error}") from None


def own_headers(job: Job) -> list[tuple[bytes, bytes]]:
    """Return the headers that ``job`` names itself. Beyond ASCII they are sent in UTF-8."""
    return [(name.encode("ascii"), value.reveal().encode()) for name, value in job.headers.items()]


def _address(url: httpx.URL, params: Sequence[tuple[str, str]]) -> httpx.URL:
    """Return ``url`` without the user, and with ``params`` after the query that it has already."""
    query = b"&".join(part for part in (url.query, urlencode(params).encode()) if part)
    return url.copy_with(username=None, password=None, query=query or None)


def _on_page(url: httpx.URL, job: Job, place: Place) -> httpx.URL:
    """Return ``url`` as it asks for the page at ``place``: at the same origin, whatever the place is."""
    pages, value = job.pages, place.value
    if value is None:
        return url
    if isinstance(pages, LinkPages):
        return url.copy_with(raw_path=value.encode("ascii"))
    params: dict[str, str] = {}
    if isinstance(pages, NumberedPages | OffsetPages) and pages.size_param and pages.size:
        params[pages.size_param] = str(pages.size)
    if pages is not None and pages.param is not None:
        params[pages.param] = as_text(value)
    kept = [
        part for part in url.query.split(b"&") if part and unquote_plus(part.partition(b"=")[0].decode()) not in params
    ]
    query = b"&".join([*kept, *([urlencode(params).encode()] if params else ())])
    return url.copy_with(query=query or None)


def _content(job: Job, ask: Ask | None = None) -> tuple[bytes | None, str]:
    """Return the request's body and its media type; with ``ask`` filled in, and with the page's cursor."""
    known = ask.known if ask else None
    field = job.pages.field if ask and ask.place.value is not None and isinstance(job.pages, CursorPages) else None
    if job.json_body is not None:
        document = filled(job.json_body, known) if known else job.json_body
        if ask and field:
            document = _with_field(document, field.split("."), ask.place.value)
        return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode(), "application/json"
    if job.form is not None:
        pairs = {name: _text(value.reveal(), known) for name, value in job.form.items()}
        if ask and field:
            pairs[field] = as_text(ask.place.value)
        return urlencode(pairs).encode(), "application/x-www-form-urlencoded"
    if job.body is not None:
        return _text(job.body.reveal(), known).encode(), ""
    return None, ""


def _text(text: str, known: Known | None) -> str:
    return fill(text, known) if known else text


def _with_field(document: Any, keys: Sequence[str], value: Any) -> dict[str, Any]:
    """Return a copy of ``document`` with ``value`` below ``keys``; what is no table on the way becomes one."""
    copy = dict(document) if isinstance(document, dict) else {}
    copy[keys[0]] = _with_field(copy.get(keys[0]), keys[1:], value) if keys[1:] else value
    return copy
