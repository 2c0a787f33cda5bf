"""Responses that went through a mill: each of them ends as a result, or with a reason."""

from __future__ import annotations

import asyncio
import gzip
import random
import zlib
from collections import Counter
from typing import Any

import pytest

from tests.fetch.room import answering, ending, fetching, job, response

COUNT = 250

WHOLE = [
    response(b"hello" * 50, "Content-Type: text/plain; charset=utf-8", 'ETag: "x"', "Set-Cookie: a=b; Path=/"),
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n3;ext=1\r\nabc\r\n0\r\nX: y\r\n\r\n",
    response(gzip.compress(b"hello" * 100), "Content-Encoding: gzip"),
    response(zlib.compress(b"hello" * 100), "Content-Encoding: deflate"),
    response(b"", "Location: http://127.0.0.1:1/a?b=c#d", status=302),
    response(b"", "Location: /again", status=307),
    b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + response(b"hello"),
    b"HTTP/1.0 200 OK\r\n\r\nhello",
]

BITS = [b"\r\n", b"\n", b"\0", b":", b" ", b"\xff", b"HTTP/1.1", b"chunked", b"Content-Length: 5\r\n", b"-1", b"9" * 20]


def milled(dice: random.Random) -> bytes:
    """Return one of the responses with a few bytes put in, taken out, changed, or said twice."""
    data = bytearray(dice.choice(WHOLE))
    for _ in range(dice.randint(1, 3)):
        at = dice.randrange(len(data))
        match dice.randrange(4):
            case 0:
                data[at:at] = dice.choice(BITS)
            case 1:
                data[at] = dice.randrange(256)
            case 2:
                del data[at : at + dice.randint(1, 10)]
            case _:
                data[at:at] = data[:30]
    return bytes(data)


@pytest.mark.parametrize("seed", range(2))
async def test_every_one_ends_with_a_reason(seed: int) -> None:
    """What nobody has thought of must not come out as an error of ours, nor as a stray one of the loop's."""
    dice = random.Random(seed)
    stray: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: stray.append(context))
    seen: Counter[str] = Counter()
    async with answering(*(milled(dice) for _ in range(COUNT)), close=True) as server, fetching() as fetcher:
        while len(server.heads) < COUNT:
            wanted = job(server.url, method=dice.choice(["GET", "HEAD", "POST"]), redirects=2, timeout="100ms")
            end = await ending(fetcher, wanted)
            seen[end.why] += 1
            if end.error is not None:
                assert str(end.error)
                assert "\n" not in str(end.error)
    assert {"ok", "protocol"} <= set(seen)
    assert not stray
