"""The small pictures: valid, bounded, and readable without colours."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree

from fetchd.run import Outcome
from fetchd.web import charts


def drawn(svg: str) -> ElementTree.Element:
    """Return the picture, which has to be well-formed."""
    return ElementTree.fromstring(svg)


def test_outcomes_differ_in_shape_as_well_as_in_colour() -> None:
    """Red and green look the same to one man in twelve."""
    svg = drawn(charts.recent([(Outcome.SUCCEEDED, 1.0), (Outcome.UNCHANGED, 1.0), (Outcome.FETCH_FAILED, 1.0)]))
    paths = {path.get("class"): path for path in svg}
    assert set(paths) == {"good", "same", "bad"}
    assert paths["good"].get("stroke-width") == "4"
    assert paths["same"].get("stroke-width") == "2"
    assert "l-2 4" in str(paths["bad"].get("d")), "the triangle"


def test_a_picture_says_what_it_shows() -> None:
    """Who cannot see it hears it."""
    svg = drawn(charts.recent([(Outcome.SUCCEEDED, 0.2), (Outcome.DEADLINE_EXCEEDED, 2.0)]))
    assert svg.get("role") == "img"
    assert svg.get("aria-label") == "last 2 runs: 1 good, 1 not; longest 2.0 s"


def test_runs_without_any_duration_are_drawn() -> None:
    """A Run that was cancelled before it began took no time."""
    assert drawn(charts.recent([(Outcome.CANCELLED, 0.0)])).get("viewBox") == "0 -24 150 24"
    assert charts.recent([]) == ""


def test_phases_share_one_bar() -> None:
    """The widths add up, and what is no phase of the exchange is shown as other."""
    svg = drawn(charts.phases({"dns": 0.1, "headers": 0.3, "commit": 0.1}))
    rects = [rect for rect in svg if rect.tag.endswith("rect")]
    assert [rect.get("class") for rect in rects] == ["p-dns", "p-headers", "p-other"]
    assert sum(float(str(rect.get("width"))) for rect in rects) == 120
    assert svg.get("aria-label") == "dns 100 ms, headers 300 ms, other 100 ms"
    assert charts.longest({"dns": 0.1, "headers": 0.3, "commit": 0.1}) == "headers 300 ms"
    assert (charts.phases({}), charts.longest({})) == ("", "")


def test_a_day_keeps_its_peaks() -> None:
    """One bad minute in a day is what somebody looks for."""
    values = [10] * 1440
    values[700] = 100
    points = str(drawn(charts.day(values, "Runs"))[1].get("points")).split()
    assert len(points) <= 288
    heights = [float(point.partition(",")[2]) for point in points]
    assert sum(height < 20 for height in heights) == 1
    assert charts.day([1], "Runs") == ""
