"""Texts for people: cut short without leaving half a secret behind, counted, and in an order that they expect."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Final

LISTED: Final = 20
"""Names that are told at once."""
_NUMBER: Final = re.compile("[0-9]+")
LONGEST_NAME: Final = 64
"""Characters of the name of a job."""


def shortened(text: str, longest: int, *, end: bool = False) -> str:
    """Return the first ``longest`` characters of ``text``, or the last ones if ``end``, and a sign that there are more.

    A word that the cut goes through is left out: it may be a secret, and half of one is not known for what it is.
    """
    if len(text) <= longest:
        return text
    kept = text[-longest - 1 :] if end else text[: longest + 1]
    if not kept[0 if end else -1].isspace():
        words = kept.split(maxsplit=1) if end else kept.rsplit(maxsplit=1)
        kept = words[-1 if end else 0] if len(words) == 2 else ""
    return f"[...] {kept.strip()}".rstrip() if end else f"{kept.strip()} [...]".lstrip()


def count_of(number: int, noun: str) -> str:
    """Return how many there are, in words: "1 job", "2 jobs"."""
    return f"{number} {noun}" + ("" if number == 1 else "s")


def meant(word: str, names: Iterable[str]) -> str:
    """Return which of ``names``, those of jobs, may have been meant by ``word``; else the first of them."""
    from difflib import get_close_matches  # by those who have mistyped alone

    known = sorted(names, key=by_number)
    if near := get_close_matches(word, known, n=1):
        return f'did you mean "{near[0]}"?'
    return f"the jobs are {listed(known)}" if known else "there is none"


def listed(names: Sequence[str]) -> str:
    """Return ``names`` in one line, or the first `LISTED` of them and how many more there are."""
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return ", ".join(names[:LISTED]) + more


def by_number(name: str) -> str:
    """Return what to sort the ``name`` of a job by, so that its numbers count as such: "job-2" comes before "job-10".

    The page's script does the same.
    """
    return f"{_NUMBER.sub(lambda digits: digits[0].zfill(LONGEST_NAME), name)} {name}"
