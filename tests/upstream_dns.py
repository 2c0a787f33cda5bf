"""A name server whose answer depends on the name's ending; made up, on loopback, over UDP."""

from __future__ import annotations

import asyncio
import struct
from collections import Counter
from typing import Any, Final

ADDRESS: Final = b"\x7f\0\0\x01"
NO_ERROR, SERVER_FAILURE, NO_SUCH_NAME = 0, 2, 3
TYPE_A: Final = 1


def question_of(query: bytes) -> tuple[str, int, bytes]:
    """Return the name that ``query`` asks for, in lower case, the record type and the question as sent.

    Raises:
        ValueError, IndexError, struct.error: it is no query.
    """
    labels, at = [], 12
    while length := query[at]:
        labels.append(query[at + 1 : at + 1 + length].decode("ascii").lower())
        at += 1 + length
    (kind,) = struct.unpack_from(">H", query, at + 1)
    return ".".join(labels), kind, query[12 : at + 5]


def answer(query: bytes) -> bytes | None:
    """Return the response to ``query``, or None where there is to be none.

    ``good.test`` is 127.0.0.1 and has no other record, ``hung.test`` is never answered, ``broken.test`` is a failure
    of the server, ``missing.test`` and whatever else do not exist; so are all names below each.
    """
    name, kind, question = question_of(query)
    domain = ".".join(name.split(".")[-2:])
    if domain == "hung.test":
        return None
    code = {"good.test": NO_ERROR, "broken.test": SERVER_FAILURE}.get(domain, NO_SUCH_NAME)
    # The record's name points at the question's; it may be kept for no time, so that each look-up is seen.
    record = b"\xc0\x0c" + struct.pack(">HHIH", TYPE_A, 1, 0, len(ADDRESS)) + ADDRESS
    records = [record] if code == NO_ERROR and kind == TYPE_A else []
    start = query[:2] + struct.pack(">HHHHH", 0x8180 | code, 1, len(records), 0, 0)
    return b"".join([start, question, *records])


class NameServer(asyncio.DatagramProtocol):
    """Answers over UDP, and counts what is asked by name."""

    def __init__(self, names: Counter[str]) -> None:
        self._names = names
        self._transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.DatagramTransport) -> None:
        """Keep what answers are sent through."""
        self._transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str | Any, int]) -> None:
        """Answer one query; what is no query is dropped."""
        try:
            self._names[question_of(data)[0]] += 1
            response = answer(data)
        except (ValueError, IndexError, struct.error):
            return
        if response and self._transport:
            self._transport.sendto(response, addr)
