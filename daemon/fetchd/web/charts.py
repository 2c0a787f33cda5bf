"""Small pictures as SVG: recent Runs, phases of a Run, the process over a day. Shapes differ as well as colours."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from operator import itemgetter
from typing import Final

from markupsafe import Markup

from fetchd.board.standing import RECENT
from fetchd.run import Outcome
from fetchd.web import words

PHASES: Final = ("pool", "dns", "connect", "write", "headers", "body")
"""The phases of an exchange, in their order; whatever else was timed comes last, as "other"."""

_BAR: Final = 5
_WIDE: Final = RECENT * _BAR
_HEIGHT: Final = 24
_FULL: Final = 18
"""The height of the longest bar; above it there is room for the sign of a failure."""
_SAMPLES_WIDE: Final = 288
_SAMPLES_HIGH: Final = 56
_RECT: Final = Markup('<rect class="p-{}" x="{}" width="{}" height="10"/>')
_PHASES: Final = Markup(
    '<svg class="phases" role="img" aria-label="{0}" viewBox="0 0 120 10" width="120" height="10">'
    "<title>{0}</title>{1}</svg>"
)
_DAY: Final = Markup(
    '<svg class="day" role="img" aria-label="{0}" viewBox="0 0 {1} {2}" preserveAspectRatio="none">'
    '<path class="base" d="M0 {2}h{1}"/><polyline points="{3}"/></svg>'
)


def recent(runs: Sequence[tuple[Outcome, float]]) -> Markup:
    """Return a bar for each Run, the newest at the right: its height tells the duration.

    A good one is a full bar, one without anything new a thin one, a failed one is hollow below a triangle.
    """
    if not runs:
        return Markup("")
    longest = max(took for _, took in runs) or 1.0
    paths: dict[str, list[str]] = {}
    left = (RECENT - len(runs)) * _BAR
    good = 0
    for index, (outcome, took) in enumerate(runs):
        kind = _kind(outcome)
        good += kind != "bad"
        high = max(2, round(_FULL * math.sqrt(took / longest)))
        paths.setdefault(kind, []).append(_bar(kind, left + index * _BAR, high))
    count = len(runs)
    label = f"last {words.count(count, 'run')}: {good} good, {count - good} not; longest {words.length(longest)}"
    drawn = "".join(f'<path class="{kind}" d="{"".join(bars)}"/>' for kind, bars in paths.items())
    # Numbers and words of ours alone, which need no escaping; it comes in each row, and Markup's own format is slow.
    return Markup(  # noqa: S704
        f'<svg class="recent" role="img" aria-label="{label}" viewBox="0 0 {_WIDE} {_HEIGHT}"'
        f' width="{_WIDE}" height="{_HEIGHT}">{drawn}</svg>'
    )


def _kind(outcome: Outcome) -> str:
    if outcome is Outcome.UNCHANGED:
        return "same"
    return "good" if outcome.good else "bad"


def _bar(kind: str, x: int, high: int) -> str:
    top = _HEIGHT - high
    if kind == "same":
        return f"M{x + 1} {top}h2v{high}h-2z"
    if kind == "good":
        return f"M{x} {top}h4v{high}h-4z"
    hollow = f"M{x + 1} {top + 1}h2v{high - 2}h-2z" if high > 2 else ""
    return f"M{x} {top}h4v{high}h-4z{hollow}M{x} 0h4l-2 4z"


def longest(timings: Mapping[str, float]) -> str:
    """Return the phase that took longest, with how long that was; "" if nothing was timed."""
    name, took = max(_parts(timings), key=itemgetter(1), default=("", 0.0))
    return f"{name} {words.length(took)}" if name else ""


def _parts(timings: Mapping[str, float]) -> list[tuple[str, float]]:
    known = {name: timings.get(name, 0.0) for name in PHASES}
    rest = sum(took for name, took in timings.items() if name not in known)
    return [(name, took) for name, took in (*known.items(), ("other", rest)) if took > 0]


def phases(timings: Mapping[str, float]) -> Markup:
    """Return one bar that the phases of an exchange share by their durations."""
    parts = _parts(timings)
    total = sum(took for _, took in parts)
    if not total:
        return Markup("")
    label = ", ".join(f"{name} {words.length(took)}" for name, took in parts)
    x, drawn = 0.0, Markup("")
    for name, took in parts:
        wide = 120 * took / total
        drawn += _RECT.format(name, f"{x:.1f}", f"{wide:.1f}")
        x += wide
    return _PHASES.format(label, drawn)


def day(values: Sequence[int], label: str) -> Markup:
    """Return a line over the samples of a day, from zero up; ``label`` says what they are."""
    if len(values) < 2:
        return Markup("")
    points = _thinned(values, _SAMPLES_WIDE)
    top = max(points) * 1.25 or 1.0
    step = _SAMPLES_WIDE / (len(points) - 1)
    line = " ".join(
        f"{index * step:.1f},{_SAMPLES_HIGH - 1 - (_SAMPLES_HIGH - 4) * value / top:.1f}"
        for index, value in enumerate(points)
    )
    return _DAY.format(label, _SAMPLES_WIDE, _SAMPLES_HIGH, line)


def _thinned(values: Sequence[int], most: int) -> list[int]:
    """Return at most ``most`` values, each the largest of its neighbours: peaks are what matters."""
    per = math.ceil(len(values) / most)
    return [max(group) for group in _groups(values, per)]


def _groups(values: Sequence[int], per: int) -> Iterable[Sequence[int]]:
    return (values[start : start + per] for start in range(0, len(values), per))
