"""What a configuration says about authorisation: what goes together, and what of it may be shown."""

from __future__ import annotations

import subprocess
import sys
from base64 import b64encode
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from fetchd.config import explain
from fetchd.fetch.auth import ApiKeyAuth
from fetchd.fetch.auth.query import KeyInQuery
from fetchd.secret import Secret
from tests.config.files import ENVIRONMENT, loaded, refused, write
from tests.fetch.room import ending, fetching, job
from tests.fetch.test_secrets import told
from tests.upstream import UpstreamProcess

CANARY = "canary-4711"
JOB = '[jobs.a]\nurl = "https://h.example/?x=1"\n'
QUOTING = "a user's name for digest holds no line break, no quotation mark and no backslash"
USERLESS = "the token server's URL holds no user: client_id and client_secret say who asks"
TOKENS = 'kind = "oauth2", token_url = "https://t.example/token", client_id = "me"'


def key(where: str = "query") -> ApiKeyAuth:
    """Return the auth with a key, whose name needs to be encoded in a query."""
    return ApiKeyAuth.model_validate({"kind": "api_key", "name": "X-Key&1", "value": f"{CANARY}&", "where": where})


@pytest.mark.parametrize(
    ("url", "sent"),
    [
        ("http://h.test/a", b"k=v%26"),
        ("http://h.test/a?", b"k=v%26"),
        ("http://h.test/a?b=%2F+c&d", b"b=%2F+c&d&k=v%26"),
        ("http://h.test/a?k=old&b=1&%6B=older", b"b=1&k=v%26"),
    ],
)
def test_a_key_in_the_query(url: str, sent: bytes) -> None:
    """The rest of the query stays as it is written: it may be signed; another key of that name goes."""
    auth, request = KeyInQuery("k", "v&"), httpx.Request("GET", url)
    next(auth.auth_flow(request))
    assert request.url.query == sent
    assert KeyInQuery("k", "").without(request.url).query == sent.removesuffix(b"k=v%26").rstrip(b"&")


async def test_a_key_is_sent_where_it_belongs(upstream: UpstreamProcess) -> None:
    """In one place alone, and in nothing that is kept of the response."""
    async with fetching() as fetcher:
        header = await ending(fetcher, job(upstream.url("echo"), auth=key("header")))
        query = await ending(fetcher, job(upstream.url("echo?a=1"), params={"b": "2"}, auth=key()))
        failed = await ending(fetcher, job(upstream.url("status/500"), auth=key()))
    assert f'"x-key&1", "{CANARY}&"' in header.content.decode().lower()
    assert f'"a=1&b=2&X-Key%261={CANARY}%26"' in query.content.decode()
    assert query.fetched is not None
    assert query.fetched.url == upstream.url("echo")
    assert CANARY not in str(query.fetched)
    assert failed.error is not None
    assert CANARY not in told(failed.error)


@pytest.mark.parametrize("where", ["header", "query"])
async def test_a_foreign_origin_gets_no_key(where: str, upstream: UpstreamProcess) -> None:
    """Not even where the redirect itself repeats it."""
    target = quote(f"{upstream.url('echo', host='localhost')}?a=1&X-Key%261={CANARY}%26", safe="")
    if where == "header":
        target = quote(upstream.url("echo", host="localhost"), safe="")
    async with fetching() as fetcher:
        end = await ending(fetcher, job(upstream.url(f"loc/{target}"), auth=key(where)))
    assert end.why == "ok"
    assert CANARY not in end.content.decode()


@pytest.mark.parametrize(
    ("auth", "more", "findings"),
    [
        ('kind = "api_key", name = "X-Key", value = "v"', 'headers = { Authorization = "x" }\n', []),
        (
            'kind = "api_key", name = "X-Key", value = "v"',
            'headers = { x-key = "x" }\n',
            ["4: jobs.a.headers.x-key: auth sets this header"],
        ),
        (
            'kind = "api_key", name = "key", value = "v", where = "query"',
            'params = { key = "x" }\n',
            ["4: jobs.a.params.key: auth sets this parameter"],
        ),
        (
            'kind = "api_key", name = "x", value = "v", where = "query"',
            "",
            ["2: jobs.a.url: auth sets the parameter x"],
        ),
        (
            'kind = "api_key", name = "a b", value = "v"',
            "",
            ["3: jobs.a.auth.name: not a header's name: letters, digits and hyphens, without spaces and colons"],
        ),
        (
            'kind = "api_key", name = "a", value = "v\\n"',
            "",
            ["3: jobs.a.auth.value: a key holds no line breaks and nothing beyond ASCII"],
        ),
        (
            'kind = "digest", username = "a", password = "b"',
            'headers = { authorization = "x" }\n',
            ["4: jobs.a.headers.authorization: auth sets this header"],
        ),
        (
            'kind = "digest", username = "a\\"", password = "b"',
            "",
            [f"3: jobs.a.auth.username: {QUOTING}"],
        ),
        (TOKENS, "", ['3: jobs.a.auth: the grant "client_credentials" needs a client_secret']),
        (f'{TOKENS}, grant = "refresh_token"', "", ['3: jobs.a.auth: the grant "refresh_token" needs a refresh_token']),
        (
            f'{TOKENS}, client_secret = "s", username = "u"',
            "",
            ['3: jobs.a.auth: username goes with grant = "password" only'],
        ),
        (
            f'{TOKENS}, client_secret = "s", params = {{ scope = "x" }}',
            "",
            ["3: jobs.a.auth.params: scope is set by the other keys of auth"],
        ),
        (
            'kind = "oauth2", token_url = "https://me:x@t.example/", client_id = "me", client_secret = "s"',
            "",
            [f"3: jobs.a.auth.token_url: {USERLESS}"],
        ),
        (
            f'{TOKENS}, client_secret = "s", deadline = "10s"',
            'deadline = "10s"\n',
            ["3: jobs.a.auth.deadline: is not shorter than the job's, 10s"],
        ),
        (f'{TOKENS}, client_secret = "s"', 'deadline = "5s"\n', []),
    ],
)
def test_what_goes_together(tmp_path: Path, auth: str, more: str, findings: list[str]) -> None:
    """Two authorisations in one request are a request that is refused each night."""
    text = f"{JOB}auth = {{ {auth} }}\n{more}"
    if findings:
        assert refused(tmp_path, text) == findings
    else:
        assert loaded(tmp_path, text).jobs["a"].auth is not None


