"""What goes over the wire for a job: exactly what its definition says, each time the same."""

from __future__ import annotations

import base64
import json
from typing import Any

import httpx
import pytest
import respx

from fetchd import __version__
from fetchd.body import Body
from fetchd.errors import FetchError
from fetchd.fetch.auth import BasicAuth, BearerAuth
from fetchd.fetch.exchange import Exchange, Limits
from fetchd.fetch.request import Template
from fetchd.fetch.resolver import Names
from fetchd.job import Job, Timeouts
from fetchd.run import Progress, Validators
from fetchd.secret import Secret
from tests.fetch.room import answering, ending, fetcher_over, fetching, job, response
from tests.upstream import HOST, UpstreamProcess

URL = "http://upstream.test/path"


async def sent(wanted: Job) -> httpx.Request:
    """Return the request that ``wanted`` sends, as a router of respx sees it: nothing is patched."""
    router = respx.MockRouter()
    route = router.route().mock(return_value=httpx.Response(200))
    end = await ending(fetcher_over(httpx.MockTransport(router.async_handler)), wanted)
    assert end.why == "ok"
    request: httpx.Request = route.calls.last.request
    return request


async def echoed(upstream: UpstreamProcess, url: str, **keys: Any) -> dict[str, Any]:
    """Return what the upstream has got."""
    async with fetching() as fetcher:
        end = await ending(fetcher, job(url, **keys))
    assert end.why == "ok", end.error
    document: dict[str, Any] = json.loads(end.content)
    return document | {"headers": dict(document["headers"]), "body": base64.b64decode(document["body"])}


async def test_the_plain_request() -> None:
    """Few headers, and one that says who asks."""
    async with answering(response(b"hello")) as server, fetching() as fetcher:
        await ending(fetcher, job(f"{server.url}/a/b?c=d#e"))
    lines = server.heads[0].decode().split("\r\n")
    assert lines[0] == "GET /a/b?c=d HTTP/1.1"
    assert sorted(line for line in lines[1:] if line) == [
        "Accept-Encoding: gzip, deflate",
        "Accept: */*",
        f"Host: {server.url.removeprefix('http://')}",
        f"User-Agent: fetchd/{__version__}",
    ]


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT"])
async def test_methods(method: str) -> None:
    """Those that write say how much, also where it is nothing."""
    request = await sent(job(URL, method=method))
    assert request.method == method
    assert request.headers.get("content-length") == ("0" if method in {"POST", "PUT"} else None)


@pytest.mark.parametrize(
    ("url", "params", "query"),
    [
        (URL, {"a": "1"}, b"a=1"),
        (f"{URL}?a=1", {"b": "2"}, b"a=1&b=2"),
        (f"{URL}?flag&a=1&a=2&b=%2F", {"a": "3"}, b"flag&a=1&a=2&b=%2F&a=3"),
        (f"{URL}?q=a+b&r=a%20b", {}, b"q=a+b&r=a%20b"),
        (f"{URL}?", {"a": "1"}, b"a=1"),
        (f"{URL}#part", {"a": "1"}, b"a=1"),
        (URL, {"ž": "a b&c=d/é"}, b"%C5%BE=a+b%26c%3Dd%2F%C3%A9"),
        (URL, {"empty": ""}, b"empty="),
    ],
)
async def test_queries(url: str, params: dict[str, str], query: bytes) -> None:
    """The URL's own query stays as it is written, byte by byte: it may be signed."""
    assert (await sent(job(url, params=params))).url.query == query


