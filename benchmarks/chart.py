"""The chart of the outage, as SVG; it stands on its own: no script, no font, no style from elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Final

Scale = Callable[[float], float]
"""From a second, or from bytes, to a place in the picture."""
Point = tuple[float, float, int]
"""A second, the bytes at it, the processes at it."""

WIDTH: Final = 760
HEIGHT: Final = 400
LEFT, RIGHT, TOP, BOTTOM = 78, 574, 76, 330
INK, FAINT, GRID = "#1f2328", "#59636e", "#e4e8ec"
CRON, FETCHD = "#b42318", "#0b6e4f"
_STEPS: Final = (1, 2, 5, 10, 20, 25, 50, 100, 200, 250, 500, 1000, 2000)
_LINES: Final = 5


def draw(scripts: Sequence[Point], daemon: Sequence[Point]) -> str:
    """Return the chart of memory over time: the scripts that pile up, and the daemon, which does not."""
    seconds = scripts[-1][0]
    most = max(held for _, held, _ in (*scripts, *daemon)) / 2**20
    step = next((step for step in _STEPS if most / step <= _LINES), _STEPS[-1])
    top = step * (int(most / step) + 1)

    def x(second: float) -> float:
        return LEFT + (RIGHT - LEFT) * second / seconds

    def y(held: float) -> float:
        return BOTTOM - (BOTTOM - TOP) * held / 2**20 / top

    body = [
        *_axes(seconds, step, top, x, y),
        _line([(x(second), y(held)) for second, held, _ in scripts], CRON),
        _line([(x(second), y(held)) for second, held, _ in daemon], FETCHD),
        *_marks(scripts, x, y),
        *_end(x(seconds), y(scripts[-1][1]), CRON, "a script every second", scripts[-1]),
        *_end(x(seconds), y(daemon[-1][1]), FETCHD, "fetchd", daemon[-1]),
    ]
    return _page(scripts, daemon, "\n  ".join(body))


def _page(scripts: Sequence[Point], daemon: Sequence[Point], body: str) -> str:
    seconds, held, processes = scripts[-1]
    first, last = min(point[1] for point in daemon[1:]), max(point[1] for point in daemon[1:])
    told = (
        f"Memory over {seconds:.0f} seconds against an upstream that accepts connections and never answers. "
        f"A Python script that calls requests.get(url) is launched every second, as cron would: after {seconds:.0f} "
        f"seconds {processes} processes are stuck and hold {_mebibytes(held)} (PSS). The daemon with the same job "
        f"stays one process between {_mebibytes(first)} and {_mebibytes(last)} (RSS)."
    )
    return f"""\
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" \
role="img" aria-labelledby="title desc" \
font-family="system-ui, -apple-system, 'Segoe UI', Helvetica, Arial, sans-serif" font-size="13">
  <title id="title">An upstream stops answering: memory of a script every second, and of fetchd</title>
  <desc id="desc">{told}</desc>
  <rect x="0.5" y="0.5" width="{WIDTH - 1}" height="{HEIGHT - 1}" rx="8" fill="#ffffff" stroke="#d0d7de"/>
  <text x="24" y="34" font-size="17" font-weight="600" fill="{INK}">An upstream stops answering</text>
  <text x="24" y="55" fill="{FAINT}">Memory in MiB; one fetch is due every second, none gets an answer</text>
  {body}
  <text x="24" y="384" font-size="11" fill="{FAINT}">Scripts: PSS, what they share counted once. fetchd: RSS. \
Both measured side by side, on one machine.</text>
</svg>
"""


def _axes(seconds: float, step: int, top: int, x: Scale, y: Scale) -> Iterator[str]:
    for value in range(0, top + 1, step):
        at = y(value * 2**20)
        yield f'<line x1="{LEFT}" y1="{at:.1f}" x2="{RIGHT}" y2="{at:.1f}" stroke="{FAINT if value == 0 else GRID}"/>'
        yield f'<text x="{LEFT - 10}" y="{at + 4.5:.1f}" text-anchor="end" fill="{FAINT}">{value:,}</text>'
    gap = next(gap for gap in (1, 5, 10, 30, 60) if seconds / gap <= 6)
    for second in range(0, int(seconds) + 1, gap):
        at = x(second)
        yield f'<text x="{at:.1f}" y="{BOTTOM + 22}" text-anchor="middle" fill="{FAINT}">{second} s</text>'


def _marks(points: Sequence[Point], x: Scale, y: Scale) -> Iterator[str]:
    """Say how many processes there are on the way."""
    for share in (3, 1.5):
        second, held, processes = points[round((len(points) - 1) / share)]
        at, level = x(second), y(held)
        yield f'<circle cx="{at:.1f}" cy="{level:.1f}" r="3.5" fill="{CRON}"/>'
        place = f'x="{at - 10:.1f}" y="{level - 6:.1f}" text-anchor="end"'
        yield f'<text {place} fill="{CRON}">{processes} processes</text>'


def _end(at: float, level: float, colour: str, name: str, point: Point) -> Iterator[str]:
    """Name a line where it ends."""
    _, held, processes = point
    count = f"{processes} process" + ("" if processes == 1 else "es")
    yield f'<circle cx="{at:.1f}" cy="{level:.1f}" r="4" fill="{colour}"/>'
    yield f'<text x="{at + 12:.1f}" y="{level - 4:.1f}" font-weight="600" fill="{colour}">{name}</text>'
    yield f'<text x="{at + 12:.1f}" y="{level + 13:.1f}" fill="{colour}">{count}, {_mebibytes(held)}</text>'


def _line(points: Sequence[tuple[float, float]], colour: str) -> str:
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    return f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2.5" stroke-linejoin="round"/>'


def _mebibytes(size: float) -> str:
    return f"{size / 2**20:,.0f} MiB"
