"""What upstreams, sinks and functions say is shown as text everywhere, and none of it holds a secret."""

from __future__ import annotations

import html
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.process.daemon import fetchd
from tests.process.outside import Outside, Reply, Watched, until, watched

pytestmark = pytest.mark.timeout(60)

MARK = "<b/id=hostile>"
"""In every text that comes from elsewhere; it is sought as it is, and as a page shows it."""
HOSTILE = f"\"'></script>{MARK}<script>alert(1)</script>{{{{7*7}}}}"
START, END = "canary-", "-5f0dc3e1"
CANARIES = {
    name: f"{START}{name.lower()}{END}"
    for name in ("PATH", "QUERY", "HEADER", "TOKEN", "FIELD", "VARIABLE", "PING", "CHAT", "HOOK", "GOT")
}
REPEATED = " ".join(CANARIES.values())
JOBS = ("typed", "moved", "linked", "said", "raised", "parsed", "followed", "hooked", "granted", "long")

CODE = f"""
async def raised(context):
    raise ValueError({HOSTILE!r} + chr(27) + "[2J")
"""


def config(url: str, said: Path) -> str:
    """Return a job for each way in which words come in from elsewhere; a command says what is in the file ``said``."""
    sends = """
    method = "POST"
    headers = { X-Api-Key = { env = "HEADER" } }
    auth = { kind = "bearer", token = { env = "TOKEN" } }
    form = { name = { env = "FIELD" } }
    """
    shouts = f'cat {said} >&2; printf \' %s %s \\\\033[2J\' \\"$VARIABLE\\" \\"$FETCHD_URL\\" >&2; exit 1'
    long = "for n in $(seq 40); do printf '%s -- ' \\\"$VARIABLE\\\"; done >&2; exit 1"
    env = '{ VARIABLE = { env = "VARIABLE" } }'
    return f"""
    [notifiers.slack]
    kind = "webhook"
    url = "{url}/slack"
    format = "slack"
    [notifiers.refusing]
    kind = "webhook"
    url = {{ env = "CHAT_URL" }}
    [jobs.typed]
    url = {{ env = "UPSTREAM" }}
    ping = {{ env = "PING_URL" }}
    expect = {{ content_type = "application/json" }}
    {sends}
    [jobs.moved]
    url = "{url}/moved"
    {sends}
    [jobs.linked]
    url = "{url}/linked"
    pages = {{ kind = "link" }}
    [jobs.said]
    url = "{url}/json"
    sinks = [{{ kind = "command", argv = ["sh", "-c", "{shouts}"], env = {env}, max_attempts = 1 }}]
    [jobs.long]
    url = "{url}/json"
    sinks = [{{ kind = "command", argv = ["sh", "-c", "{long}"], env = {env}, max_attempts = 1 }}]
    [jobs.raised]
    collect = "shop:raised"
    [jobs.parsed]
    url = "{url}/broken"
    parse = "json"
    extract = "data"
    [jobs.followed]
    url = "{url}/json?since={{cursor}}"
    cursor = {{ next = "cursor" }}
    [jobs.hooked]
    url = "{url}/json"
    sinks = [{{ kind = "webhook", url = {{ env = "HOOK_URL" }} }}]
    [jobs.granted]
    url = "{url}/granted"
    expect = {{ content_type = "application/json" }}
    [jobs.granted.auth]
    kind = "oauth2"
    token_url = "{url}/token"
    client_id = "fetchd"
    client_secret = {{ env = "TOKEN" }}
    """


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    """Give a daemon that was told such words in every way, and has told people of all that went wrong."""
    folder = tmp_path_factory.mktemp("fetchd")
    (folder / "shop.py").write_text(CODE)
    (folder / "said").write_text(HOSTILE)
    with Outside() as outside, outside.opened():
        url = outside.url
        hostile = (("Content-Type", f"{HOSTILE} {REPEATED}"), ("ETag", HOSTILE), ("X-Error", HOSTILE))
        outside.answer(f"/{CANARIES['PATH']}", Reply(200, HOSTILE.encode(), hostile))
        outside.answer("/moved", Reply(302, b"", (("Location", f"ftp://{HOSTILE}/{REPEATED}"),)))
        outside.answer(
            "/linked", Reply(200, b"[]", (("Link", f"<ftp://{CANARIES['TOKEN']}/>; rel=next; title={HOSTILE}"),))
        )
        outside.answer("/json", Reply(200, json.dumps({"cursor": f"{HOSTILE} {REPEATED}"}).encode()))
        outside.answer("/broken", Reply(200, f'{{"error": {HOSTILE}'.encode()))
        token = {"access_token": CANARIES["GOT"], "token_type": "bearer"}
        outside.answer("/token", Reply(200, json.dumps(token).encode()))
        outside.answer("/granted", Reply(200, b"", hostile))
        for path in (f"/hook/{CANARIES['HOOK']}", f"/nobody/{CANARIES['CHAT']}"):
            outside.answer(path, Reply(403, HOSTILE.encode(), hostile))
        environment = {
            **CANARIES,
            "PATH": "/usr/bin:/bin",
            "UPSTREAM": f"{url}/{CANARIES['PATH']}?key={CANARIES['QUERY']}",
            "PING_URL": f"{url}/ping/{CANARIES['PING']}",
            "HOOK_URL": f"{url}/hook/{CANARIES['HOOK']}",
            "CHAT_URL": f"{url}/nobody/{CANARIES['CHAT']}",
        }
        with watched(folder, outside, config(url, folder / "said"), environment=environment) as running:
            for job in JOBS:
                if job != "followed":
                    outside.told(job=job)
            running.daemon.wait_for("run_finished", 2, job="followed", outcome="succeeded")
            running.daemon.wait_for("alert_failed", notifier="refusing")
            outside.until(lambda: any(path.endswith("/fail") for path in outside.pings), "no ping of a failure")
            running.shows("/jobs/followed", "Cursor")
            yield running


