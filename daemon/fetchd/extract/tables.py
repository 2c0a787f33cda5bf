"""CSV as records: the first row names the fields of all others (RFC 4180)."""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections.abc import Iterator
from typing import Any, Final

from fetchd.extract.plain import Steps, failure

COLUMNS: Final = 10_000
"""The most columns of a table."""

_CHARSET: Final = re.compile(r';\s*charset\s*=\s*"?([^\s";]+)', re.IGNORECASE)
_CHARSETS: Final = re.compile(
    r"utf-?8|utf-?16(-?[bl]e)?|us-ascii|ascii|latin-?1|iso-?8859-?\d{1,2}|(windows|cp)-?(125\d|874)|koi8-[ru]|"
    r"shift[_-]jis|euc-(jp|kr)|gb2312|gbk|gb18030|big5",
    re.IGNORECASE,
)
"""What an upstream may name: the codecs that Python finds by name are more than character sets."""
_PAGE: Final = re.compile(r"\s*<(?:!doctype|html|\?xml)\b", re.IGNORECASE)
"""How no table begins: servers answer with a page where one has to log in, or where they are down."""
_MARKS: Final = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))


def rows(content: bytes, content_type: str, delimiter: str, steps: Steps) -> Iterator[dict[str, Any]]:
    """Yield each row as an object of texts; fields that a short row does not have are left out.

    Raises:
        FetchError: it is not CSV, or in no character set that can be told.
    """
    text = decoded(content, content_type)
    if _PAGE.match(text):
        raise failure("the body is not CSV: it is a page of HTML, or XML")
    limit = csv.field_size_limit(max(len(text), 1))
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        names = _names(next(reader, []))
        steps.take(len(names))
        for row in reader:
            steps.take(1 + len(row) / 4)
            if row:
                yield _record(names, row, reader.line_num)
    except csv.Error as error:
        raise failure(f"the body is not CSV: line {reader.line_num}: {error}") from None
    finally:
        csv.field_size_limit(limit)


def decoded(content: bytes, content_type: str) -> str:
    """Return ``content`` as text: by its byte order mark, else as its type declares, else UTF-8, else Latin-1.

    Raises:
        FetchError: it is not what it says.
    """
    declared = _CHARSET.search(content_type)
    known = _CHARSETS.fullmatch(declared[1]) if declared else None
    name = next((name for mark, name in _MARKS if content.startswith(mark)), known[0] if known else None)
    try:
        return content.decode(name or "utf-8")
    except (UnicodeDecodeError, LookupError):
        if name is None:
            return content.decode("latin-1")
    raise failure(f"the body is not {name}, as it says it is")


def _names(header: list[str]) -> list[str]:
    """Return the columns' names, each once: the second "x" is "x_2". A column without a name is left out, as ""."""
    if len(header) > COLUMNS:
        raise failure(f"the table has more than {COLUMNS} columns")
    taken = {name.strip() for name in header}
    names: list[str] = []
    counts: dict[str, int] = {}
    for name in (name.strip() for name in header):
        count = counts.get(name, 0) + 1
        if name and count > 1:
            while f"{name}_{count}" in taken:
                count += 1
            taken.add(f"{name}_{count}")
            names.append(f"{name}_{count}")
        else:
            names.append(name)
        counts[name] = count
    return names


def _record(names: list[str], row: list[str], line: int) -> dict[str, Any]:
    if len(row) > len(names) and any(row[len(names) :]):
        raise failure(f"the body is not CSV: line {line} has more fields than the first one")
    return {name: field for name, field in zip(names, row, strict=False) if name}
