"""How a job goes through what one response does not hold, and where the next Run goes on."""

from __future__ import annotations

from collections.abc import Iterator
from difflib import get_close_matches
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, Field, model_validator

from fetchd.job.values import Frozen
from fetchd.units import Size

DEEPEST: Final = 100
"""Levels of an expression: pipes, brackets, arguments and the like within one another."""


def _query(text: str) -> str:
    import jmespath  # only who writes an expression needs it
    from jmespath.exceptions import JMESPathError

    try:
        called = list(_calls(jmespath.compile(text).parsed))
    except JMESPathError as error:
        problem = str(error).splitlines()[0].removesuffix(":").removesuffix(", for expression")
        remedy = (
            "a number stands in backquotes, as `1`" if "(NUMBER)" in problem else 'write one such as "data.items[*]"'
        )
        raise ValueError(f"not a JMESPath expression: {problem}; {remedy}") from None
    except RecursionError:
        raise ValueError(f"an expression has at most {DEEPEST} levels") from None
    for name, arguments in called:
        _check_call(name, arguments)
    return text


def _calls(node: Any) -> Iterator[tuple[str, int]]:
    """Yield the functions that an expression calls, with how many arguments each is given.

    Raises:
        RecursionError: whoever follows it would go deeper than is good.
    """
    rest = [(node, 1)]
    while rest:
        part, depth = rest.pop()
        if depth > DEEPEST:
            raise RecursionError
        if isinstance(part, dict):
            rest += [(child, depth + 1) for child in part["children"]]
            if part["type"] == "function_expression":
                yield part["value"], len(part["children"])


def _check_call(name: str, arguments: int) -> None:
    """Refuse what the library notices only once there is something to call the function with."""
    from jmespath.functions import Functions

    known = Functions.FUNCTION_TABLE.get(name)
    if known is None:
        near = get_close_matches(name, Functions.FUNCTION_TABLE, n=1)
        raise ValueError(f"JMESPath has no function {name}()" + (f"; did you mean {near[0]}()?" if near else ""))
    takes = known["signature"]
    some = bool(takes) and bool(takes[-1].get("variadic"))
    if arguments < len(takes) or (arguments > len(takes) and not some):
        wanted = f"{len(takes)} argument{'' if len(takes) == 1 else 's'}{' or more' if some else ''}"
        raise ValueError(f"{name}() takes {wanted}, not {arguments}")


Query = Annotated[str, Field(min_length=1), AfterValidator(_query)]
"""A JMESPath expression, which says what is taken from a JSON body."""


class Pages(Frozen):
    """How all pages of a result are fetched; each kind says how the next one is found."""

    max: Annotated[int, Field(ge=1, le=100_000)] = 100
    """The most pages of one Run."""
    max_bytes: Size = 100 * 2**20
    """The most bytes of all pages of one Run together."""
    deliver: Literal["each", "joined"] = "each"
    """Whether each page is a result of its own, or the items of all of them are one."""
    items: Query | None = None
    """Where a page holds its items; without, the page itself is the list of them."""
    resume: bool = False
    """Whether a Run that was cut off, or came to ``max``, is gone on from by the next one; for ``deliver = "each"``."""

    @model_validator(mode="after")
    def _resumable(self) -> Pages:
        if self.resume and self.deliver == "joined":
            raise ValueError('resume goes with deliver = "each" only: joined pages are kept once all of them have come')
        return self


class LinkPages(Pages):
    """The response names the next page's address: in its Link header (RFC 8288), or in its body."""

    kind: Literal["link"]
    next: Query | None = None
    """Where the body holds the next page's address; without, the Link header with rel="next" counts."""


class CursorPages(Pages):
    """The body holds a cursor that the request for the next page carries."""

    kind: Literal["cursor"]
    next: Query
    """Where the body holds the cursor; without a value there is no further page."""
    param: Annotated[str, Field(min_length=1)] | None = None
    """The parameter that carries it in the query."""
    field: Annotated[str, Field(min_length=1)] | None = None
    """The key, with dots between levels, that carries it in the request's JSON body or form."""

    @model_validator(mode="after")
    def _one_place(self) -> CursorPages:
        if (self.param is None) == (self.field is None):
            raise ValueError("write either param or field: where the request carries the cursor")
        return self


class NumberedPages(Pages):
    """Pages are counted in a parameter of the query, until one is not full."""

    kind: Literal["page"]
    param: Annotated[str, Field(min_length=1)] = "page"
    """The parameter that carries the page's number."""
    first: Annotated[int, Field(ge=0)] = 1
    """The number of the first page."""
    size: Annotated[int, Field(ge=1)] | None = None
    """How many items a full page has; without, the first page without items is the last one."""
    size_param: Annotated[str, Field(min_length=1)] | None = None
    """The parameter that asks for so many items."""


class OffsetPages(Pages):
    """Items are counted in a parameter of the query, until a page is not full."""

    kind: Literal["offset"]
    param: Annotated[str, Field(min_length=1)] = "offset"
    """The parameter that carries the number of the page's first item."""
    size: Annotated[int, Field(ge=1)] = 100
    """How many items a full page has."""
    size_param: Annotated[str, Field(min_length=1)] | None = "limit"
    """The parameter that asks for so many items."""


AnyPages = Annotated[LinkPages | CursorPages | NumberedPages | OffsetPages, Field(discriminator="kind")]


class Cursor(Frozen):
    """What a Run leaves to the next one, which has it as ``{cursor}``; it counts once its result is kept."""

    next: Query | None = None
    """Where the body holds it."""
    header: Annotated[str, Field(min_length=1)] | None = None
    """The response's header that holds it."""
    slot: bool = False
    """Whether it is the time of the Run's slot."""
    initial: str = ""
    """What the first Run has."""

    @model_validator(mode="after")
    def _one_source(self) -> Cursor:
        if (self.next is not None) + (self.header is not None) + self.slot != 1:
            raise ValueError("write one of next, header and slot = true: where the new cursor comes from")
        return self