@pytest.mark.parametrize(
    ("keys", "content", "kind"),
    [
        ({"json": {"a": [1, None, "ž"]}}, '{"a":[1,null,"ž"]}'.encode(), "application/json"),
        ({"json": []}, b"[]", "application/json"),
        ({"json": False}, b"false", "application/json"),
        ({"form": {"a b": "ž&=", "c": ""}}, b"a+b=%C5%BE%26%3D&c=", "application/x-www-form-urlencoded"),
        ({"form": {}}, b"", "application/x-www-form-urlencoded"),
        ({"body": "naïf"}, "naïf".encode(), None),
        ({"json": {}, "headers": {"content-type": "application/vnd.api+json"}}, b"{}", "application/vnd.api+json"),
        ({"body": "<a/>", "headers": {"Content-Type": "text/xml"}}, b"<a/>", "text/xml"),
    ],
)
async def test_bodies(keys: dict[str, Any], content: bytes, kind: str | None, upstream: UpstreamProcess) -> None:
    """The bytes, their length and their type."""
    request = await sent(job(URL, method="POST", **keys))
    assert (request.content, request.headers.get("content-type")) == (content, kind)
    assert request.headers["content-length"] == str(len(content))
    got = await echoed(upstream, upstream.url("echo"), method="POST", **keys)
    assert (got["body"], got["headers"].get("content-type")) == (content, kind)
    assert got["headers"]["content-length"] == str(len(content))
    assert "transfer-encoding" not in got["headers"]


async def test_headers(upstream: UpstreamProcess) -> None:
    """The job's own win over the defaults, in whatever case they are written."""
    given = {"user-agent": "mine", "ACCEPT": "text/plain", "X-One": "1, 2", "X-Empty": "", "Host": "other.test"}
    got = await echoed(upstream, upstream.url("echo"), headers={**given, "X-Beyond": "naïf"})
    headers = got["headers"]
    assert {name.lower(): headers[name.lower()] for name in given} == {k.lower(): v for k, v in given.items()}
    assert headers["x-beyond"].encode("latin-1").decode() == "naïf"
    assert headers["accept-encoding"] == "gzip, deflate"


@pytest.mark.parametrize(
    ("auth", "header"),
    [
        (BasicAuth(kind="basic", username=Secret("ü"), password=Secret("p:ß")), "Basic w7w6cDrDnw=="),
        (BasicAuth(kind="basic", username=Secret("u"), password=Secret("")), "Basic dTo="),
        (BearerAuth(kind="bearer", token=Secret("abc.def-_~+/=")), "Bearer abc.def-_~+/="),
    ],
)
async def test_authorisation(auth: Any, header: str, upstream: UpstreamProcess) -> None:
    """As RFC 7617 and RFC 6750 write it."""
    assert (await echoed(upstream, upstream.url("echo"), auth=auth))["headers"]["authorization"] == header


@pytest.mark.parametrize(
    ("user", "keys", "header"),
    [
        ("user:pa%20ss%3A%40@", {}, "user:pa ss:@"),
        ("user@", {}, "user:"),
        ("%C5%BE:x@", {}, "ž:x"),
        ("user:pass@", {"auth": BearerAuth(kind="bearer", token=Secret("token"))}, None),
        ("user:pass@", {"headers": {"authorization": "Mine"}}, None),
    ],
)
async def test_a_user_in_the_url(user: str, keys: Any, header: str | None, upstream: UpstreamProcess) -> None:
    """It authorises, where nothing else does, and stays out of what is sent and shown otherwise."""
    url = upstream.url("echo").replace("://", f"://{user}")
    got = await echoed(upstream, url, **keys)
    expected = f"Basic {base64.b64encode(header.encode()).decode()}" if header else None
    assert got["headers"]["authorization"] == (expected or ("Bearer token" if "auth" in keys else "Mine"))
    assert got["headers"]["host"] == f"{HOST}:{upstream.ports['http']}"
    async with fetching() as fetcher:
        end = await ending(fetcher, job(url, **keys))
    assert end.fetched is not None
    assert end.fetched.url == upstream.url("echo")


@pytest.mark.parametrize("token", ["two words", "line\nbreak", "naïf", "\x00"])
def test_tokens_that_cannot_be_sent(token: str) -> None:
    """A file with two lines in it is found at the start, not with each fetch."""
    with pytest.raises(ValueError, match="a token holds no"):
        BearerAuth(kind="bearer", token=Secret(token))
    with pytest.raises(ValueError, match="no colon"):
        BasicAuth(kind="basic", username=Secret("a:b"), password=Secret(""))


