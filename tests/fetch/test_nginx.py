"""Authorisation as the server that most APIs stand behind sees it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from fetchd.fetch.auth import ApiKeyAuth, BasicAuth, BearerAuth
from fetchd.job import Auth
from fetchd.secret import Secret
from tests.fetch.nginx import NEEDED, nginx
from tests.fetch.room import PATIENCE, ending, fetching, job

pytestmark = NEEDED

KEY = "canary-4711"
PASSWORD = "pa:ss wörd"

SERVER = f"""
location /basic/ {{ auth_basic "it's ours"; auth_basic_user_file FOLDER/htpasswd; }}
location /header/ {{ if ($http_x_api_key != "{KEY}") {{ return 403; }} }}
location /query/ {{ if ($arg_api_key != "{KEY}") {{ return 403; }} }}
location /bearer/ {{ if ($http_authorization != "Bearer {KEY}") {{ return 401; }} }}
location /away/ {{ return 301 $scheme://localhost:$server_port/public/it$is_args$args; }}
location /home/ {{ return 301 /query/it; }}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Files to be served, and users in the way of htpasswd."""
    for place in ("basic", "header", "query", "bearer", "public"):
        (tmp_path / "www" / place).mkdir(parents=True)
        (tmp_path / "www" / place / "it").write_text(place)
    command = ("openssl", "passwd", "-apr1", "-stdin")
    hashed = subprocess.run(command, input=PASSWORD, capture_output=True, text=True, check=True).stdout
    (tmp_path / "htpasswd").write_text(f"mía:{hashed}")
    return tmp_path


def basic(password: str) -> Auth:
    """Return the auth of the one user."""
    return BasicAuth(kind="basic", username=Secret("mía"), password=Secret(password))


def key(where: str, value: str = KEY) -> Auth:
    """Return the auth with a key."""
    name = {"header": "X-Api-Key", "query": "api_key"}[where]
    return ApiKeyAuth.model_validate({"kind": "api_key", "name": name, "value": value, "where": where})


async def test_who_may_come_in(folder: Path) -> None:
    """Each kind opens its own door, and nothing else does."""
    bearer = BearerAuth(kind="bearer", token=Secret(KEY))
    cases: list[tuple[str, Auth | None, str]] = [
        ("basic", basic(PASSWORD), "ok"),
        ("basic", basic("wrong"), "http_4xx"),
        ("basic", None, "http_4xx"),
        ("basic", bearer, "http_4xx"),
        ("header", key("header"), "ok"),
        ("header", key("header", "wrong"), "http_4xx"),
        ("header", key("query"), "http_4xx"),
        ("query", key("query"), "ok"),
        ("query", key("query", "wrong"), "http_4xx"),
        ("query", None, "http_4xx"),
        ("bearer", bearer, "ok"),
        ("bearer", basic(PASSWORD), "http_4xx"),
    ]
    async with nginx(folder, SERVER.replace("FOLDER", str(folder))) as url, fetching() as fetcher:
        for place, auth, why in cases:
            end = await ending(fetcher, job(f"{url}/{place}/it", auth=auth, timeout="5s"), PATIENCE)
            assert (end.why, end.content) == (why, place.encode() if why == "ok" else b""), (place, auth)


async def test_a_key_in_the_query_stays_at_home(folder: Path) -> None:
    """A redirect to another host that repeats the query is everyday nginx; the key must not go along."""
    async with nginx(folder, SERVER) as url, fetching() as fetcher:
        own = job(f"{url}/away/?a=%2F&b", auth=key("query"), timeout="5s")
        end = await ending(fetcher, own, PATIENCE)
        assert (end.why, end.content) == ("ok", b"public")
        assert end.fetched is not None
        assert "api_key" not in end.fetched.url
        followed = await ending(fetcher, job(f"{url}/home/", auth=key("query"), timeout="5s"), PATIENCE)
        assert (followed.why, followed.content) == ("ok", b"query")
    assert (folder / "seen.log").read_text().splitlines() == [
        f"127.0.0.1 /away/?a=%2F&b&api_key={KEY} 301",
        "localhost /public/it?a=%2F&b 200",
        f"127.0.0.1 /home/?api_key={KEY} 301",
        f"127.0.0.1 /query/it?api_key={KEY} 200",
    ]
