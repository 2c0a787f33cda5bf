"""Results handed to a function of the user's own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Literal

from fetchd.body import on_disk
from fetchd.errors import FetchError, SinkError, UserCodeError
from fetchd.job import Function, SinkOptions
from fetchd.run import Delivery
from fetchd.sinks import Resources
from fetchd.worker import Result, load_function


class FunctionOptions(SinkOptions):
    """A function that is called with each result."""

    kind: Literal["function"]
    call: Function
    """The function. An async one runs in the loop, any other in a worker process; what it returns is ignored."""

    def problems(self) -> Iterator[tuple[str, str]]:
        """Yield what is wrong with the function; its module is imported to see."""
        try:
            load_function(self.call)
        except UserCodeError as error:
            yield "call", str(error)


class FunctionSink:
    """Calls the function. It is imported before the first delivery."""

    def __init__(self, options: FunctionOptions, resources: Resources) -> None:
        self._name = options.call
        self._workers = resources.workers
        self._function: Callable[..., Any] | None = None

    async def deliver(self, delivery: Delivery) -> None:
        """Call the function with the result and wait for it.

        Raises:
            SinkError: it failed, or its process died; never permanent, for the next version of it may do better.
        """
        try:
            if self._function is None:
                self._function = await on_disk(lambda: load_function(self._name))
            result = await _result_of(delivery)
            await self._workers.call(self._function, result, wants_result=False)
        except (UserCodeError, FetchError) as error:
            raise SinkError(f"{self._name}: {error}") from None

    async def aclose(self) -> None:
        """Nothing is held: worker processes are shared."""


async def _result_of(delivery: Delivery) -> Result:
    fetched = delivery.fetched
    return Result(
        job=delivery.job,
        run=delivery.run,
        slot=delivery.slot,
        delivery=delivery.id,
        status=fetched.status,
        url=fetched.url,
        content_type=fetched.content_type,
        headers=dict(fetched.headers),
        body=await fetched.body.read(),
    )