def pages(seen: Watched) -> Iterator[tuple[str, str, str]]:
    """Yield the path, content type and text of everything that is served; each answer is fenced."""
    of_jobs = [
        f"{prefix}/jobs/{job}{more}" for job in JOBS for prefix, more in (("", ""), ("/api", ""), ("/api", "/runs"))
    ]
    for path in ("/", "/live", "/metrics", "/readyz", "/api/status", "/api/jobs", *of_jobs):
        status, headers, text = seen.get(path)
        assert status == 200, path
        assert headers["Content-Security-Policy"].startswith("default-src 'none'; style-src 'self'; script-src 'self'")
        assert headers["X-Content-Type-Options"] == "nosniff"
        yield path, headers["Content-Type"].partition(";")[0], text


def test_no_word_becomes_part_of_a_page(seen: Watched) -> None:
    """As text it is there, for it may be what helps; as anything else it is not."""
    escaped, plain = html.escape(MARK), set[str]()
    for path, kind, text in pages(seen):
        assert MARK not in text, path
        assert "<script>alert" not in text, path
        assert "\x1b" not in text, path
        if kind == "text/html":
            assert text.count("<script") == text.count('<script src="/page.js" defer></script>'), path
            plain |= {path} if escaped in text else set()
        elif kind == "application/json":
            plain |= {path} if MARK in json.dumps(json.loads(text)) else set()
    for job in ("typed", "said", "raised", "followed", "granted"):
        assert {f"/jobs/{job}", f"/api/jobs/{job}"} <= plain
    assert "/" in plain


def test_no_word_becomes_part_of_a_message(seen: Watched) -> None:
    """Chat tools that read markup get it escaped; nobody gets what a terminal would obey."""
    slack = b"".join(body for body in seen.outside.bodies if body.startswith(b'{"text"'))
    assert MARK.encode() not in slack
    assert html.escape(MARK).encode() in slack
    assert MARK in json.dumps(seen.outside.messages)
    assert "\\u001b" not in json.dumps(seen.outside.messages)
    assert "\x1b" not in "".join(seen.daemon.raw)
    assert not seen.daemon.lines("not_json")


def test_no_secret_is_shown(seen: Watched) -> None:
    """Although everything that failed repeats all of them: not on a page, in a metric, a message, a ping or a line."""
    shown = {path: text for path, _, text in pages(seen)}
    status = fetchd("status", "--json", "--state-dir", "state", folder=seen.daemon.folder)
    assert '"jobs"' in status.stdout
    shown["status"] = status.stdout + status.stderr
    shown["messages"] = json.dumps(seen.outside.messages)
    shown["pings"] = "".join(body.decode() for body in seen.outside.fails)
    shown["log"] = "".join(seen.daemon.raw)
    for where, text in shown.items():
        # Half of one, where a text was cut, would be one too.
        for half in (START, END):
            assert half not in text, where
    assert "[redacted" in shown["/jobs/typed"]
    assert "[redacted" in shown["messages"]
    assert "[redacted" in shown["pings"]


def test_what_was_sent_did_hold_the_secrets(seen: Watched) -> None:
    """Else the tests above would look for what was never there."""
    until(lambda: CANARIES["FIELD"].encode() in b"".join(seen.outside.bodies), "no field was sent")
    assert f"/ping/{CANARIES['PING']}/fail" in seen.outside.pings
