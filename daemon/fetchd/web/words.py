"""What the page says, in words: states, outcomes, reasons, times and sizes. Pure functions."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
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


def clock(at: datetime) -> str:
    """Return an instant, in UTC, without its year."""
    return f"{at:%d %b %H:%M:%S}"


def count(number: int, one: str, many: str = "") -> str:
    """Return a number with its noun: "1 job", "2 jobs"."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def headline(total: int, failing: int, overdue: int, paused: int) -> str:
    """Return how things are, in one sentence."""
    if not total:
        return "There is no job"
    troubles = [(failing, "failing"), (overdue, "overdue")]
    bad = [(number, word) for number, word in troubles if number]
    if not bad:
        rest = f", {paused} paused" if paused else ""
        if paused == total:
            return "The only job is paused" if total == 1 else f"All {total:,} jobs are paused"
        if total == 1:
            return "The only job is well"
        return (
            f"All {total:,} jobs are well" if not paused else f"{total - paused:,} of {total:,} jobs are well"
        ) + rest
    (number, word), *others = bad
    if total == 1:
        return f"The only job is {' and '.join(word for _, word in bad)}"
    first = f"{number:,} of {total:,} jobs {'is' if number == 1 else 'are'} {word}"
    return first + "".join(f", {number:,} {'is' if number == 1 else 'are'} {word}" for number, word in others)
