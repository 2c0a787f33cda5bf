"""Whether a response is a result, decided from its head alone."""

from __future__ import annotations

from datetime import datetime
from typing import Final

import httpx

from fetchd.errors import FetchError, Reason
from fetchd.fetch.exchange import Exchange
from fetchd.fetch.retry import PASSING, retry_after
from fetchd.job import Expect
from fetchd.shorten import shortened

ANY: Final = range(200, 300)
"""The statuses that are results where a job names none."""


def judge(response: httpx.Response, expect: Expect, exchange: Exchange, now: datetime) -> None:
    """Let ``response``, which has come ``now``, pass if it is the result that was expected.

    Raises:
        FetchError: it is not; transient where another attempt may be answered otherwise.
    """
    status = response.status_code
    if status not in (expect.status or ANY):
        wait = retry_after(response, now)
        # Who is told when to come back may come back then.
        transient = status in PASSING or wait is not None
        error = _error(_reason(status), f"the server answered {status}", transient, response, exchange)
        error.retry_after = wait
        raise error
    if expect.content_type is None:
        return
    declared = response.headers.get("content-type", "")
    if _media_type(declared) != _media_type(expect.content_type):
        message = f'the content type is "{shortened(declared, 100)}", not "{expect.content_type}"'
        raise _error(Reason.UNEXPECTED, message, False, response, exchange)


def _error(reason: Reason, message: str, transient: bool, response: httpx.Response, exchange: Exchange) -> FetchError:
    return FetchError(
        reason,
        message,
        transient=transient,
        phase=str(exchange.phase),
        elapsed=exchange.elapsed(),
        status=response.status_code,
    )


def _media_type(text: str) -> str:
    """Return the media type alone: servers differ in its parameters, and how they write them."""
    return text.partition(";")[0].strip().lower()


def _reason(status: int) -> Reason:
    if status == 429:
        return Reason.HTTP_429
    if 400 <= status <= 499:
        return Reason.HTTP_4XX
    return Reason.HTTP_5XX if status >= 500 else Reason.UNEXPECTED
