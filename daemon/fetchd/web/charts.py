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
_KINDS: Final[Mapping[Outcome, str]] = {
    outcome: "same" if outcome is Outcome.UNCHANGED else "good" if outcome.good else "bad" for outcome in Outcome
}
_ATTRIBUTES: Final[Mapping[str, str]] = {"good": ' stroke-width="4"', "same": ' stroke-width="2"', "bad": ""}


def _hollow(high: int) -> str:
    """Return an outline, from the middle of its foot, and a triangle above it."""
    inside = f"m1 -1h2v-{high - 2}h-2zm-1 1" if high > 2 else ""
    return f"m-2 0h4v-{high}h-4z{inside}m0 -{_HEIGHT}h4l-2 4z"


# Of a thousand rows the bars are half, so each is a few bytes long, and is looked up rather than made.
_FEET: Final = [f"M{x * _BAR + 2} 0" for x in range(RECENT)]
_LINES: Final = [f"v-{max(2, high)}" for high in range(_FULL + 1)]
_BARS: Final[Mapping[str, Sequence[str]]] = {
    "good": _LINES,
    "same": _LINES,
    "bad": [_hollow(max(2, high)) for high in range(_FULL + 1)],
}
"""The bars by kind and height; what is good or the same is a line, as wide as its attribute says."""
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
    longest = max([took for _, took in runs]) or 1.0
    scale = _FULL / math.sqrt(longest)
    kinds = [_KINDS[outcome] for outcome, _ in runs]
    heights = [round(scale * took**0.5) for _, took in runs]
    feet, bad = _FEET[RECENT - len(runs) :], kinds.count("bad")
    label = f"last {words.count(len(runs), 'run')}: {len(runs) - bad} good, {bad} not; longest {words.length(longest)}"
    drawn = "".join([_path(kind, feet, heights, kinds) for kind in _BARS if kind in kinds])
    # Numbers and words of ours alone, which need no escaping; it comes in each row, and Markup's own format is slow.
    return Markup(  # noqa: S704
        f'<svg class="recent" role="img" aria-label="{label}" viewBox="0 -{_HEIGHT} {_WIDE} {_HEIGHT}"'
        f' width="{_WIDE}" height="{_HEIGHT}">{drawn}</svg>'
    )


def _path(kind: str, feet: Sequence[str], heights: Sequence[int], kinds: Sequence[str]) -> str:
    bars = _BARS[kind]
    each = zip(feet, heights, kinds, strict=True)
    drawn = "".join([foot + bars[high] for foot, high, found in each if found == kind])
    return f'<path class="{kind}"{_ATTRIBUTES[kind]} d="{drawn}"/>'


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
