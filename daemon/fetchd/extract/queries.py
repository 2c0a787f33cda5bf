"""JMESPath expressions, compiled once; on the loop each is followed for a bounded number of steps."""

from __future__ import annotations

from functools import lru_cache
from math import inf
from typing import Any, Final

import jmespath
from jmespath.exceptions import JMESPathError, JMESPathTypeError
from jmespath.visitor import TreeInterpreter

from fetchd.extract.plain import Steps, TooLongError, failure
from fetchd.shorten import shortened

GROWTH: Final = 4
"""How many times over an expression may name the same part of a value, to be followed on the loop."""

_AT_ONCE: Final = 8
"""Elements that a step of the library's own, such as one of sort(), goes through in about a microsecond."""


class Query:
    """An expression that can be asked of values."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._parsed = jmespath.compile(text)
        self._growth = _growth(self._parsed.parsed)

    def of(self, value: Any, steps: Steps) -> Any:
        """Return what the expression finds in ``value``; None for nothing.

        Raises:
            FetchError: a function of the expression does not take what it is given.
            TooLongError: it would take more than ``steps``.
        """
        if steps.bounded and self._growth > GROWTH:
            raise TooLongError
        try:
            if steps.bounded:
                return _Counted(steps).visit(self._parsed.parsed, value)
            return self._parsed.search(value)
        except (TooLongError, MemoryError):
            raise
        except JMESPathTypeError as error:  # its own text repeats the value
            wanted = " or ".join(str(kind) for kind in error.expected_types)
            why = f"{error.function_name}() takes {wanted}, not {error.actual_type}"
        except JMESPathError as error:
            why = shortened(" ".join(str(error).split()), 200)
        except Exception as error:  # the library compares whatever it finds, and Python does not always
            why = type(error).__name__
        raise failure(f'"{self.text}" cannot be asked of it: {why}')


@lru_cache(maxsize=1024)
def query(text: str) -> Query:
    """Return the compiled expression."""
    return Query(text)


class _Counted(TreeInterpreter):
    """Follows an expression step by step, as far as there are any."""

    def __init__(self, steps: Steps) -> None:
        super().__init__()
        self._steps = steps

    def visit(self, node: Any, *args: Any, **kwargs: Any) -> Any:
        self._steps.take()
        return super().visit(node, *args, **kwargs)

    def visit_flatten(self, node: Any, value: Any) -> Any:
        return self._long(super().visit_flatten(node, value))

    def visit_function_expression(self, node: Any, value: Any) -> Any:
        return self._long(super().visit_function_expression(node, self._long(value)))

    def _long(self, value: Any) -> Any:
        """Return ``value``, having taken the steps for its length."""
        if isinstance(value, list | dict):
            self._steps.take(len(value) / _AT_ONCE)
        return value


def _growth(node: Any) -> float:
    """Return by how much the largest value on the way can be larger, written out, than what an expression is asked of.

    Projections and filters take each part once; a multi-select takes all of it for each of its own parts, and another
    one behind it does so again: a line of them is an exponential.
    """
    kind, children = node["type"], node["children"]
    if kind == "slice":  # its children are numbers
        return 1
    if kind in {"multi_select_list", "multi_select_dict"}:
        return _side_by_side(children)
    if kind == "function_expression":
        return _function(node["value"], children)
    grown = [_growth(child) for child in children]
    if kind in {"comparator", "or_expression", "and_expression"}:
        return max(grown)
    if kind == "filter_projection":
        base, taken, asked = grown
        return base * max(taken, asked)
    product = 1.0
    for factor in grown:
        product *= factor
    return product


def _side_by_side(parts: list[Any]) -> float:
    """Return the growth of ``parts`` that are all asked of one value; different keys of it have nothing in common."""
    keyed: dict[str, float] = {}
    others = 0.0
    for part in parts:
        key = _first_key(part)
        if key is None:
            others += _growth(part)
        else:
            keyed[key] = keyed.get(key, 0.0) + _growth(part)
    return max(1.0, others + max(keyed.values(), default=0.0))


def _first_key(node: Any) -> str | None:
    """Return the key with which an expression begins, if it does so."""
    while node["type"] in {"key_val_pair", "subexpression", "index_expression", "projection", "value_projection"}:
        node = node["children"][0]
    return str(node["value"]) if node["type"] == "field" else None


def _function(name: str, arguments: list[Any]) -> float:
    if name == "join" and arguments and arguments[0]["type"] != "literal":
        return inf  # a separator out of the body, once for each element
    grown = [_growth(argument) for argument in arguments]
    if any(argument["type"] == "expref" for argument in arguments):
        product = 1.0
        for factor in grown:
            product *= factor
        return product
    return max(1.0, sum(grown) * (3 if name == "to_string" else 1))
