"""From the arguments of wget(1) to the requests that they are."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final
from urllib.parse import quote, unquote

from fetchd.imports.addresses import address
from fetchd.imports.curl import FORM, file_path, proxy_of, seconds, take_header, whole_number
from fetchd.imports.curl_options import Said, named, words
from fetchd.imports.data import contents
from fetchd.imports.marks import OPEN, around
from fetchd.imports.sinks import file_sink, remote_name
from fetchd.imports.wanted import Surroundings, Wanted

_SHORT: Final = named(
    "4=inet4-only 6=inet6-only a=append-output b=background c=continue d=debug e=execute i=input-file "
    "m=mirror N=timestamping nc=no-clobber nd=no-directories nH=no-host-directories np=no-parent "
    "nv=no-verbose O=output-document o=output-file p=page-requisites P=directory-prefix q=quiet r=recursive "
    "S=server-response T=timeout t=tries U=user-agent v=verbose w=wait x=force-directories"
)
_WITH_VALUE: Final = words(
    "append-output body-data body-file ca-certificate ca-directory certificate certificate-type connect-timeout "
    "crl-file directory-prefix dns-timeout execute header http-password http-user input-file limit-rate load-cookies "
    "max-redirect method output-document output-file password post-data post-file private-key private-key-type "
    "pinnedpubkey progress proxy-password proxy-user quota read-timeout referer save-cookies secure-protocol "
    "timeout tries url user user-agent wait waitretry compression bind-address dns-servers proxy"
)
_USED: Final = words(
    "inet4-only inet6-only no-check-certificate spider no-cache no-proxy auth-no-challenge "
    "body-data body-file ca-certificate certificate connect-timeout directory-prefix header http-password http-user "
    "max-redirect method output-document password post-data post-file private-key read-timeout referer timeout tries "
    "url user user-agent dns-timeout"
)
_NO_EFFECT: Final = words(
    "append-output background debug no-verbose output-file progress quiet server-response verbose retry-connrefused "
    "no-directories no-host-directories no-parent no-hsts no-config show-progress report-speed waitretry unlink "
    "no-iri no-cookies no-keep-alive no-http-keep-alive no-dns-cache no-netrc compression no-remove-listing "
    "no-use-server-timestamps xattr no-xattr no-glob"
)
_NOTED: Final = {
    "bind-address": "requests leave by the way that the system chooses",
    "ca-directory": "a folder of CAs is not read; tls.ca_file takes a file",
    "content-disposition": "a file is called as the URL says",
    "content-on-error": "what comes with a status from 400 on is no result",
    "continue": "a file is fetched whole",
    "crl-file": "lists of revoked certificates are not read",
    "dns-servers": "names are resolved as [dns] says: set dns.nameservers",
    "force-directories": "no folders are made for hosts",
    "https-only": "http is followed as well, but not from https",
    "limit-rate": "the speed is not limited",
    "keep-session-cookies": "cookies are not kept from run to run",
    "no-clobber": "a file is replaced by the next result",
    "pinnedpubkey": "the key is not pinned; tls.fingerprint takes the SHA-256 of the certificate",
    "save-cookies": "cookies are not kept from run to run",
    "save-headers": "results are bodies alone",
    "secure-protocol": "TLS is as new as both sides can",
    "timestamping": "fetchd asks for what is new by ETag and Last-Modified by itself",
    "trust-server-names": "a file is called as the URL says",
    "wait": "the schedule says when, and min_spacing in [hosts] how far apart",
}
_LONG: Final = {"no-check-certificate", *_USED, *_NO_EFFECT, *_NOTED, *_WITH_VALUE, *_SHORT.values()}
_NOT_IN_FILES: Final = re.compile("[/\x00-\x1f\x7f-\x9f]")


def wanted_by_wget(arguments: Sequence[str], surroundings: Surroundings) -> list[Wanted]:
    """Return the requests that wget sends with these ``arguments``."""
    said = _said(list(arguments))
    urls = [value for _, value in said.all("url")]
    if not urls:
        lone = Wanted()
        _judged(said, lone)
        lone.block("there is no URL")
        return [lone]
    return [_one(url, said, surroundings, alone=len(urls) == 1) for url in urls]


def _said(rest: list[str]) -> Said:
    said = Said()
    while rest:
        argument = rest.pop(0)
        if argument == "--":
            said.given += [("url", url) for url in rest]
            break
        if argument.startswith("--"):
            name, sign, value = argument[2:].partition("=")
            _take(name, value if sign else None, rest, said)
        elif argument.startswith("-") and len(argument) > 1:
            _short(argument[1:], rest, said)
        else:
            said.given.append(("url", argument))
    return said


def _short(letters: str, rest: list[str], said: Said) -> None:
    while letters:
        length = 2 if letters[0] == "n" and letters[:2] in _SHORT else 1
        letter, letters = letters[:length], letters[length:]
        name = _SHORT.get(letter)
        if name is None:
            said.unknown.append(f"-{letter}")
        elif name in _WITH_VALUE and letters:
            said.given.append((name, letters))
            return
        else:
            _take(name, None, rest, said)


def _take(written: str, value: str | None, rest: list[str], said: Said) -> None:
    near = [name for name in _LONG if name.startswith(written)] if written else []
    name = written if written in _LONG else near[0] if len(near) == 1 else ""
    if not name:
        said.unknown.append(f"--{written}")
    elif name not in _WITH_VALUE:
        said.given.append((name, value or ""))
    elif value is not None or rest:
        said.given.append((name, rest.pop(0) if value is None else value))
    else:
        said.unknown.append(f"--{name} without a value")


def _judged(said: Said, wanted: Wanted) -> None:
    for name, value in said.given:
        if name in _NOTED:
            wanted.note(f"--{name}: {_NOTED[name]}")
        elif name == "execute" and value.replace(" ", "") == "robots=off":
            continue
        elif name not in _USED and name not in _NO_EFFECT:
            wanted.block(f"--{name} has no counterpart")
    for option in said.unknown:
        wanted.block(f"{option} is not an option that is known")


def _one(url: str, said: Said, surroundings: Surroundings, *, alone: bool) -> Wanted:
    wanted = Wanted()
    _judged(said, wanted)
    for option, name in (("user-agent", "User-Agent"), ("referer", "Referer")):
        if value := said.last(option):
            take_header(f"{name}: {value}", wanted)
    if said.has("no-cache"):
        wanted.headers += [("Cache-Control", "no-cache"), ("Pragma", "no-cache")]
    for _, header in said.all("header"):
        name = header.partition(":")[0].strip().lower()
        wanted.headers = [pair for pair in wanted.headers if pair[0].lower() != name]
        take_header(header, wanted)
    _authorised(said, wanted)
    _content(said, surroundings, wanted)
    wanted.url = address(around(url.strip(), lambda part: quote(part, safe=_SAFE)), wanted)
    if wanted.auth and not said.has("auth-no-challenge"):
        wanted.note("wget sends the password once the server asks for it, fetchd at once")
    _travel(said, surroundings, wanted)
    _limits(said, wanted)
    _output(said, surroundings, wanted, alone=alone)
    return wanted


_SAFE: Final = "".join(letter for letter in map(chr, range(0x21, 0x7F)) if letter not in '"<>\\^`{|}')
"""What wget leaves as it is in a URL."""


def _authorised(said: Said, wanted: Wanted) -> None:
    if wanted.header("authorization") is not None:
        wanted.auth = {}
        return
    user = said.last("http-user") or said.last("user")
    password = said.last("http-password") or said.last("password")
    if user is not None:
        wanted.auth = {"kind": "basic", "username": user, "password": password or ""}
        if password is None:
            wanted.auth["asks"] = "yes"


def _content(said: Said, surroundings: Surroundings, wanted: Wanted) -> None:
    for option in ("post-data", "body-data"):
        if (text := said.last(option)) is not None:
            wanted.body = text
    for option in ("post-file", "body-file"):
        if (file := said.last(option)) is not None:
            wanted.body = contents(file, surroundings, wanted)
            wanted.note(f"what is in {file} is what it was when it was imported")
    if wanted.body is not None:
        wanted.content_type = FORM
    posts = any(said.last(option) is not None for option in ("post-data", "post-file"))
    method = said.last("method")
    if method is not None and OPEN in method:
        wanted.block("a variable stands where the method has to be known")
        method = None
    wanted.method = (method or ("HEAD" if said.has("spider") else "POST" if posts else "GET")).upper()


def _travel(said: Said, surroundings: Surroundings, wanted: Wanted) -> None:
    if said.has("no-check-certificate"):
        wanted.tls["verify"] = False
        wanted.note("the server's certificate is not checked; anybody on the way can read and change all")
    for option, key in (("ca-certificate", "ca_file"), ("certificate", "cert"), ("private-key", "key")):
        if (file := said.last(option)) is not None:
            wanted.tls[key] = file_path(file, surroundings, wanted)
    if "key" in wanted.tls and "cert" not in wanted.tls:
        wanted.block("a key without a certificate")
    if said.has("inet4-only") or said.has("inet6-only"):
        wanted.keys["ip"] = "ipv6" if said.has("inet6-only") else "ipv4"
    if not said.has("no-proxy") and (proxy := proxy_of(wanted.url, surroundings)):
        wanted.keys["proxy"] = proxy


def _limits(said: Said, wanted: Wanted) -> None:
    everything = said.last("timeout")
    connect = said.last("connect-timeout") or said.last("dns-timeout") or everything
    silence = said.last("read-timeout") or everything
    if connect is not None:
        wanted.connect = seconds(connect, "--connect-timeout", wanted)
    if silence is not None:
        wanted.silence = seconds(silence, "--timeout", wanted)
    if (text := said.last("tries")) is not None:
        tries = 0 if text == "inf" else whole_number(text, "--tries", wanted, 11)
        wanted.keys["retries"] = 10 if not tries else tries - 1
    wanted.keys["redirects"] = 20
    if (text := said.last("max-redirect")) is not None:
        wanted.keys["redirects"] = whole_number(text, "--max-redirect", wanted, 20) or 0


def _output(said: Said, surroundings: Surroundings, wanted: Wanted, *, alone: bool) -> None:
    if wanted.method == "HEAD" and said.has("spider"):
        wanted.shows = False
        return
    document = said.last("output-document")
    if document is not None and not alone and document not in {"-", "/dev/null"}:
        wanted.block("-O with several URLs puts their answers together in one file")
        return
    folder = said.last("directory-prefix")
    file = document if document is not None else _named_by(wanted.url)
    file_sink(f"{folder.rstrip('/')}/{file}" if folder and document is None else file, surroundings, wanted)


def _named_by(url: str) -> str:
    """Return the name that wget gives a file: decoded but for what files cannot be called, and with the query."""
    query = "".join(url.partition("?")[1:])
    name = unquote(f"{remote_name(url) or 'index.html'}{query}")
    return _NOT_IN_FILES.sub(lambda match: quote(match[0], safe=""), name)
