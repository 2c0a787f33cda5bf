"""From the arguments of curl(1) to the requests that they are."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final
from urllib.parse import quote

from fetchd.imports.addresses import address, at_socket, host_of, with_query
from fetchd.imports.curl_options import (
    BLOCKING,
    BLOCKING_WITH_VALUE,
    NOTED,
    NOTED_WITH_VALUE,
    Said,
    requests,
)
from fetchd.imports.data import OPTIONS, Data, appended, encoded, joined, placed
from fetchd.imports.globs import GlobError, expanded, numbered
from fetchd.imports.marks import CLOSE, OPEN, around, shown, variables, whole
from fetchd.imports.sinks import file_sink, remote_name
from fetchd.imports.wanted import Surroundings, Wanted

FORM: Final = "application/x-www-form-urlencoded"
LARGEST_BODY: Final = 2**40
_FRAMING: Final = frozenset({"connection", "content-length", "transfer-encoding"})
_ALL_CAUSES: Final = (
    "dns connect tls timeout_connect timeout_read timeout_write timeout_pool protocol decode http_429 http_4xx http_5xx"
)


def wanted_by_curl(arguments: Sequence[str], around: Surroundings) -> list[Wanted]:
    """Return the requests that curl sends with these ``arguments``."""
    return [wanted for said in requests(arguments) for wanted in _all_urls(said, around)]


def _all_urls(said: Said, around: Surroundings) -> list[Wanted]:
    urls = [value for _, value in said.all("url")]
    if not urls:
        lone = Wanted()
        _judged(said, lone)
        lone.block("there is no URL")
        return [lone]
    outputs = [(name, value) for name, value in said.all("output", "remote-name")]
    if said.has("remote-name-all"):
        outputs += [("remote-name", "")] * (len(urls) - len(outputs))
    found: list[Wanted] = []
    for index, url in enumerate(urls):
        output = outputs[index] if index < len(outputs) else None
        found += _each(url, said, around, output)
    for name in filter(None, map(whole, urls)):
        for wanted in found if len(urls) > 1 else ():
            wanted.note(f"${name} is taken for a URL: if it holds options, they are not imported")
    return found


def _each(url: str, said: Said, around: Surroundings, output: tuple[str, str] | None) -> list[Wanted]:
    """Return what is wanted of ``url``, which may stand for many."""
    try:
        all_urls = [(url, ())] if said.has("globoff") else expanded(url)
    except GlobError as error:
        wanted = _one(url, said, around)
        wanted.block(f"curl takes the URL for many, and cannot: {error}")
        return [wanted]
    found = []
    for one, chosen in all_urls:
        wanted = _one(one, said, around)
        if output is not None:
            name, value = output
            file = numbered(value, chosen) if name == "output" else remote_name(wanted.url)
            folder = said.last("output-dir")
            file_sink(f"{folder.rstrip('/')}/{file}" if folder and file != "-" else file, around, wanted)
        found.append(wanted)
    return found


def _one(url: str, said: Said, around: Surroundings) -> Wanted:
    wanted = Wanted()
    _judged(said, wanted)
    _headers(said, wanted)
    _authorised(said, wanted)
    data = joined(said.all(*OPTIONS), around, wanted)
    _content(said, data, wanted)
    _url(url, said, data, wanted)
    _travel(said, around, wanted)
    _limits(said, wanted)
    return wanted


def _judged(said: Said, wanted: Wanted) -> None:
    """Say of each option that a job has no key for what becomes of it."""
    for name, _ in said.given:
        if name in NOTED or name in NOTED_WITH_VALUE:
            wanted.note(f"--{name}: {NOTED.get(name) or NOTED_WITH_VALUE[name]}")
        elif name in BLOCKING_WITH_VALUE or name in BLOCKING:
            wanted.block(f"--{name} has no counterpart")
    for option in said.unknown:
        wanted.block(f"{option} is not an option that is known")


def _headers(said: Said, wanted: Wanted) -> None:
    if (agent := said.last("user-agent")) is not None:
        take_header(f"User-Agent: {agent}" if agent else "User-Agent:", wanted)
    if (referer := said.last("referer")) is not None:
        address_alone = referer.partition(";auto")[0]
        if address_alone != referer:
            wanted.note("--referer: a redirect sets no Referer of its own")
        if address_alone:
            take_header(f"Referer: {address_alone}", wanted)
    if (part := said.last("range")) is not None:
        take_header(f"Range: bytes={part}", wanted)
    own: set[str] = set()
    for _, header in said.all("header"):
        name = re.split("[:;]", header, maxsplit=1)[0].strip().lower()
        if name not in own:  # the user's own replace those that other options set
            wanted.headers = [pair for pair in wanted.headers if pair[0].lower() != name]
            own.add(name)
        take_header(header, wanted)
    _cookies(said, wanted)


def _cookies(said: Said, wanted: Wanted) -> None:
    cookies = [value for _, value in said.all("cookie")]
    if any("=" not in value and value for value in cookies):
        wanted.block("--cookie: the cookies of a file are not read")
    texts = [value for value in cookies if "=" in value]
    if texts and wanted.header("cookie") is None and "cookie" not in wanted.removed:
        wanted.headers.append(("Cookie", "; ".join(texts)))  # RFC 6265; older curls leave the space out


def take_header(header: str, wanted: Wanted) -> None:
    """Take a header as ``-H`` names it: ``Name: value``, ``Name;`` for an empty one, ``Name:`` to remove it."""
    if header.startswith("@"):
        wanted.block("--header: the headers of a file are not read")
        return
    name, sign, value = header.partition(":")
    name, value = name.strip(), value.strip()
    if not sign:
        name, sign, rest = header.partition(";")
        if not sign or rest.strip():
            wanted.note("a header without a colon is not sent, by curl neither")
            return
    elif not value:
        _removed(name, wanted)
        return
    if OPEN in name:
        wanted.block("a variable stands in the name of a header")
    elif name.lower() in _FRAMING:
        wanted.note(f"the header {name} is set by fetchd itself")
    elif name.lower() == "expect":
        wanted.note("the header Expect is not sent: fetchd asks no leave to send a body")
    elif not _fit(value):
        wanted.block(f"the header {name} holds what a job's header cannot")
    else:
        wanted.headers.append((name, value))


def _fit(value: str) -> bool:
    """Return whether a job's header can hold ``value``, apart from its variables."""
    plain = value.replace(OPEN, "").replace(CLOSE, "")
    return all(letter.isprintable() and letter <= "\xff" for letter in plain)


