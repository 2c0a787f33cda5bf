"""Whether a response is a result, decided from its head alone."""

from __future__ import annotations

import httpx

from fetchd.errors import FetchError, Reason
from fetchd.job import Expect

_TRANSIENT_STATUS = frozenset({408, 425, 500, 502, 503, 504})


def objection(expect: Expect, response: httpx.Response) -> FetchError | None:
    """Return why ``response`` is not the result that was expected; None if it is."""
    status = response.status_code
    wanted = status in expect.status if expect.status else 200 <= status <= 299
    if not wanted:
        # A server that names a time to come back wants no attempt before it.
        transient = status in _TRANSIENT_STATUS and "retry-after" not in response.headers
        return FetchError(_reason(status), f"the server answered {status}", transient=transient, status=status)
    declared = response.headers.get("content-type", "")
    media_type = declared.partition(";")[0].strip().lower()
    if expect.content_type is not None and media_type != expect.content_type.lower():
        message = f'the content type is "{declared[:100]}", not "{expect.content_type}"'
        return FetchError(Reason.UNEXPECTED, message, transient=False, status=status)
    return None


def _reason(status: int) -> Reason:
    if status == 429:
        return Reason.HTTP_429
    if 400 <= status <= 499:
        return Reason.HTTP_4XX
    return Reason.HTTP_5XX if status >= 500 else Reason.UNEXPECTED
