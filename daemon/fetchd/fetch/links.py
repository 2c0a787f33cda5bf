"""The Link header (RFC 8288), and the addresses that it and a body may name."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final
from urllib.parse import urljoin, urlsplit

import httpx

from fetchd.errors import FetchError, Reason
from fetchd.job import url_problem

LONGEST: Final = 8000
"""Characters of an address at the most: one that grows from page to page comes to an end, and servers take no more."""

_TARGET: Final = re.compile(r"[\s,]*<([^<>]*)>")
_PARAMETER: Final = re.compile(r'\s*;\s*([^\s=;,"<>]*)\s*(?:=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s;,"]*)))?', re.DOTALL)
_ESCAPED: Final = re.compile(r"\\(.)", re.DOTALL)


def refused(message: str) -> FetchError:
    """Return the error of a walk through pages that is not gone on with."""
    return FetchError(Reason.PAGES, message, transient=False, phase="pages")


def next_link(header: str) -> str | None:
    """Return the target of the first link to the next page, as it is written; None where there is none.

    Several Link headers come joined by commas. A link from another context than the page (``anchor``) does not count
    (RFC 8288, 3.2), and of several ``rel`` only the first does (3.3).
    """
    for target, parameters in _links(header):
        if "anchor" not in parameters and "next" in parameters.get("rel", "").lower().split():
            return target
    return None


def _links(header: str) -> Iterator[tuple[str, dict[str, str]]]:
    start = 0
    while match := _TARGET.match(header, start):
        start = match.end()
        parameters: dict[str, str] = {}
        while found := _PARAMETER.match(header, start):
            start = found.end()
            name, quoted, token = found.groups()
            value = _ESCAPED.sub(r"\1", quoted) if quoted is not None else token or ""
            parameters.setdefault(name.lower(), value)
        yield match[1].strip(), parameters
        if (start := header.find(",", start)) < 0:
            return


def path_of_next(reference: str, answered: httpx.URL, asked: httpx.URL) -> str:
    """Return the path and query of ``reference``, which a page that came from ``answered`` names as the next one.

    The origin is not returned: it is that of ``asked``, the job's own, or the reference is refused. Whatever a parser
    may take for a host in it, nothing is sent there.

    Raises:
        FetchError: it is no address, or leads to another origin, which must not get the job's secrets.
    """
    if len(reference) > LONGEST:
        raise refused(f"the address of the next page is longer than {LONGEST} characters")
    try:
        joined = _joined(str(answered), reference.strip())
        problem = url_problem(joined)
        url = None if problem else httpx.URL(joined)
    except (ValueError, httpx.InvalidURL):
        problem, url = "not a URL", None
    if url is None:
        raise refused(f"the next page's address cannot be asked for: {problem}")
    if url.userinfo:
        raise refused("the next page's address names a user, who would replace the job's own authorisation")
    if _origin(url) != _origin(asked):
        raise refused(
            f"the next page is at another origin, {_shown(url)}, than the job's url, {_shown(asked)}: "
            "it must not get what the job sends"
        )
    path = url.raw_path.decode("ascii")
    if len(path) > LONGEST:
        raise refused(f"the address of the next page is longer than {LONGEST} characters")
    return path


def _joined(base: str, reference: str) -> str:
    """Resolve ``reference`` (RFC 3986, 5); whatever the scheme: the standard library knows some only."""
    scheme = base.partition(":")[0]
    if scheme in {"http", "https"} or urlsplit(reference).scheme:
        return urljoin(base, reference)
    return scheme + urljoin("http" + base.removeprefix(scheme), reference).removeprefix("http")


def _origin(url: httpx.URL) -> tuple[str, bytes, int | None]:
    return url.scheme, url.raw_host, url.port or {"http": 80, "https": 443}.get(url.scheme)


def _shown(url: httpx.URL) -> str:
    return f"{url.scheme}://{url.netloc.decode('ascii', 'replace')}"[:200]