def _removed(name: str, wanted: Wanted) -> None:
    wanted.removed.add(name.lower())
    if name.lower() in {"accept", "user-agent", "host"}:
        wanted.note(f"the header {name} cannot be left out: fetchd sends one")


def _authorised(said: Said, wanted: Wanted) -> None:
    if wanted.header("authorization") is not None:
        wanted.auth = {}  # the user's own header counts, and nothing beside it
        return
    if "authorization" in wanted.removed:
        wanted.auth = {}
        return
    if (token := said.last("oauth2-bearer")) is not None:
        wanted.auth = {"kind": "bearer", "token": token}
    elif (user := said.last("user")) is not None:
        name, sign, password = user.partition(":")
        kind = "digest" if said.has("digest") else "basic"
        wanted.auth = {"kind": kind, "username": name, "password": password}
        if not sign:
            wanted.auth["asks"] = "yes"
    if said.has("anyauth"):
        wanted.block('--anyauth: write auth.kind = "basic" or "digest", as the server wants it')


def _content(said: Said, data: Data | None, wanted: Wanted) -> None:
    """Set the method and the body."""
    as_query, head = said.has("get"), said.has("head")
    if data is not None and as_query:
        _json_headers(said, wanted)
    elif data is not None:
        wanted.body, wanted.body_file = data.text, data.file
        _content_type(said, wanted)
    method = "HEAD" if head else "POST" if data is not None and not as_query else "GET"
    named = said.last("request")
    if named is not None and OPEN in named:
        wanted.block("a variable stands where the method has to be known")
        named = None
    wanted.method = named or method
    if head and named and named != "HEAD":
        wanted.note("-I with another method: curl reads no body, fetchd does")
    if head and wanted.body is not None:
        wanted.block("a HEAD has no body")