@pytest.mark.parametrize("kind", ['kind = "bearer", token = "x"', 'kind = "digest", username = "a", password = "b"'])
def test_a_user_in_the_url_authorises_as_well(tmp_path: Path, kind: str) -> None:
    """Which of the two counts should not be a matter of knowing the code."""
    text = f'[jobs.a]\nurl = "https://me:pw@h.example/"\nauth = {{ {kind} }}\n'
    assert refused(tmp_path, text) == [
        "2: jobs.a.url: holds a user, which authorises as well: write either that or auth",
    ]


def test_an_inherited_key_is_replaced(tmp_path: Path) -> None:
    """The others' credentials are not sent beside the job's own."""
    text = '[defaults]\nheaders = { X-Key = "x", Authorization = "y", X-Team = "ops" }\n'
    made = loaded(tmp_path, f'{text}{JOB}auth = {{ kind = "api_key", name = "x-key", value = "v" }}\n').jobs["a"]
    assert list(made.headers) == ["X-Team"]


MINE = 'kind = "oauth2", token_url = "https://t/", client_id = "mine"'
SECRETS: list[tuple[str, set[str]]] = [
    ('kind = "api_key", name = "X", value = "v4lue"', {"v4lue"}),
    ('kind = "api_key", name = "Authorization", value = "Key v4lue"', {"Key v4lue", "v4lue"}),
    ('kind = "digest", username = "mia", password = "p4ss"', {"p4ss"}),
    ('kind = "digest", username = { env = "TOKEN" }, password = "p4ss"', {"t0ken-from-env", "p4ss"}),
    (
        'kind = "oauth2", token_url = "https://t/?key=k3y", client_id = "mine", client_secret = "s/1"',
        {"s/1", "k3y", b64encode(b"mine:s%2F1").decode()},
    ),
    (
        f'{MINE}, client_secret = "s1", client_auth = "body", params = {{ resource = "open", api_key = "v4lue" }}',
        {"s1", "v4lue"},
    ),
    (f'{MINE}, grant = "password", username = "mia", password = "p4ss"', {"p4ss"}),
    (f'{MINE}, grant = "refresh_token", refresh_token = "r1"', {"r1"}),
]


@pytest.mark.parametrize(("auth", "texts"), SECRETS)
def test_every_secret_is_known_and_none_is_shown(tmp_path: Path, auth: str, texts: set[str]) -> None:
    """What is meant as a secret is taken out of every line, and of what people paste into tickets."""
    text = f'[jobs.x_x_x]\nurl = "https://h/"\nauth = {{ {auth} }}\n'
    config = loaded(tmp_path, text)
    assert config.secret_texts() == texts
    shown = str(explain(write(tmp_path, text), "x_x_x", environment=ENVIRONMENT).rows) + repr(config)
    assert not [word for word in texts if word in shown]


def test_explain_tells_where_tokens_come_from(tmp_path: Path) -> None:
    """An address is what one looks for when no token comes; its query may be a secret."""
    auth = '{ kind = "oauth2", token_url = "https://t/token?key=k3y", client_id = "i", client_secret = "s" }'
    rows = explain(write(tmp_path, f"{JOB}auth = {auth}\n"), "a", environment=ENVIRONMENT).rows
    assert {row.key: row.value for row in rows}["auth.token_url"] == '"https://t/token?[redacted]"'


def test_oauthlib_is_imported_for_those_who_need_it_alone() -> None:
    """It costs memory that a daemon without such jobs has better uses for."""
    code = "import sys, fetchd.app, fetchd.fetch.auth.flows; print([m for m in sys.modules if 'oauthlib' in m])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_what_is_shown_of_a_kind() -> None:
    """The values of a definition end up in error reports."""
    made: Any = key()
    assert CANARY not in f"{made!r} {made} {made.model_dump(mode='json')}"
    assert made.value == Secret(f"{CANARY}&")
