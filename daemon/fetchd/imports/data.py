"""What curl makes of its data options: the bytes of a body or of a query."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote

from fetchd.imports.marks import variables
from fetchd.imports.wanted import Surroundings, Wanted

LARGEST: Final = 64 * 1024
"""Bytes of a file that are written into a configuration."""

OPTIONS: Final = ("data", "data-ascii", "data-binary", "data-raw", "data-urlencode", "json")
_HEX: Final = re.compile(r"%[0-9A-Fa-f]{2}")


@dataclass(frozen=True, slots=True)
class Data:
    """All pieces of data, put together; ``file`` is the one file that they are, if they are one."""

    text: str
    file: str | None = None


def encoded(text: str) -> str:
    """Return ``text`` as curl encodes it: a space becomes a plus."""
    return quote(text, safe="-._~ ").replace(" ", "+")


def appended(text: str) -> str:
    """Return ``text`` as curl appends it to a query: its percent-encoding in small digits."""
    return _HEX.sub(lambda match: match[0].lower(), text)


def joined(pieces: Iterable[tuple[str, str]], around: Surroundings, wanted: Wanted) -> Data | None:
    """Return what the data options ``pieces`` make; None if there are none, or one of them cannot be known."""
    texts: list[str] = []
    files: list[str] = []
    for option, value in pieces:
        made = _piece(option, value, around, wanted)
        if made is None:
            return None
        text, file = made
        texts += ["&"] if texts and option != "json" else []
        texts.append(text)
        files += [file] if file is not None else []
    if not texts:
        return None
    if files and (len(texts) > 1 or not _same(files[0], texts[0], around)):
        wanted.note(f"what is in {', '.join(files)} is what it was when it was imported")
        return Data("".join(texts))
    return Data("".join(texts), files[0] if files else None)


def _piece(option: str, value: str, around: Surroundings, wanted: Wanted) -> tuple[str, str | None] | None:
    if option == "data-urlencode":
        return _urlencoded(value, around, wanted)
    if option == "data-raw" or not value.startswith("@"):
        return value, None
    text = contents(value[1:], around, wanted)
    if text is None:
        return None
    if option in {"data", "data-ascii"}:
        text = re.sub("[\r\n\0]", "", text)
    return text, None if value == "@-" else placed(value[1:], around)


def _urlencoded(value: str, around: Surroundings, wanted: Wanted) -> tuple[str, str | None] | None:
    """Return the piece that ``--data-urlencode`` makes of content, =content, name=content, @file or name@file."""
    match = re.search("[=@]", value)
    name, sign, content = (value[: match.start()], match[0], value[match.end() :]) if match else ("", "", value)
    file = None
    if sign == "@":
        file, text = content, contents(content, around, wanted)
        if text is None:
            return None
        content = text
    if variables(content):
        wanted.block("a variable stands in what curl would encode")
        return None
    prefix = f"{name}=" if name else ""
    return prefix + encoded(content), placed(file, around) if file and file != "-" else None


def contents(file: str, around: Surroundings, wanted: Wanted) -> str | None:
    """Return what is in a file that is sent; None, and a reason, if that cannot be known."""
    if file == "-":
        if around.stdin is None:
            wanted.block("what is sent comes from the standard input")
        return around.stdin
    if variables(file):
        wanted.block("a variable stands in the name of a file that is sent")
        return None
    try:
        content = around.read(placed(file, around))
    except OSError as error:
        wanted.block(f"the file {file}, which is sent, cannot be read: {error.strerror or 'there is none'}")
        return None
    if len(content) > LARGEST:
        wanted.block(f"the file {file}, which is sent, has more than 64KiB")
        return None
    try:
        text = content.decode()
    except UnicodeDecodeError:
        wanted.block(f"the file {file}, which is sent, is not UTF-8 text")
        return None
    if {"\0", "\x01", "\x02"} & set(text):
        wanted.block(f"the file {file}, which is sent, is no text")
        return None
    return text


def placed(file: str, around: Surroundings) -> str:
    """Return ``file``, which is read, from the folder on that is known, if one is."""
    return within(around.folder, file)


def within(folder: str | None, file: str) -> str:
    """Return ``file`` as it is called from ``folder`` on."""
    return file if file.startswith("/") or folder is None else f"{folder.rstrip('/')}/{file}"


def _same(file: str, text: str, around: Surroundings) -> bool:
    """Return whether a secret read from ``file`` is ``text``: it has no line ends at its end, and is not empty."""
    content = around.read(file).decode()
    return bool(text) and content.rstrip("\r\n") == text and file.startswith("/")
