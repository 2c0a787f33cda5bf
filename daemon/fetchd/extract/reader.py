"""Reads bodies: small ones on the loop, in bounded steps; all others in worker processes, which the deadline kills."""

from __future__ import annotations

import json
import secrets
from collections.abc import AsyncIterable, AsyncIterator, Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, Protocol, TypeVar

from fetchd.body import Body
from fetchd.errors import FetchError, Reason, UserCodeError
from fetchd.extract.order import Answer, Order, Refusal
from fetchd.extract.plain import RECORDS, Steps, TooLongError
from fetchd.job import Job
from fetchd.run import Carried, Fetched, Progress
from fetchd.worker import Workers

T = TypeVar("T")

INLINE: Final = 32 * 1024
"""Bytes of the largest body that is read on the loop."""
STEPS: Final = 4000
"""Steps that a reading may take there."""
VALUES: Final = 256 * 1024
"""Bytes, as JSON, of the values that come back to the loop; items that are to be kept come as a body."""


class Keep(Protocol):
    """Where results go: to memory as far as there is any, else to the folder."""

    @property
    def folder(self) -> Path:
        """The folder of those above ``above`` bytes."""

    @property
    def above(self) -> int:
        """The bytes from which on they go there."""

    async def keep(self, pieces: AsyncIterable[bytes]) -> Body:
        """Return the body that ``pieces`` make up."""


class Reader:
    """Reads what was fetched, as its job asks for."""

    def __init__(self, workers: Workers, spool: Keep) -> None:
        self._workers = workers
        self._spool = spool

    async def values(self, body: Body, queries: Sequence[str], progress: Progress | None = None) -> list[Any]:
        """Return what each of ``queries`` finds in a JSON body; together 256 KiB at the most. It stays open.

        Raises:
            FetchError: it is not JSON, a query cannot be asked of it, or what they find is larger.
        """
        from fetchd.extract import records, work  # and with them jmespath, which only jobs with expressions need

        order, asked = Order(_content(body), most=VALUES), tuple(queries)
        found = _inline(lambda steps: records.values(order, asked, steps), order, body.size)
        if found is None:
            found = await self._elsewhere(work.valued, (order, asked), progress)
        return json.loads(found)  # type: ignore[no-any-return]

    async def items(
        self, body: Body, query: str | None, most: int, progress: Progress | None = None
    ) -> tuple[int, Body]:
        """Return how many items the list has that ``query`` finds in a JSON body, and them, one on each line.

        They take ``most`` bytes at the most. The body stays open, and the new one is the caller's to close.

        Raises:
            FetchError: it is not JSON, nothing is found, or that is larger or no list.
        """
        order = Order(_content(body), most=most, split=query or "@")
        answer = await self._answer(order, body.size, progress)
        return answer.records, await self._kept(answer, progress)

    async def extracted(
        self, job: Job, fetched: Fetched, carried: Carried, progress: Progress | None = None
    ) -> tuple[Fetched | None, Carried]:
        """Return ``fetched`` as its job has it delivered, and what the next Run begins with.

        It is ``fetched`` itself where nothing is to be extracted, and None where no record is left; in all other
        cases, errors too, the body of ``fetched`` is closed here.

        Raises:
            FetchError: the body is not what it should be, nothing is found in it, or the result is too large.
        """
        if job.parse == "json" and job.extract is None and job.split is None:
            return fetched, carried
        try:
            order = self._order(job, fetched, carried)
            answer = await self._answer(order, fetched.body.size, progress)
            after = carried if answer.seen == carried.seen else replace(carried, seen=answer.seen)
            if answer.content_type == RECORDS and not answer.records:
                return None, after
            body = await self._kept(answer, progress)
        finally:
            fetched.body.close()
        return replace(fetched, body=body, content_type=answer.content_type), after

    def _order(self, job: Job, fetched: Fetched, carried: Carried) -> Order:
        return Order(
            _content(fetched.body),
            most=job.max_body,
            content_type=fetched.content_type,
            url=fetched.url,
            parse=job.parse,
            delimiter=job.delimiter,
            extract=job.extract,
            split=job.split,
            unique=job.unique,
            seen=carried.seen,
        )

    async def _answer(self, order: Order, size: int, progress: Progress | None) -> Answer:
        from fetchd.extract import records, work  # as above

        answer = _inline(lambda steps: records.carried_out(order, steps), order, size)
        if answer is not None:
            return answer
        file = self._spool.folder / f"body-{secrets.token_hex(16)}"
        try:
            return await self._elsewhere(work.answered, replace(order, file=file, above=self._spool.above), progress)
        except BaseException:
            file.unlink(missing_ok=True)
            raise

    async def _elsewhere(self, function: Callable[[Any], T | Refusal], argument: Any, progress: Progress | None) -> T:
        """Return what ``function`` returns in a worker process; who waits for one is starved, and not slow."""
        begun = False

        def begin() -> None:
            nonlocal begun
            begun = True
            _enter(progress, "extract")

        _enter(progress, "worker")
        try:
            answer: T | Refusal = await self._workers.call(function, argument, on_start=begin)
        except UserCodeError as error:  # ours does not raise: its process has died, or could not be started
            reason = Reason.EXTRACT if begun else Reason.LOCAL_RESOURCE
            message = f"the body could not be read: {error}"
            raise FetchError(reason, message, transient=not begun, phase="extract") from None
        if isinstance(answer, Refusal):
            transient = answer.reason is Reason.LOCAL_RESOURCE
            raise FetchError(answer.reason, answer.message, transient=transient, phase="extract")
        return answer

    async def _kept(self, answer: Answer, progress: Progress | None) -> Body:
        if isinstance(answer.content, Path):
            return Body(answer.content, size=answer.size, sha256=answer.sha256)
        _enter(progress, "memory")
        return await self._spool.keep(_once(answer.content))


def _inline(act: Callable[[Steps], T], order: Order, size: int) -> T | None:
    """Return what ``act`` returns; None where it is no work for the loop."""
    if size > INLINE or order.parse == "feed" or isinstance(order.content, Path):
        return None
    try:
        return act(Steps(STEPS))
    except TooLongError:
        return None


def _content(body: Body) -> bytes | Path:
    content = body.content if body.path is None else body.path
    assert content is not None
    return content


def _enter(progress: Progress | None, phase: str) -> None:
    if progress is not None:
        progress.phase = phase


async def _once(content: bytes) -> AsyncIterator[bytes]:
    yield content
