"""The user's own code: async functions in the loop, all others in worker processes that can be killed."""

from __future__ import annotations

import importlib
import inspect
import json
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import anyio
import anyio.to_process

from fetchd.errors import UserCodeError

LIMIT: Final = 4
"""Worker processes at the most: sync code is for the few jobs that cannot be async."""



@dataclass(frozen=True, slots=True)
class Result:
    """What a function is given: one result with the delivery that brings it. It travels to a worker process by value."""

    job: str
    run: str
    slot: datetime
    delivery: str
    status: int | None
    url: str
    content_type: str
    headers: Mapping[str, str]
    body: bytes

    def text(self) -> str:
        """Return the body as text, in UTF-8 with replacements: an upstream's declared charset is never trusted to a codec."""
        return self.body.decode("utf-8", "replace")

    def json(self) -> Any:
        """Return the body parsed as JSON.

        Raises:
            ValueError: it is not JSON.
        """
        return json.loads(self.body)


def load_function(name: str) -> Callable[..., Any]:
    """Return the function called ``package.module:function``.

    Raises:
        UserCodeError: the module cannot be imported, or holds no such function; the message says which.
    """
    module_name, _, attribute = name.partition(":")
    try:
        module = importlib.import_module(module_name)
    except Exception as error:
        raise UserCodeError(f"cannot import {module_name}: {type(error).__name__}: {error}") from error
    function = getattr(module, attribute, None)
    if not callable(function):
        raise UserCodeError(f"{module_name} has no function {attribute}")
    return function  # type: ignore[no-any-return]


class Workers:
    """Calls the user's functions so that none of them can hold the loop, or a thread, for ever."""

    def __init__(self, limit: int = LIMIT) -> None:
        self._limiter = anyio.CapacityLimiter(limit)

    async def call(self, function: Callable[..., Any], argument: Any) -> Any:
        """Call ``function`` with ``argument``: awaited here if it is async, else in a worker process.

        A cancelled call of sync code kills its process.

        Raises:
            UserCodeError: the function raised; the message holds its traceback.
        """
        if inspect.iscoroutinefunction(function):
            try:
                return await function(argument)
            except Exception as error:
                raise UserCodeError(_own_traceback(error)) from None
        failed, value = await anyio.to_process.run_sync(
            _guarded, function, argument, cancellable=True, limiter=self._limiter
        )
        if failed:
            raise UserCodeError(value)
        return value


def _guarded(function: Callable[..., Any], argument: Any) -> tuple[bool, Any]:
    """Run in the worker process: a foreign exception travels back as text, for it may not pickle."""
    try:
        return False, function(argument)
    except Exception as error:
        return True, _own_traceback(error)


def _own_traceback(error: Exception) -> str:
    """Return ``error`` as a traceback without our own frame on top, without local values, bounded."""
    frames = traceback.TracebackException.from_exception(error, limit=-8, capture_locals=False)
    return "".join(frames.format())[-4000:].strip()
