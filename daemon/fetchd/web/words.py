"""What the page says, in words: states, outcomes, reasons, times and sizes. Pure functions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final

from fetchd.board import State
from fetchd.errors import Reason
from fetchd.run import Outcome

OUTCOMES: Final[Mapping[Outcome, str]] = {
    Outcome.SUCCEEDED: "Succeeded",
    Outcome.UNCHANGED: "Nothing new",
    Outcome.FETCH_FAILED: "The fetch failed",
    Outcome.DELIVERY_FAILED: "The delivery failed",
    Outcome.DEADLINE_EXCEEDED: "It ran out of time",
    Outcome.CANCELLED: "It was cancelled",
    Outcome.SKIPPED: "It was skipped",
}
REASONS: Final[Mapping[Reason, str]] = {
    Reason.DNS: "the host's name could not be resolved",
    Reason.CONNECT: "no connection could be made",
    Reason.TLS: "the encrypted connection was refused, by them or by us",
    Reason.TIMEOUT_CONNECT: "connecting took too long",
    Reason.TIMEOUT_READ: "the server did not answer in time",
    Reason.TIMEOUT_WRITE: "the server did not take the request in time",
    Reason.TIMEOUT_POOL: "no connection to the host became free in time",
    Reason.PROTOCOL: "the server broke the rules of HTTP, or off",
    Reason.TOO_LARGE: "the response is larger than allowed",
    Reason.TOO_MANY_REDIRECTS: "it was redirected too often",
    Reason.REDIRECT_REFUSED: "it was redirected to where it may not go",
    Reason.ADDRESS_REFUSED: "the address is one that may not be asked",
    Reason.AUTH: "the authorisation could not be had",
    Reason.PAGES: "the walk through its pages did not end well",
    Reason.EXTRACT: "the body is not what is to be taken from it",
    Reason.DECODE: "the body could not be decoded",
    Reason.HTTP_429: "the server says that it is asked too often",
    Reason.HTTP_4XX: "the server refuses the request",
    Reason.HTTP_5XX: "the server has trouble of its own",
    Reason.UNEXPECTED: "the response is not what is expected",
    Reason.COLLECT: "the function that fetches failed",
    Reason.LOCAL_RESOURCE: "this machine ran short of something",
    Reason.INTERNAL: "a defect in fetchd; the log has the details",
    Reason.SINK: "a sink did not take the result",
    Reason.OVERLAP: "the Run before was still under way",
    Reason.BACKLOG: "too many deliveries are owed, or dead",
    Reason.STARVED: "it waited for its turn until its time was over",
    Reason.BACKING_OFF: "it failed often, and is tried less often",
    Reason.RETRY_AFTER: "the server asked to be left alone for a while",
    Reason.FRESH: "the last response still counts",
    Reason.PAUSED: "the job is paused",
    Reason.STUCK: "the Run before ignores that it was cancelled",
    Reason.SHUTDOWN: "the daemon, or the job, was being stopped",
}
SIGNS: Final[Mapping[State, str]] = {
    State.WELL: "✓",
    State.FAILING: "✕",
    State.OVERDUE: "!",
    State.PAUSED: "‖",
    State.NEW: "…",
}
"""Each state's own shape, so that its colour is not the only sign."""
TONES: Final[Mapping[str, str]] = {"trouble": "✕", "warned": "!", "calm": "✓", "idle": "…"}
"""The signs before the headline."""

_CALM: Final[Mapping[State, tuple[str, str]]] = {
    State.WELL: ("is well", "are well"),
    State.NEW: ("has not run yet", "have not run yet"),
    State.PAUSED: ("is paused", "are paused"),
}
_UNITS: Final = (("d", 86400), ("h", 3600), ("min", 60), ("s", 1))


def ending(outcome: Outcome, reason: Reason | None) -> str:
    """Return a sentence for how a Run ended."""
    return f"{OUTCOMES[outcome]}: {REASONS[reason]}" if reason else OUTCOMES[outcome]


def length(seconds: float) -> str:
    """Return a duration as a person says it: two units at most, small ones with their fractions."""
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f} ms" if seconds else "0 s"
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    left = round(seconds)
    parts: list[str] = []
    for unit, size in _UNITS:
        count, left = divmod(left, size)
        if count:
            parts.append(f"{count} {unit}")
        if len(parts) == 2 or (parts and not count):
            break
    return " ".join(parts[:2])


def size(count: float) -> str:
    """Return bytes as a person says them."""
    for unit in ("B", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.0f} B" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} GiB"


def count(number: int, one: str, many: str = "") -> str:
    """Return a number with its noun: "1 job", "2 jobs"."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def headline(states: Counter[State], *, overdue: int, dead: int, ready: bool) -> str:
    """Return how things are, in one sentence: what is bad, else what is well; the daemon itself before its jobs."""
    total = states.total()
    bad = [(number, word) for number, word in ((states[State.FAILING], "failing"), (overdue, "overdue")) if number]
    said = _bad(total, bad) if bad else _not_bad(total, states)
    if not bad and not ready:
        said = ""  # that they are well is of before
    if dead:
        said += f"{', ' if said else ''}{count(dead, 'dead letter')}"
    if ready:
        return said
    return f"The daemon is not ready; {said[0].lower()}{said[1:]}" if said else "The daemon is not ready"


def _bad(total: int, bad: Sequence[tuple[int, str]]) -> str:
    if total == 1:
        return f"The only job is {' and '.join(word for _, word in bad)}"
    (number, word), *others = bad
    first = f"{number:,} of {total:,} jobs {'is' if number == 1 else 'are'} {word}"
    return first + "".join(f", {number:,} {'is' if number == 1 else 'are'} {word}" for number, word in others)


def _not_bad(total: int, states: Counter[State]) -> str:
    """Return what is so of all jobs, or of how many each."""
    kinds = [(states[state], *said) for state, said in _CALM.items() if states[state]]
    if not kinds:
        return "There are no jobs"
    (number, one, many), *others = kinds
    if total == 1:
        return f"The only job {one}"
    if number == total and states[State.NEW]:
        return f"None of the {total:,} jobs has run yet"
    if number == total:
        return f"{'Both' if total == 2 else f'All {total:,}'} jobs {many}"
    first = f"{number:,} of {total:,} jobs {one if number == 1 else many}"
    return first + "".join(f", {number:,} {one if number == 1 else many}" for number, one, many in others)
