"""What does not go together when results are read, and what is missing to read them."""

from __future__ import annotations

from pathlib import Path

import pytest

from fetchd.config.extraction import packages
from tests.config.files import loaded, refused
from tests.extract.made import job

JOB = '[jobs.a]\nurl = "https://h.example/"\n'
RECORDS = 'goes with records only: write split, or parse = "csv" or "feed"'
NO_QUERY = "not a JMESPath expression:"
HOOK = 'sinks = [{ kind = "webhook", url = "http://h/", batch = 2 }]\n'


@pytest.mark.parametrize(
    ("text", "finding"),
    [
        (
            'extract = "a[?b==1]"\n',
            (
                f'3: jobs.a.extract: {NO_QUERY} invalid token: Parse error at column 6, token "1" (NUMBER); '
                "a number stands in backquotes, as `1`"
            ),
        ),
        (
            'extract = "a["\n',
            (
                f"3: jobs.a.extract: {NO_QUERY} Invalid jmespath expression: Incomplete expression; "
                'write one such as "data.items[*]"'
            ),
        ),
        (f'extract = "{"!" * 100}a"\n', "3: jobs.a.extract: an expression has at most 100 levels"),
        (f'extract = "{"[" * 5000}"\n', "3: jobs.a.extract: an expression has at most 100 levels"),
        ('extract = "a.lenght(@)"\n', "3: jobs.a.extract: JMESPath has no function lenght(); did you mean length()?"),
        ('split = "a | [?x(@)]"\n', "3: jobs.a.split: JMESPath has no function x()"),
        ('extract = "{n: length(@, b)}"\n', "3: jobs.a.extract: length() takes 1 argument, not 2"),
        ('extract = "merge()"\n', "3: jobs.a.extract: merge() takes 1 argument or more, not 0"),
        ('delimiter = ";"\n', '3: jobs.a.delimiter: goes with parse = "csv" only'),
        (
            'parse = "csv"\ndelimiter = "\\""\n',
            '4: jobs.a.delimiter: a field cannot end with a quotation mark or a line end: write one such as ";"',
        ),
        ('unique = "id"\n', f"3: jobs.a.unique: {RECORDS}"),
        ('extract = "items"\nunique = "id"\n', f"4: jobs.a.unique: {RECORDS}"),
        (HOOK, f"3: jobs.a.sinks[0].batch: {RECORDS}"),
        (
            'method = "HEAD"\nextract = "a"\n',
            "4: jobs.a.extract: there is nothing to read: what HEAD asks for has no body",
        ),
    ],
)
def test_what_does_not_go_together_is_a_finding(tmp_path: Path, text: str, finding: str) -> None:
    """Nothing would come of it, and nobody would be told."""
    assert refused(tmp_path, JOB + text) == [finding]


@pytest.mark.parametrize("split", ['split = "items"\n', 'parse = "csv"\ndelimiter = "\\t"\n'])
def test_records_have_identities_and_batches(tmp_path: Path, split: str) -> None:
    """Wherever they come from."""
    assert loaded(tmp_path, f'{JOB}{split}unique = "id"\n{HOOK}').jobs["a"].unique == "id"


@pytest.mark.parametrize("text", ['split = "items["\nunique = "id"\n', f'parse = "jsn"\nunique = "id"\n{HOOK}'])
def test_a_key_that_is_wrong_itself_has_no_second_finding(tmp_path: Path, text: str) -> None:
    """Its reader would mend what is right."""
    assert len(refused(tmp_path, JOB + text)) == 1


def test_a_missing_package_is_a_finding_with_its_remedy() -> None:
    """At the check, and not at the first feed."""
    [(place, message)] = packages(job(parse="feed"), find=lambda _name: None)
    assert (place, message) == (
        ("parse",),
        "feeds are read by feedparser, which is missing: pip install feedparser, where fetchd is installed",
    )
    assert list(packages(job(parse="csv"), find=lambda _name: None)) == []
    assert list(packages(job(parse="feed"), find=lambda _name: object())) == []