@pytest.mark.parametrize(
    ("url", "host", "target"),
    [
        ("http://münchen.test/ü?ü#ü", b"xn--mnchen-3ya.test", b"/%C3%BC?%C3%BC"),
        ("http://UPSTREAM.test:80/A", b"upstream.test", b"/A"),
        ("http://upstream.test:8080", b"upstream.test:8080", b"/"),
        ("http://[::1]:8080/", b"[::1]:8080", b"/"),
        ("http://upstream.test//a/../b%2F%2fc;d=[e]|", b"upstream.test", None),
        ("https://upstream.test:443/", b"upstream.test", b"/"),
    ],
)
async def test_addresses(url: str, host: bytes, target: bytes | None) -> None:
    """International names and odd paths, as a server understands them."""
    request = await sent(job(url))
    assert dict(request.headers.raw)[b"Host"] == host
    if target is not None:
        assert request.url.raw_path == target


@pytest.mark.parametrize("url", ["http://☃.test/", "http://upstream.test/" + "x" * 70_000])
async def test_addresses_that_the_client_refuses(url: str) -> None:
    """What the configuration lets pass and httpx does not is a failure with a reason, not a crash of each Run."""
    fetcher = fetcher_over(httpx.MockTransport(lambda _: httpx.Response(200)))
    end = await ending(fetcher, job(url, retries=2))
    assert (end.why, end.progress.attempts) == ("protocol", 1)
    with pytest.raises(FetchError):
        await fetcher.send("POST", url, {}, Body.of(b""), Timeouts())


async def test_an_international_name_on_the_wire(upstream: UpstreamProcess) -> None:
    """Down to the socket, where the name is resolved in its ASCII form."""
    names = Names(nameservers=(f"{HOST}:{upstream.ports['dns']}",))
    async with answering(response(b"hello")) as server, fetching(names=names) as fetcher:
        end = await ending(fetcher, job(server.url.replace(HOST, "bücher.good.test") + "/ä%20b"))
    assert end.content == b"hello"
    assert server.heads[0].startswith(b"GET /%C3%A4%20b HTTP/1.1\r\n")
    assert b"Host: xn--bcher-kva.good.test:" in server.heads[0]


def test_a_template_is_the_same_each_time() -> None:
    """It is put together once and used for ever: no Run may leave anything in it for the next."""
    wanted = job(f"{URL}?a=1", method="POST", json={"a": 1}, headers={"X-One": "1"}, params={"b": "2"})
    template = Template.of(wanted)
    limits = Limits.of(wanted)
    first, second = (template.request(Exchange(limits, Progress()), Validators()) for _ in range(2))
    assert (first.method, first.url, first.headers, first.read()) == (
        second.method,
        second.url,
        second.headers,
        second.read(),
    )
    first.headers["X-One"] = "spoilt"
    first.headers["X-Two"] = "new"
    first.extensions["new"] = 1
    third = template.request(Exchange(limits, Progress()))
    assert third.headers == second.headers
    assert set(third.extensions) == set(second.extensions)
    assert third.extensions != second.extensions


async def test_a_changed_job_gets_its_own_template() -> None:
    """After a reload the new definition counts, also under the same name."""
    router = respx.MockRouter()
    route = router.route().mock(return_value=httpx.Response(200))
    fetcher = fetcher_over(httpx.MockTransport(router.async_handler))
    for path in ("one", "two", "one"):
        await ending(fetcher, job(f"http://upstream.test/{path}"))
    assert [call.request.url.path for call in route.calls] == ["/one", "/two", "/one"]


async def test_a_function_s_client_is_respx_s_too() -> None:
    """Users test their functions as they test any httpx code."""
    router = respx.MockRouter()
    router.get("http://upstream.test/a").respond(json={"a": 1})
    fetcher = fetcher_over(httpx.MockTransport(router.async_handler))
    end = await ending(fetcher, job(collect="tests.fetch.test_request:get_a"))
    assert json.loads(end.content) == {"a": 1}


async def get_a(context: Any) -> Any:
    """Get what the router answers."""
    return (await context.client.get("http://upstream.test/a")).json()
