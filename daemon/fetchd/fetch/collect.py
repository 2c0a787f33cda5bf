"""Jobs in code: the user's function makes the requests, and returns one result."""

from __future__ import annotations

import inspect
import json
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Any, Final

import httpx

from fetchd.body import on_disk
from fetchd.errors import FetchError, Reason, UserCodeError
from fetchd.fetch.client import GuardedClient
from fetchd.fetch.context import Context
from fetchd.fetch.exchange import Limits
from fetchd.fetch.incoming import Incoming
from fetchd.fetch.request import own_headers
from fetchd.fetch.spool import Spool
from fetchd.job import Job
from fetchd.run import Fetched, Progress, Run
from fetchd.worker import ResultTooLargeError, Workers, load_function

PICKLED: Final = 2
"""How many times larger than its JSON a result may travel, at the most: a short number takes up to nine bytes."""
PICKLED_BESIDES: Final = 64 * 1024
"""Bytes for what is around a result, and for a failure's text."""


class Collector:
    """Calls ``collect`` functions: async ones with a guarded client, sync ones in a worker process."""

    def __init__(self, transport: httpx.AsyncBaseTransport, spool: Spool, workers: Workers) -> None:
        self._transport = transport
        self._spool = spool
        self._workers = workers
        self._functions: dict[str, Callable[..., Any]] = {}

    async def collect(self, job: Job, run: Run, progress: Progress) -> Fetched | None:
        """Return what the function of ``job`` returns; None where it says that there is nothing new.

        Raises:
            FetchError: one of its requests failed and it did not catch that, or its result is too large.
            UserCodeError: it failed otherwise, or returned what cannot be delivered.
        """
        progress.attempts += 1
        result = await self._call(job, run, progress)
        if result is None:
            return None
        content, content_type = _content_of(result)
        if len(content) > job.max_body:
            message = f"{job.collect} returned {len(content)} bytes, max_body is {job.max_body}"
            raise FetchError(Reason.TOO_LARGE, message, transient=False, phase="collect")
        progress.bytes = len(content)
        progress.phase = "memory"
        body = await self._spool.keep(_once(content))
        return Fetched(
            status=None,
            url="",
            content_type=content_type,
            headers={},
            body=body,
            timings=dict(progress.timings),
        )

    async def _call(self, job: Job, run: Run, progress: Progress) -> Any:
        assert job.collect is not None
        progress.phase = "collect"
        function = self._functions.get(job.collect)
        if function is None:
            function = self._functions[job.collect] = await on_disk(partial(load_function, job.collect))
        if not inspect.iscoroutinefunction(function):
            return await self._call_worker(function, job, run, progress)
        async with GuardedClient(_Borrowed(self._transport), Limits.of(job), progress) as client:
            client.headers.update(own_headers(job))
            return await self._workers.call(function, Context(job.name, run.id, run.slot, client))

    async def _call_worker(self, function: Callable[..., Any], job: Job, run: Run, progress: Progress) -> Any:
        def begin() -> None:
            progress.phase = "collect"

        progress.phase = "worker"
        context = Context(job.name, run.id, run.slot)
        largest = PICKLED * job.max_body + PICKLED_BESIDES
        try:
            return await self._workers.call(function, context, largest=largest, on_start=begin)
        except ResultTooLargeError:
            message = f"{job.collect} returned more than max_body, {job.max_body} bytes"
            raise FetchError(Reason.TOO_LARGE, message, transient=False, phase="collect") from None


class _Borrowed(httpx.AsyncBaseTransport):
    """The shared transport, for a client that closes what it was given: the responses that its user left open."""

    def __init__(self, transport: httpx.AsyncBaseTransport) -> None:
        self._transport = transport
        self._open: set[Incoming] = set()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send ``request`` over the shared connections."""
        response = await self._transport.handle_async_request(request)
        if isinstance(response.stream, Incoming):
            self._open.add(response.stream)
            response.stream.held.callback(self._open.discard, response.stream)
        return response

    async def aclose(self) -> None:
        """Close what is open; the transport itself goes on, for others use it."""
        for stream in list(self._open):
            await stream.aclose()


async def _once(content: bytes) -> AsyncIterator[bytes]:
    yield content


def _content_of(result: Any) -> tuple[bytes, str]:
    if isinstance(result, bytes):
        return result, "application/octet-stream"
    try:
        if isinstance(result, str):
            return result.encode(), "text/plain; charset=utf-8"
        if isinstance(result, dict | list):
            return json.dumps(result, ensure_ascii=False).encode(), "application/json"
    except (TypeError, ValueError, RecursionError) as error:
        kind = "text" if isinstance(result, str) else "JSON"
        raise UserCodeError(f"the function's result is not {kind}: {error}") from None
    raise UserCodeError(
        f"the function returned {type(result).__name__}; bytes, str, dict, list or None can be delivered"
    )