def _json_headers(said: Said, wanted: Wanted) -> None:
    """Add the headers of ``--json``, which stay where its data goes into the query."""
    if said.last("json") is None:
        return
    for name in ("Accept", "Content-Type"):
        if wanted.header(name) is None and name.lower() not in wanted.removed:
            wanted.headers.append((name, "application/json"))


def _content_type(said: Said, wanted: Wanted) -> None:
    wanted.content_type = "application/json" if said.last("json") is not None else FORM
    _json_headers(said, wanted)
    if "content-type" in wanted.removed:
        wanted.content_type = None


def _url(url: str, said: Said, data: Data | None, wanted: Wanted) -> None:
    further = [
        value[1:] if value.startswith("+") else _query_piece(value, wanted) for _, value in said.all("url-query")
    ]
    if data is not None and said.has("get"):
        if further:
            wanted.block("--url-query beside --get: the versions of curl differ on what they send")
        further = [data.text]
    wanted.url = address(with_query(url, appended("&".join(further))), wanted)
    socket = said.last("unix-socket")
    if socket is not None:
        wanted.url = at_socket(wanted.url, socket, wanted)


def _query_piece(value: str, wanted: Wanted) -> str:
    if "@" in value or variables(value):
        wanted.block("--url-query: files and variables cannot be encoded here")
    name, sign, content = value.partition("=")
    return f"{name}={encoded(content)}" if sign and name else encoded(content if sign else value)


def _travel(said: Said, around: Surroundings, wanted: Wanted) -> None:
    if said.has("insecure"):
        wanted.tls["verify"] = False
        wanted.note("-k: the server's certificate is not checked; anybody on the way can read and change all")
    for option, key in (("cacert", "ca_file"), ("key", "key")):
        if (file := said.last(option)) is not None:
            wanted.tls[key] = file_path(file, around, wanted)
    if (cert := said.last("cert")) is not None:
        file, sign, password = _cert_parts(cert)
        wanted.tls["cert"] = file_path(file, around, wanted)
        if sign:
            wanted.tls["key_password"] = password
    if (phrase := said.last("pass")) is not None and "cert" in wanted.tls:
        wanted.tls["key_password"] = phrase
    if "key" in wanted.tls and "cert" not in wanted.tls:
        wanted.block("a key without a certificate")
    _proxy(said, around, wanted)
    if said.has("ipv4") or said.has("ipv6"):
        wanted.keys["ip"] = "ipv6" if said.has("ipv6") else "ipv4"


def file_path(file: str, around: Surroundings, wanted: Wanted) -> str:
    """Return a file that the configuration names, from the folder on that is known."""
    if variables(file):
        wanted.block("a variable stands in the name of a file")
    path = placed(file, around)
    try:
        around.read(path)
    except OSError as error:
        wanted.note(f"the file {shown(path)} cannot be read: {error.strerror or 'there is none'}")
    return path


def _cert_parts(cert: str) -> tuple[str, str, str]:
    """Return file, colon and password of ``--cert``; a backslash lets a colon be part of the file's name."""
    match = re.match(r"(?:\\.|[^:\\])*", cert)
    end = match.end() if match else len(cert)
    return re.sub(r"\\([:\\])", r"\1", cert[:end]), cert[end : end + 1], cert[end + 1 :]


