"""A Run's fetch: attempts until one brings the result, within the deadline that the caller sets around them."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Iterable, Mapping
from datetime import datetime
from typing import Final

import httpx

from fetchd.body import Body
from fetchd.errors import FetchError, Reason
from fetchd.fetch.ask import Ask
from fetchd.fetch.auth.flows import Authority
from fetchd.fetch.auth.vault import Vault
from fetchd.fetch.client import SharedClient, let_go
from fetchd.fetch.collect import Collector
from fetchd.fetch.exchange import Exchange, Limits
from fetchd.fetch.failures import HostHeldError
from fetchd.fetch.freshness import Freshness
from fetchd.fetch.hosts import Hosts
from fetchd.fetch.request import DEFAULT_HEADERS, NO_VALIDATORS, Template, not_modified, parsed
from fetchd.fetch.retry import Attempt, Pace, again, retry_after, spread
from fetchd.fetch.spool import Spool
from fetchd.fetch.turns import Turn
from fetchd.fetch.verdict import judge
from fetchd.job import Job, Retry, Timeouts, public_url
from fetchd.run import Fetched, Progress, Run, Validators
from fetchd.worker import Workers

LONGEST_VALIDATOR: Final = 1024
_NOWHERE: Final = httpx.URL("")

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
        hosts: Hosts | None = None,
        *,
        pace: Pace | None = None,
        vault: Vault | None = None,
    ) -> None:
        """Open it. ``vault`` is given each secret that comes up while it is in use, such as a token."""
        self._client = SharedClient(transport)
        self._collector = Collector(transport, spool, workers)
        self._spool = spool
        self._pace = pace = pace or Pace()
        self._hosts = hosts or Hosts({}, pace.clock)
        self._authority = Authority(self._client, pace.clock, vault)
        self._templates: dict[str, Template] = {}
        self._urls: dict[str, tuple[Job, httpx.URL]] = {}
        self._turns: dict[str, Turn] = {}
        self._fresh = Freshness(pace.clock)

    def held(self, job: Job) -> tuple[Reason, float] | None:
        """Return why ``job`` is not to be fetched now, and for how many seconds; None if it may be."""
        if job.url is None:
            return None
        if left := self._hosts.left(self._name(job)):
            return Reason.RETRY_AFTER, left
        if job.respect_cache_control and (left := self._fresh.left(job)):
            return Reason.FRESH, left
        return None

    def refusal(self, job: Job) -> str:
        """Return why a Run of ``job`` that began now could send nothing before its deadline; "" if it could."""
        if job.url is None or self._hosts.left(name := self._name(job)) < job.deadline:
            return ""
        return str(self._hosts.refusal(name))

    def held_until(self, jobs: Iterable[Job]) -> dict[str, datetime]:
        """Return those of ``jobs`` whose host has said when it wants to be asked again, and that time."""
        if not self._hosts.remembered:
            return {}
        found = ((job.name, self._hosts.held_until(self._name(job))) for job in jobs if job.url is not None)
        return {name: until for name, until in found if until is not None}

    def lift(self, job: Job) -> bool:
        """Let the host of ``job`` be asked, whatever time it has named; return whether it had named one."""
        return job.url is not None and self._hosts.lift(self._name(job))

    def turn(self, job: Job) -> Turn | None:
        """Return the turn at its host that a Run of ``job`` has to wait for before it begins; None if there is none.

        The Run's first exchange with that host begins with it.
        """
        turn = self._hosts.turn(self._name(job)) if job.url is not None else None
        if turn is not None:
            self._turns[job.name] = turn
        return turn

    async def fetch(
        self,
        job: Job,
        run: Run,
        progress: Progress,
        validators: Validators = NO_VALIDATORS,
        ask: Ask | None = None,
    ) -> Fetched | None:
        """Return what ``job`` fetches now; None where its server, or its own code, says that there is nothing new.

        The caller sets the deadline; ``progress`` tells at any time how far it has come. ``validators`` are those of
        the last result; the job's own conditional headers win. ``ask`` says what this request asks for besides.

        Raises:
            FetchError: the last attempt's failure.
            UserCodeError: the job's function failed.
        """
        if job.collect:
            return await self._collector.collect(job, run, progress)
        before = progress.attempts
        deadline = progress.deadline or self._pace.clock.monotonic() + job.deadline
        turn = self._turns.pop(job.name, None)
        while True:
            await self._allowed(job, progress, deadline)
            progress.attempts += 1
            progress.failed = None
            exchange = Exchange(Limits.of(job), progress)
            exchange.turn, exchange.alone = turn, True
            try:
                return await self._attempt(job, run, exchange, validators, ask)
            except FetchError as error:
                if isinstance(error, HostHeldError) and not exchange.sent and self._hosts.left(self._name(job)):
                    progress.attempts -= 1  # it was none: the host has named a time while this one waited for its turn
                    continue
                remaining = deadline - self._pace.clock.monotonic()
                attempt = Attempt(progress.attempts - before, exchange.sent, remaining)
                wait = again(job, error, attempt, self._pace.jitter)
                if wait is None:
                    raise
                progress.failed, progress.phase = error.reason, "backoff"
            await self._sleep(wait, progress)

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
        self._obey(response, retry_after(response, self._pace.clock.now()), Retry())
        return response.status_code

    def forget(self, jobs: Mapping[str, Job]) -> None:
        """Let go of what is kept for definitions other than ``jobs``, which are those in force."""
        self._templates = {name: kept for name, kept in self._templates.items() if jobs.get(name) is kept.job}
        self._urls = {name: known for name, known in self._urls.items() if jobs.get(name) is known[0]}
        self._turns = {name: turn for name, turn in self._turns.items() if name in jobs}
        self._authority.forget(jobs)
        self._fresh.forget(jobs)

    def _template(self, job: Job) -> Template:
        template = self._templates.get(job.name)
        if template is None or template.job is not job:
            template = self._templates[job.name] = Template.of(job)
        return template

    def _name(self, job: Job) -> str:
        """Return the name of the host that ``job`` asks first; "" if its URL is none."""
        known = self._urls.get(job.name)
        if known is None or known[0] is not job:
            assert job.url is not None
            try:
                url = parsed(job.url.reveal())
            except FetchError:
                url = _NOWHERE
            known = self._urls[job.name] = (job, url)
        return self._hosts.name(known[1])

    async def _allowed(self, job: Job, progress: Progress, deadline: float) -> None:
        """Wait until the host that ``job`` asks first takes requests.

        Raises:
            HostHeldError: it does not before the deadline.
        """
        name = self._name(job)
        while left := self._hosts.left(name):
            remaining = deadline - self._pace.clock.monotonic()
            progress.phase, progress.failed = "backoff", Reason.HTTP_429
            if left >= remaining:
                error = self._hosts.refusal(name)
                error.phase = progress.phase
                raise error
            await self._sleep(min(spread(left, self._pace.jitter), (left + remaining) / 2), progress)

    async def _sleep(self, seconds: float, progress: Progress) -> None:
        async with progress.aside():
            await self._pace.sleep(seconds)

    def _judge(self, response: httpx.Response, job: Job, exchange: Exchange) -> None:
        """Let ``response`` pass, or have its host left alone for as long as it asks."""
        try:
            judge(response, job.expect, exchange, self._pace.clock.now())
        except FetchError as error:
            error.retry_after = self._obey(response, error.retry_after, job.retry)
            raise

    def _obey(self, response: httpx.Response, wait: float | None, retry: Retry) -> float | None:
        """Send the host of ``response`` nothing for as long as it wants; return the seconds of that."""
        if wait is None:
            return None
        wait = min(wait, retry.longest_retry_after)
        self._hosts.hold(self._hosts.name(response.url), wait)
        return wait

    async def _attempt(
        self, job: Job, run: Run, exchange: Exchange, validators: Validators, ask: Ask | None
    ) -> Fetched | None:
        progress, template = exchange.progress, self._template(job)
        progress.status, progress.bytes = None, progress.earlier
        progress.timings.clear()
        auth = self._authority.of(job) if job.auth is not None else None
        response = await self._client.walk(template.request(exchange, validators, ask), exchange, auth=auth)
        try:
            progress.status = response.status_code
            if not_modified(response):
                self._fresh.note(job, run, response)
                return None
            self._judge(response, job, exchange)
            assert isinstance(response.stream, AsyncIterable)
            progress.phase = "memory"
            body = await self._spool.keep(response.stream)
        finally:
            await let_go(response)
        if ask is not None:
            ask.answered = response.url
        self._fresh.note(job, run, response)
        headers = _kept_headers(response, job)
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


def _kept_headers(response: httpx.Response, job: Job) -> dict[str, str]:
    raw = ((name.lower(), value) for name, value in response.headers.raw)
    kept = {name.decode(): value.decode("latin-1") for name, value in raw if name in _KEPT_HEADERS}
    if "link" in kept:
        kept["link"] = response.headers["link"]  # several of them are one list (RFC 9110, 5.3)
    cursor = job.cursor.header if job.cursor is not None else None
    if cursor and cursor in response.headers:
        kept[cursor.lower()] = response.headers[cursor]
    return kept


def _returnable(validator: str | None) -> str | None:
    """Return ``validator`` if it may be sent back: one that is long or strange would spoil every later request."""
    if validator is None or len(validator) > LONGEST_VALIDATOR:
        return None
    return validator if validator.isascii() and validator.isprintable() else None
