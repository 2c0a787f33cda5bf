"""A Run's fetch: attempts until one brings the result, within the deadline that the caller sets around them."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterable, AsyncIterator, Callable, Mapping
from typing import Final

import httpx

from fetchd.body import Body
from fetchd.errors import FetchError
from fetchd.fetch.client import SharedClient, let_go
from fetchd.fetch.collect import Collector
from fetchd.fetch.exchange import Exchange, Limits
from fetchd.fetch.request import DEFAULT_HEADERS, NO_VALIDATORS, Template, not_modified, parsed
from fetchd.fetch.spool import Spool
from fetchd.fetch.verdict import judge
from fetchd.job import Job, Timeouts, public_url
from fetchd.run import Fetched, Progress, Run, Validators
from fetchd.worker import Workers

BACKOFF_FIRST: Final = 0.5
BACKOFF_LONGEST: Final = 10.0
LONGEST_VALIDATOR: Final = 1024

_IDEMPOTENT: Final = frozenset({"GET", "HEAD", "PUT"})
_KEPT_HEADERS: Final = frozenset(
    {b"content-type", b"content-language", b"date", b"etag", b"last-modified", b"link", b"retry-after"}
)


class Fetcher:
    """Fetches what jobs name, all over one transport."""

    def __init__(
        self,
        transport: httpx.AsyncBaseTransport,
        spool: Spool,
        workers: Workers,
        *,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._client = SharedClient(transport)
        self._collector = Collector(transport, spool, workers)
        self._spool = spool
        self._jitter = jitter
        self._templates: dict[str, Template] = {}

    async def fetch(
        self, job: Job, run: Run, progress: Progress, validators: Validators = NO_VALIDATORS
    ) -> Fetched | None:
        """Return what ``job`` fetches now; None where its server, or its own code, says that there is nothing new.

        The caller sets the deadline; ``progress`` tells at any time how far it has come. ``validators`` are those of
        the last result; the job's own conditional headers win.

        Raises:
            FetchError: the last attempt's failure.
            UserCodeError: the job's function failed.
        """
        if job.collect:
            return await self._collector.collect(job, run, progress)
        while True:
            progress.attempts += 1
            progress.failed = None
            exchange = Exchange(Limits.of(job), progress)
            try:
                return await self._attempt(job, exchange, validators)
            except FetchError as error:
                repeatable = job.method in _IDEMPOTENT or not exchange.sent
                if progress.attempts > job.retries or not error.transient or not repeatable:
                    raise
                progress.failed, progress.phase = error.reason, "backoff"
            await asyncio.sleep(self._backoff(progress.attempts))

    async def send(self, method: str, url: str, headers: Mapping[str, str], body: Body, timeouts: Timeouts) -> int:
        """Send ``body`` and return the response's status; redirects are not followed, the response is not read.

        Raises:
            FetchError: no response came.
        """
        exchange = Exchange(Limits(timeouts, max_body=0, redirects=0, allow_insecure_redirects=False), Progress())
        framed = {**DEFAULT_HEADERS, **headers, "Content-Length": str(body.size)}
        request = httpx.Request(method, parsed(url), headers=framed, content=_Chunks(body))
        response = await self._client.walk(request, exchange, follow=False)
        await let_go(response)
        return response.status_code

    def _template(self, job: Job) -> Template:
        template = self._templates.get(job.name)
        if template is None or template.job is not job:
            template = self._templates[job.name] = Template.of(job)
        return template

    def _backoff(self, attempts: int) -> float:
        """Return the seconds before the next attempt: exponential, with full jitter."""
        return min(BACKOFF_LONGEST, BACKOFF_FIRST * 2.0 ** (attempts - 1)) * self._jitter()

    async def _attempt(self, job: Job, exchange: Exchange, validators: Validators) -> Fetched | None:
        progress, template = exchange.progress, self._template(job)
        progress.status, progress.bytes = None, 0
        progress.timings.clear()
        response = await self._client.walk(template.request(exchange, validators), exchange)
        try:
            progress.status = response.status_code
            if not_modified(response):
                return None
            judge(response, job.expect, exchange)
            assert isinstance(response.stream, AsyncIterable)
            progress.phase = "memory"
            body = await self._spool.keep(response.stream)
        finally:
            await let_go(response)
        headers = _kept_headers(response)
        return Fetched(
            status=response.status_code,
            url=template.source if response.url is template.url else public_url(str(response.url)),
            content_type=headers.get("content-type", ""),
            headers=headers,
            body=body,
            validators=Validators(_returnable(headers.get("etag")), _returnable(headers.get("last-modified"))),
            timings=dict(progress.timings),
        )


class _Chunks(AsyncIterable[bytes]):
    """A body as a request's content, from its beginning each time that it is sent."""

    def __init__(self, body: Body) -> None:
        self._body = body

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._body.chunks()


def _kept_headers(response: httpx.Response) -> dict[str, str]:
    raw = ((name.lower(), value) for name, value in response.headers.raw)
    return {name.decode(): value.decode("latin-1") for name, value in raw if name in _KEPT_HEADERS}


def _returnable(validator: str | None) -> str | None:
    """Return ``validator`` if it may be sent back: one that is long or strange would spoil every later request."""
    if validator is None or len(validator) > LONGEST_VALIDATOR:
        return None
    return validator if validator.isascii() and validator.isprintable() else None
