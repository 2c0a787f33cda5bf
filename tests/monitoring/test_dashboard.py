"""The dashboard and the rules ask only for what the daemon tells: a panel of a name that is gone is silently empty."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

import pytest
from prometheus_client import CollectorRegistry, ProcessCollector

from fetchd.errors import Reason
from fetchd.run import Outcome
from fetchd.watch import Result
from tests.docs.book import all_blocks
from tests.monitoring.promql import Selector, read
from tests.monitoring.shipped import dashboard, rules, targets
from tests.test_metrics import CONTRACT

OF_TARGETS: Final = frozenset({"instance", "job"})
"""The labels that Prometheus adds; a job of fetchd's own stays what it is, by honor_labels."""
OF_ALERTS: Final = OF_TARGETS | {"alertname", "alertstate", "severity", "sink"}
VALUES: Final[Mapping[str, frozenset[str]]] = {
    "outcome": frozenset(Outcome),
    "reason": frozenset(Reason) | {""},
    "result": frozenset(Result),
}
COUNTING: Final = frozenset({"rate", "increase"})
LABEL: Final = re.compile(r"\{\{\s*(\w+)\s*\}\}")


def known() -> dict[str, tuple[str, frozenset[str]]]:
    """Return the type and the labels of everything that can be asked for."""
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    process = {sample.name: family.type for family in registry.collect() for sample in family.samples}
    return {
        **{name: (kind, labels | OF_TARGETS) for name, (kind, labels) in CONTRACT.items()},
        **{name: (kind, OF_TARGETS) for name, kind in process.items()},
        "up": ("gauge", OF_TARGETS),
        "ALERTS": ("gauge", OF_ALERTS),
    }


KNOWN: Final = known()


def expressions() -> Iterator[tuple[str, str]]:
    """Yield every expression, with where it is from."""
    for title, target in targets():
        yield title, target["expr"]
    for annotation in dashboard()["annotations"]["list"]:
        yield annotation["name"], annotation["expr"]
    for rule in rules():
        yield rule["alert"], rule["expr"]
    for block in all_blocks("promql"):
        for expression in block.text.split("\n\n"):
            yield str(block), expression


def wrong(selector: Selector) -> list[str]:
    """Return what ``selector`` asks for and nobody tells."""
    if selector.metric not in KNOWN:
        return [f"there is no {selector.metric}"]
    kind, labels = KNOWN[selector.metric]
    found = [
        f"{selector.metric} has no label {match.label}" for match in selector.matchers if match.label not in labels
    ]
    if selector.function in COUNTING and kind == "gauge":
        found.append(f"{selector.metric} is a gauge: {selector.function} of it means nothing")
    for match in selector.matchers:
        unknown = set(match.values) - VALUES.get(match.label, frozenset(match.values))
        found += [f"{selector.metric} has no {match.label} {value!r}" for value in unknown]
    return found


@pytest.mark.parametrize("expression", [pytest.param(text, id=source) for source, text in expressions()])
def test_what_is_asked_for_is_told(expression: str) -> None:
    """Each name, label and word of a label is one of the contract; rates are of counters alone."""
    asked = read(expression)
    assert asked.selectors
    assert [error for selector in asked.selectors for error in wrong(selector)] == []
    assert asked.grouped <= {label for selector in asked.selectors for label in KNOWN[selector.metric][1]}


def test_all_that_is_told_is_shown() -> None:
    """What nobody looks at need not be counted."""
    asked = {selector.metric for _, expression in expressions() for selector in read(expression).selectors}
    assert set(CONTRACT) - asked == set()


@pytest.mark.parametrize(
    ("expression", "error"),
    [
        ("fetchd_job_overdu == 1", "there is no fetchd_job_overdu"),
        ('sum(rate(fetchd_runs_total{sink="file"}[5m]))', "fetchd_runs_total has no label sink"),
        ('fetchd_runs_total{outcome=~"succeeded|succeded"}', "fetchd_runs_total has no outcome 'succeded'"),
        ("rate(fetchd_runs_in_flight[5m])", "fetchd_runs_in_flight is a gauge: rate of it means nothing"),
        ("time() - max by (job) (fetchd_gone offset 5m) > 1", "there is no fetchd_gone"),
    ],
)
def test_what_nobody_tells_is_found(expression: str, error: str) -> None:
    """The tests above are worth something only if they find such errors."""
    assert [found for selector in read(expression).selectors for found in wrong(selector)] == [error]


def test_legends_name_labels_that_are_left() -> None:
    """A label that the expression sums away leaves a legend of braces."""
    for title, target in targets():
        named, asked = set(LABEL.findall(target["legendFormat"])), read(target["expr"])
        left = asked.kept or KNOWN[asked.selectors[0].metric][1]
        assert named <= left, title


def test_panels_are_whole() -> None:
    """What Grafana would not draw: two panels in one place, or with one number; a query of another machine's source."""
    panels = dashboard()["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        where = panel["gridPos"]
        cells = {(where["x"] + across, where["y"] + down) for across in range(where["w"]) for down in range(where["h"])}
        assert not cells & taken, panel["title"]
        assert max(across for across, _ in cells) < 24, panel["title"]
        taken |= cells
        names = [target["refId"] for target in panel.get("targets", [])]
        assert len(set(names)) == len(names)
        assert panel["type"] == "row" or panel["description"], panel["title"]


def test_variables_are_there() -> None:
    """An expression with a variable that is not defined finds nothing; none names a source of ours."""
    defined = {variable["name"] for variable in dashboard()["templating"]["list"]}
    assert {"datasource", "instance", "job"} <= defined
    used = {name for _, target in targets() for name in re.findall(r"\$(\w+)", target["expr"])}
    assert used <= defined | {"__rate_interval"}
    assert sources(dashboard()) == {"${datasource}"}


def sources(part: Any) -> set[str]:
    """Return every data source that ``part`` names, at any depth."""
    if isinstance(part, dict):
        own = {part["datasource"]["uid"]} if isinstance(part.get("datasource"), dict) else set()
        return own.union(*map(sources, part.values()))
    return set().union(*map(sources, part)) if isinstance(part, list) else set()


def test_the_dashboard_answers_what_is_asked_first() -> None:
    """These are what an admin comes for."""
    titles = {panel["title"] for panel in dashboard()["panels"]}
    assert {"Alerts", "Jobs", "Success rate", "Durations", "Lateness", "In flight"} <= titles
    assert {"Memory", "File descriptors", "Tries", "Skipped slots"} <= titles