def _proxy(said: Said, surroundings: Surroundings, wanted: Wanted) -> None:
    given = said.last("proxy")
    proxy = given if given is not None else proxy_of(wanted.url, surroundings)
    if proxy is None:
        return
    noproxy = said.last("noproxy") or ""
    host = host_of(wanted.url)
    exempt = [name.strip().lstrip(".") for name in noproxy.split(",") if name.strip()]
    if noproxy == "*" or any(f".{host}".endswith(f".{name}") for name in exempt) or not proxy:
        wanted.keys["proxy"] = ""
        return
    if "://" not in proxy and not proxy.startswith(OPEN):
        proxy = f"http://{proxy}"
    scheme, sign, rest = proxy.partition("://")
    if sign and scheme.lower() not in {"http", "https"}:
        wanted.block(f"a proxy of the kind {scheme} cannot be used")
    if sign and not re.search(r":\d+/?$", rest):
        rest = f"{rest.rstrip('/')}:{'443' if scheme.lower() == 'https' else '1080'}"
    if sign and (user := said.last("proxy-user")) is not None:
        name, _, password = user.partition(":")
        rest = f"{_quoted(name)}:{_quoted(password)}@{rest.rpartition('@')[2]}"
    wanted.keys["proxy"] = f"{scheme}://{rest}" if sign else proxy


def _quoted(text: str) -> str:
    return around(text, lambda part: quote(part, safe=""))


def proxy_of(url: str, surroundings: Surroundings) -> str | None:
    """Return the proxy that known variables name for ``url``; None where they name none."""
    scheme = "https" if url.lower().startswith("https:") else "http"
    names = [f"{scheme}_proxy", *([f"{scheme}_proxy".upper()] if scheme == "https" else []), "all_proxy", "ALL_PROXY"]
    return next((surroundings.known[name] for name in names if surroundings.known.get(name)), None)


def seconds(text: str, option: str, wanted: Wanted) -> float | None:
    """Return the seconds that ``text`` is; None, and a reason, if it is no such number."""
    if not re.fullmatch(r"\d{1,9}(?:\.\d{1,6})?", text):
        wanted.block(f"{option}: the time is not a number")
        return None
    return float(text) or None


def whole_number(text: str, option: str, wanted: Wanted, most: int) -> int | None:
    """Return the number that ``text`` is, at most ``most``; None, and a reason, if it is none."""
    if not re.fullmatch(r"-?\d{1,18}", text):
        wanted.block(f"{option} is not a number")
        return None
    number = int(text)
    if number < 0 or number > most:
        wanted.note(f"{option}: {most} is the most here")
        return most
    return number


def _limits(said: Said, wanted: Wanted) -> None:
    if (text := said.last("max-time")) is not None:
        wanted.deadline = wanted.silence = seconds(text, "--max-time", wanted)
    if (text := said.last("connect-timeout")) is not None:
        wanted.connect = seconds(text, "--connect-timeout", wanted)
    wanted.connect = wanted.connect or wanted.deadline
    if (text := said.last("max-filesize")) is not None:
        size = whole_number(text, "--max-filesize", wanted, LARGEST_BODY)
        if size:
            wanted.keys["max_body"] = f"{size}B"
    _redirects(said, wanted)
    _retries(said, wanted)


def _redirects(said: Said, wanted: Wanted) -> None:
    follows = said.has("location") or said.has("location-trusted")
    wanted.keys["redirects"] = 0
    if follows:
        number = whole_number(said.last("max-redirs") or "20", "--max-redirs", wanted, 20)
        wanted.keys["redirects"] = 20 if number is None else number
    if said.has("location-trusted"):
        wanted.note("--location-trusted: no other host gets what authorises, whatever a redirect says")


def _retries(said: Said, wanted: Wanted) -> None:
    text = said.last("retry")
    if text is None:
        return
    number = whole_number(text, "--retry", wanted, 10)
    if not number:
        wanted.keys["retries"] = 0
        return
    wanted.keys["retries"] = number
    retry: dict[str, object] = {}
    if said.has("retry-all-errors"):
        retry["on"] = _ALL_CAUSES.split()
    delay = said.last("retry-delay")
    if delay is not None and (wait := seconds(delay, "--retry-delay", wanted)):
        retry["first"] = retry["longest"] = wait
        wanted.note("--retry-delay: lots are drawn for each wait, up to that time")
    if wanted.method in {"POST", "PATCH"}:
        retry["unsafe"] = True
        wanted.note(f"--retry: curl repeats a {wanted.method} as well, so the server may get it twice")
    if retry:
        wanted.keys["retry"] = retry
    if wanted.deadline is not None:
        wanted.note("--max-time: the deadline bounds all attempts together, not each of them")
