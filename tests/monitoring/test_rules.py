"""The alerts: that Prometheus takes them, that each comes when it should, and that what it says helps."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Mapping
from typing import Any, Final

import pytest
import yaml

from fetchd.cli import main
from fetchd.config.model import Daemon
from tests.docs.book import all_blocks
from tests.monitoring.promql import read
from tests.monitoring.shipped import FOLDER, document, rules
from tests.monitoring.test_dashboard import KNOWN

ALERTS: Final = {
    "FetchdClockStepped",
    "FetchdConfigRejected",
    "FetchdDeadLetters",
    "FetchdDeliveriesPending",
    "FetchdDown",
    "FetchdJobFailing",
    "FetchdJobOverdue",
    "FetchdLoopLagging",
    "FetchdMemoryGrowing",
    "FetchdRestarting",
    "FetchdRunsStuck",
    "FetchdSlotsStarved",
    "FetchdStoreFailing",
}
SHORT: Final = 100
"""Letters of a summary that fit on a telephone's screen, once its names are in."""


@pytest.mark.skipif(shutil.which("promtool") is None, reason="needs the Debian package prometheus")
@pytest.mark.parametrize(
    "arguments",
    [
        ["check", "config", "prometheus.yml"],
        ["check", "rules", "--lint=all", "--lint-fatal", "alerts.yml"],
        ["test", "rules", "alerts_test.yml"],
    ],
    ids=lambda arguments: " ".join(arguments[:2]),
)
def test_prometheus_takes_them(arguments: list[str]) -> None:
    """Its own tool reads the example and the rules, and plays what alerts_test.yml tells: in time, not before."""
    done = subprocess.run(["promtool", *arguments], cwd=FOLDER, capture_output=True, text=True, timeout=25, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_page_scrapes_as_the_example_does() -> None:
    """What a reader copies is what Prometheus's own tool has read above."""
    (shown,) = (block.text for block in all_blocks("yaml") if block.page.name == "prometheus.md")
    assert yaml.safe_load(shown) == {"scrape_configs": document("prometheus.yml")["scrape_configs"]}


def test_each_alert_is_there() -> None:
    """People route by these names; the table for them names the same, with what each is worth."""
    assert {rule["alert"]: rule["labels"]["severity"] for rule in rules()} == dict(
        re.findall(r"^\| (Fetchd\w+) \| .* \| (\w+) \|$", (FOLDER / "README.md").read_text(), re.MULTILINE)
    )
    assert {rule["alert"] for rule in rules()} == ALERTS


def test_each_alert_has_its_tests() -> None:
    """One at which it comes, and one before; and one of a healthy daemon, for all of them."""
    tests = document("alerts_test.yml")["tests"]
    played = Counter(
        (case["alertname"], bool(case.get("exp_alerts"))) for test in tests for case in test.get("alert_rule_test", [])
    )
    assert set(played) == {(alert, comes) for alert in ALERTS for comes in (True, False)}
    asked = {selector["series"].partition("{")[0] for selector in tests[0]["input_series"]}
    assert {selector.metric for rule in rules() for selector in read(rule["expr"]).selectors} == asked


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule["alert"])
def test_what_an_alert_says_helps(rule: Mapping[str, Any]) -> None:
    """A short line, what to do, and only labels and verbs that there are."""
    assert rule["labels"]["severity"] in {"critical", "warning", "info"}
    assert rule["for"]
    summary, description = rule["annotations"]["summary"], rule["annotations"]["description"]
    assert len(re.sub(r"\{\{.*?\}\}", "", summary)) < SHORT
    assert "instance" in summary
    labels = {label for selector in read(rule["expr"]).selectors for label in KNOWN[selector.metric][1]}
    assert set(re.findall(r"\$labels\.(\w+)", summary + description)) <= labels
    verbs = set(re.findall(r'"fetchd (\w+)', description))
    assert verbs <= set(main.commands)
    assert verbs or re.search(r"\b(journalctl|systemctl|log)\b", description)


def test_the_example_asks_where_the_daemon_answers() -> None:
    """Copied as it is, it works; and a job of fetchd's keeps its own name."""
    (scrape,) = document("prometheus.yml")["scrape_configs"]
    assert scrape["job_name"] == "fetchd"
    assert scrape["honor_labels"] is True
    assert scrape["static_configs"] == [{"targets": [Daemon.model_fields["listen"].default]}]
    assert document("prometheus.yml")["rule_files"] == ["alerts.yml"]
