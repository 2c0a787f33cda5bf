"""The map of kinds: one line makes a kind known everywhere."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from fetchd.job import SinkOptions
from fetchd.sinks.kinds import KINDS, OPTIONS, open_sink
from tests.sinks.made import options, resources

EXAMPLES = {
    "command": {"argv": ["true"]},
    "function": {"call": "tests.user_functions:double"},
    "file": {"path": "latest.json"},
    "sqlite": {"path": "results.db"},
    "webhook": {"url": "https://receiver.test/hook"},
}


@pytest.mark.parametrize("kind", KINDS)
async def test_each_kind_opens_without_doing_anything(kind: str, tmp_path: Path) -> None:
    """A configuration is tried before it is used: opening must not touch the disk or start a thing."""
    sink = open_sink(options(kind, **EXAMPLES[kind]), resources(tmp_path))
    assert type(sink) is KINDS[kind][1]
    await sink.aclose()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", OPTIONS)
def test_each_kind_says_what_it_takes(kind: str) -> None:
    """The schema that editors complete from is made of these descriptions."""
    made = OPTIONS[kind]
    assert issubclass(made, SinkOptions)
    assert made.model_fields["kind"].annotation.__args__ == (kind,)  # type: ignore[union-attr]
    undescribed = [name for name, field in made.model_fields.items() if not field.description and name != "kind"]
    assert undescribed == []
    assert made.model_json_schema()["properties"]


@pytest.mark.parametrize("kind", OPTIONS)
def test_each_kind_refuses_unknown_keys(kind: str) -> None:
    """A misspelt key would otherwise be a setting that does nothing."""
    with pytest.raises(ValidationError, match="Extra inputs"):
        options(kind, **EXAMPLES[kind], colour="red")


@pytest.mark.parametrize("kind", OPTIONS)
def test_sound_options_have_no_problems(kind: str) -> None:
    """Every finding stops the daemon from starting."""
    assert list(options(kind, **EXAMPLES[kind]).problems()) == []
