"""Names for jobs, of what is no secret in their URLs."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Collection
from typing import Final
from urllib.parse import unquote

from fetchd.imports.addresses import host_of, path_of
from fetchd.imports.marks import variables
from fetchd.imports.wanted import Wanted

LONGEST: Final = 48

_WORD: Final = re.compile(r"[a-z][a-z_.-]{1,23}|[a-z]{1,12}[0-9]{1,2}|v[0-9]{1,3}")
"""A part of a path that can be shown: tokens and identifiers have digits within, or capitals."""
_UNFIT: Final = re.compile(r"[^a-z0-9]+")


def job_name(wanted: Wanted, taken: Collection[str]) -> str:
    """Return a name for the job, that is not ``taken``: of its host, and of the last words of its path."""
    words = [word for word in path_of(wanted.url).split("/") if _WORD.fullmatch(word)]
    base = "-".join(_fit(part) for part in (_host(wanted.url), *words[-2:])).strip("-")
    return unused(_UNFIT.sub("-", base)[:LONGEST].strip("-") or "job", taken)


def unused(name: str, taken: Collection[str]) -> str:
    """Return ``name``, with a number if it is ``taken``."""
    number, found = 1, name
    while found in taken:
        number += 1
        found = f"{name}-{number}"
    return found


def _host(url: str) -> str:
    host = host_of(url).lower()
    if not host:
        if url.startswith("http+unix://"):
            return unquote(url[len("http+unix://") :].partition("/")[0]).rpartition("/")[2].removesuffix(".sock")
        return next(iter(variables(url)), "job")
    try:
        ipaddress.ip_address(host)
    except ValueError:
        labels = [label for label in host.split(".") if label != "www"]
        return "-".join(labels[:-1] if len(labels) > 1 else labels)
    return host


def _fit(text: str) -> str:
    return _UNFIT.sub("-", text.lower()).strip("-")
