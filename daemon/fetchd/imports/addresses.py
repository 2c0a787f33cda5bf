"""URLs as they stand on a command line, made into URLs that a job has."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import quote, unquote

from fetchd.imports.marks import OPEN, around
from fetchd.imports.wanted import Wanted

_PARTS: Final = re.compile(
    r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://(?P<authority>[^/?#]*)(?P<path>[^?#]*)(?P<query>\?[^#]*)?(?:#.*)?",
    re.DOTALL,
)
_FEW_SLASHES: Final = re.compile(r"(https?):/(?://)?(?=[^/])", re.IGNORECASE)
"""One or three of them: curl takes them for two."""
_ENCODED_IN_PATHS: Final = re.compile('["<>`{}]')
_ENCODED_IN_QUERIES: Final = re.compile('["<>]|[^\x00-\x7f]+')
_BEYOND_ASCII: Final = re.compile("[^\x00-\x7f]+")
_ENCODED: Final = 'fetchd sends what RFC 3986 keeps out of a URL, such as ", < and >, percent-encoded'


def address(written: str, wanted: Wanted) -> str:
    """Return the URL that ``written`` is; whom it names goes to the auth of ``wanted``, unless there is one."""
    written = _FEW_SLASHES.sub(r"\1://", written, count=1) if _FEW_SLASHES.match(written) else written
    if "://" not in written and not written.startswith(OPEN):
        if written.lower().startswith("ftp."):
            wanted.block("a name that begins with ftp. is taken for FTP")
        written = f"http://{written}"
    match = _PARTS.fullmatch(written)
    if match is None or OPEN in match["scheme"]:
        wanted.note('the variable that the URL begins with has to hold "http://" or "https://" too')
        return written.partition("#")[0]
    scheme = match["scheme"].lower()
    if scheme not in {"http", "https"}:
        wanted.block(f"{scheme} is not HTTP")
    user, at, host = match["authority"].rpartition("@")
    if at and wanted.auth is None:
        name, _, password = user.partition(":")
        wanted.auth = {"kind": "basic", "username": unquote(name), "password": unquote(password)}
    if match["query"] == "?":
        wanted.note("the empty query at the URL's end is not sent")
    return f"{scheme}://{host}{_path(match['path'], wanted)}{_query(match['query'] or '', wanted)}"


def with_query(url: str, more: str) -> str:
    """Return ``url`` with ``more`` after the query that it has; a fragment is left out."""
    url = url.partition("#")[0]
    if not more:
        return url
    if "?" not in url:
        return f"{url}?{more}"
    return f"{url}{more}" if url.endswith(("?", "&")) else f"{url}&{more}"


def at_socket(url: str, path: str, wanted: Wanted) -> str:
    """Return ``url`` as it is asked of the server at the socket ``path``."""
    match = _PARTS.fullmatch(url)
    if match is None or OPEN in path:
        wanted.block("a variable stands where the URL has to be known, to ask it at a socket")
        return url
    if match["scheme"] == "https":
        wanted.block("there is no TLS over a socket")
    if match["authority"] not in {"localhost", "localhost:80"} and wanted.header("host") is None:
        wanted.headers.append(("Host", match["authority"]))
    return f"http+unix://{quote(path, safe='')}{match['path'] or '/'}{match['query'] or ''}"


def host_of(url: str) -> str:
    """Return the host of ``url``, without its port; "" where it is not known."""
    match = _PARTS.fullmatch(url)
    if match is None or match["scheme"] == "http+unix":
        return ""
    host = match["authority"].rpartition("@")[2]
    if OPEN in host:
        return ""
    return host.rpartition("]")[0].lstrip("[") if host.startswith("[") else host.partition(":")[0]


def path_of(url: str) -> str:
    """Return the path of ``url``; of one that begins with a variable, what follows that."""
    match = _PARTS.fullmatch(url)
    return match["path"] if match else re.sub(r"^[^/]*", "", url.partition("?")[0])


def _path(path: str, wanted: Wanted) -> str:
    path = around(path, lambda text: _BEYOND_ASCII.sub(lambda match: quote(match[0]).lower(), text))
    path = path[:-1] if path.endswith("/.") else path
    return _encoded(path, _ENCODED_IN_PATHS, wanted)


def _query(query: str, wanted: Wanted) -> str:
    return _encoded(query, _ENCODED_IN_QUERIES, wanted)


def _encoded(text: str, pattern: re.Pattern[str], wanted: Wanted) -> str:
    made = around(text, lambda part: pattern.sub(lambda match: quote(match[0], safe=""), part))
    if made != text:
        wanted.note(_ENCODED)
    return made
