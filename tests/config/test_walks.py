"""Placeholders, cursors and pages of a job: what does not fit is said before anything starts."""

from __future__ import annotations

from pathlib import Path

import pytest

from fetchd.secret import MASK, Redactor
from tests.config.files import loaded, refused

URL = 'url = "https://h.test/?c={cursor}"'
KEYED = 'url = "https://h.test/"\nauth = { kind = "api_key", where = "query", name = "key", value = "canary" }'


@pytest.mark.parametrize(
    "text",
    [
        'url = "https://h.test/{now:%Y/%m}?s={slot-5m:unix}&l={last_success}"',
        'url = "https://h.test/?q={{cursor}}&x={whatever}"',
        f'{URL}\ncursor = {{ next = "meta.next", initial = "0" }}',
        'url = "https://h.test/?c={cursor-1h:%Y}"\ncursor = { slot = true, initial = "2026-01-01T00:00:00Z" }',
        'url = "https://h.test/"\nmethod = "POST"\njson = { a = ["{cursor}"] }\ncursor = { header = "X-Next" }',
        'url = "https://h.test/"\nmethod = "POST"\nbody = "query { slot(at: {now}) { id } }"',
        'url = "https://h.test/"\npages = { kind = "link" }\nparse = "csv"',
        'url = "https://h.test/"\npages = { kind = "link" }\nmethod = "HEAD"',
        'url = "https://h.test/"\npages = { kind = "page", param = "p", size_param = "p" }',
        'url = "https://h.test/"\nmethod = "POST"\nform = {}\npages = { kind = "cursor", next = "n", field = "a.b" }',
    ],
)
def test_what_fits(text: str, tmp_path: Path) -> None:
    """No finding where there is nothing wrong."""
    assert loaded(tmp_path, f"[jobs.a]\n{text}\n").jobs


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (URL, "2: jobs.a.url: {cursor} needs a cursor table"),
        (
            'url = "https://h.test/"\nmethod = "POST"\njson = { a = [1, "{now:x}"] }',
            "4: jobs.a.json.a[1]: {now} has an unknown format",
        ),
        ('url = "https://h.test/"\nparams = { since = "{now-x}", at = "{now-5}" }', "the offset of {now} is wrong"),
        ('url = "https://{now}.test/"', "2: jobs.a.url: a placeholder stands in the path or in the query"),
        ('url = "https://h.test/"\ncursor = { slot = true }', "3: jobs.a.cursor: nothing uses it"),
        (f'{URL}\ncursor = {{ slot = true, initial = "x" }}', "3: jobs.a.cursor.initial: with slot = true"),
        (f'{URL}\nparse = "csv"\ncursor = {{ next = "a" }}', "4: jobs.a.cursor.next: is asked of JSON"),
        ('url = "https://h.test/"\nparse = "csv"\npages = { kind = "page" }', "4: jobs.a.pages: are read as JSON"),
        (
            'url = "https://h.test/"\npages = { kind = "cursor", next = "n", field = "a" }',
            "3: jobs.a.pages.field: needs a form",
        ),
        (
            'url = "https://h/"\nmethod = "POST"\nform = {}\npages = { kind = "cursor", next = "n", field = "a..b" }',
            "5: jobs.a.pages.field: names its levels",
        ),
        ('url = "https://h/"\nmethod = "HEAD"\npages = { kind = "page" }', "4: jobs.a.pages: there is nothing to read"),
        (f'{URL}\nmethod = "HEAD"\ncursor = {{ next = "a" }}', "4: jobs.a.cursor.next: there is nothing to read"),
        (
            'url = "https://h/"\npages = { kind = "offset", param = "limit" }',
            "3: jobs.a.pages.param: limit is what size_param is called too",
        ),
        (
            'url = "https://h/"\npages = { kind = "page", param = "p", size = 5, size_param = "p" }',
            "3: jobs.a.pages.param: p is what size_param is called too",
        ),
        (f'{KEYED}\npages = {{ kind = "cursor", param = "key", next = "n" }}', "4: jobs.a.pages.param: auth sets this"),
        (f'{KEYED}\npages = {{ kind = "offset", size_param = "key" }}', "4: jobs.a.pages.size_param: auth sets this"),
        ('collect = "os:getcwd"\npages = { kind = "page" }', "3: jobs.a.pages: goes with url only"),
        ('collect = "os:getcwd"\ncursor = { slot = true }', "3: jobs.a.cursor: goes with url only"),
    ],
)
def test_what_does_not_fit(text: str, found: str, tmp_path: Path) -> None:
    """One finding each, at its key."""
    (finding,) = refused(tmp_path, f"[jobs.a]\n{text}\n")
    assert found in finding


@pytest.mark.parametrize(
    "text", [f"{URL}\ncursor = {{ next = 5 }}", 'url = 5\ncursor = { header = "X-Next" }', 'url = "x"\npages = 1']
)
def test_what_is_wrong_already_is_said_once(text: str, tmp_path: Path) -> None:
    """A key that could not be read says nothing about the others."""
    assert not [line for line in refused(tmp_path, f"[jobs.a]\n{text}\n") if "needs a cursor" in line or "uses" in line]


def test_a_secret_address_is_hidden_when_it_is_filled_in(tmp_path: Path) -> None:
    """What a placeholder changes is not the secret, but what is around it."""
    environment = {"HOME": "/h", "URL": "https://h.test/hooks/s3cr3t-path/{now:%Y}/x?key=s3cr3t-key&since={now}"}
    config = loaded(tmp_path, '[jobs.a]\nurl = { env = "URL" }\n', environment)
    redact = Redactor(config.secret_texts())
    assert redact("https://h.test/hooks/s3cr3t-path/2026/x") == f"https://h.test{MASK}/2026/x"
    assert "s3cr3t" not in redact("GET /hooks/s3cr3t-path/2026/x?key=s3cr3t-key&since=2026-01-01T00:00:00Z")
