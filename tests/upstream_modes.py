"""Every way in which the test upstream misbehaves, and what it counts meanwhile."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import gzip
import hashlib
import json
import socket
import struct
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Final, NoReturn

from fetchd.demo import upstream as demo
from fetchd.demo.upstream import Handler, Request, Upstream, head, ok
from tests.upstream_bombs import JUNK, MEGABYTE, pack_zeros

DOCUMENT: Final = json.dumps({"greeting": "hello", "numbers": list(range(200))}).encode()
POISON: Final = head(200, ("Content-Length", "8")) + b"poisoned"
LAST_MODIFIED: Final = "Wed, 01 Jan 2025 00:00:00 GMT"


class Connection(demo.Connection):
    """A connection whose requests may have bodies."""

    server: HostileUpstream
    requests = 0
    body = b""

    async def next_request(self) -> Request:
        """Return the next request; its body has been read, unless the mode is not to."""
        request = await super().next_request()
        self.requests += 1
        self.body = b"" if request.mode == "noread" else await _read_body(request, self.reader)
        return request


async def _read_body(request: Request, reader: asyncio.StreamReader) -> bytes:
    if request.header("transfer-encoding").lower() != "chunked":
        return await reader.readexactly(int(request.header("content-length") or 0))
    pieces = []
    while size := int((await reader.readline()).partition(b";")[0], 16):
        pieces.append((await reader.readexactly(size + 2))[:size])
    while (await reader.readline()).strip():
        pass
    return b"".join(pieces)


class HostileUpstream(Upstream):
    """Serves every mode; counts, by mode, the requests in hand and the most that were in hand at once."""

    def __init__(self) -> None:
        super().__init__(MODES, Connection)
        self.accepted = 0
        self.open = 0
        self.active: Counter[str] = Counter()
        self.peak: Counter[str] = Counter()
        self.names: Counter[str] = Counter()
        self._bombs: dict[str, asyncio.Future[bytes]] = {}

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection, counted."""
        self.accepted += 1
        self.open += 1
        try:
            await super().talk(reader, writer)
        finally:
            self.open -= 1

    async def answer(self, request: Request, connection: demo.Connection) -> bool:
        """Answer one request, counted; wrong arguments of a mode are answered with 400."""
        with self._in_hand(request.mode):
            try:
                return await super().answer(request, connection)
            except (LookupError, ValueError) as error:
                return await connection.reply(400, f"{request.path}: {error}\n".encode())

    async def keep_silent(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Accept a connection and say nothing, whatever comes."""
        ended = contextlib.suppress(OSError, asyncio.CancelledError)
        with self._in_hand("silent"), contextlib.closing(writer), ended:
            self.requests["silent"] += 1
            while await reader.read(demo.CHUNK):
                pass

    async def bomb(self, encodings: str, megabytes: int) -> bytes:
        """Return so many megabytes of zeros, packed; built at the first call, beside the loop."""
        key = f"{encodings}/{megabytes}"
        if key not in self._bombs:
            self._bombs[key] = asyncio.ensure_future(asyncio.to_thread(pack_zeros, encodings, megabytes))
        return await self._bombs[key]

    @contextlib.contextmanager
    def _in_hand(self, mode: str) -> Iterator[None]:
        self.active[mode] += 1
        self.peak[mode] = max(self.peak[mode], self.active[mode])
        try:
            yield
        finally:
            self.active[mode] -= 1


async def _trickle(connection: Connection, gap: float) -> NoReturn:
    while True:
        await connection.send(b".")
        await connection.pause(gap)


async def _send_megabytes(connection: Connection, megabytes: int) -> None:
    block = b"x" * MEGABYTE
    for _ in range(megabytes):
        await connection.send(block)


async def hangbody(request: Request, connection: Connection) -> bool:
    """Begin a body, then fall silent."""
    await connection.send(head(200, ("Content-Length", "100")) + b"hello")
    return await demo.hang(request, connection)


async def driphdr(request: Request, connection: Connection) -> bool:
    """Send one byte of a header each second, or each so many seconds, for ever."""
    gap = request.number(1.0)
    await connection.send(b"HTTP/1.1 200 OK\r\nX-Drip: ")
    await _trickle(connection, gap)


async def informational(request: Request, connection: Connection) -> bool:
    """Send 103 each so many seconds, for ever; 0 is as fast as they are taken."""
    gap = request.number(1.0)
    hint = head(103, ("Link", "</style.css>; rel=preload"))
    while True:
        await connection.send(hint if gap else hint * 100)
        if gap:
            await connection.pause(gap)


async def hdrbomb(request: Request, connection: Connection) -> bool:
    """Send a megabyte of headers, or so many, then a small body."""
    lines = [(f"X-{number}", "x" * 1024) for number in range(int(request.number(1) * 1024))]
    return await connection.reply(200, b"hello", *lines)


async def floodhdr(_request: Request, connection: Connection) -> bool:
    """Send headers without end, as fast as they are taken."""
    await connection.send(b"HTTP/1.1 200 OK\r\n")
    lines = b"X-Flood: %s\r\n" % (b"x" * 1000)
    while True:
        await connection.send(lines * 50)


async def redir(request: Request, connection: Connection) -> bool:
    """Redirect so many times, then answer; without a number redirect for ever."""
    hops = int(request.number(-1))
    if not hops:
        return await ok(request, connection)
    return await connection.reply(302, b"", ("Location", f"/redir/{hops - 1}"))


async def slowredir(request: Request, connection: Connection) -> bool:
    """Redirect for ever, each time after so many seconds."""
    seconds, *hop = request.arguments
    await connection.pause(float(seconds))
    following = int(hop[0]) + 1 if hop else 1
    return await connection.reply(302, b"", ("Location", f"/slowredir/{seconds}/{following}"))


async def redirbig(request: Request, connection: Connection) -> bool:
    """Redirect to ``ok`` with a body of so many megabytes."""
    megabytes = int(request.number(1))
    await connection.send(head(302, ("Location", "/ok"), ("Content-Length", str(megabytes * MEGABYTE))))
    await _send_megabytes(connection, megabytes)
    return True


async def redirdrip(request: Request, connection: Connection) -> bool:
    """Redirect to ``ok`` with a body of one byte each second, or each so many seconds, for ever."""
    gap = request.number(1.0)
    await connection.send(head(302, ("Location", "/ok")))
    await _trickle(connection, gap)


async def loc(request: Request, connection: Connection) -> bool:
    """Redirect to the URL in the argument, which is quoted or not."""
    return await connection.reply(302, b"", ("Location", "/".join(request.arguments)))


async def locstatus(request: Request, connection: Connection) -> bool:
    """Redirect with the status in the first argument to the URL in the second."""
    status, *url = request.arguments
    return await connection.reply(int(status), b"", ("Location", "/".join(url)))


async def bomb(request: Request, connection: Connection) -> bool:
    """Answer with so many megabytes of zeros, in the encodings of the first argument."""
    encodings, megabytes = request.arguments
    body = await connection.server.bomb(encodings, int(megabytes))
    return await connection.reply(200, body, ("Content-Encoding", encodings.replace("+", ", ")))


async def big(request: Request, connection: Connection) -> bool:
    """Answer with so many megabytes."""
    megabytes = int(request.number(1))
    await connection.send(head(200, ("Content-Length", str(megabytes * MEGABYTE))))
    await _send_megabytes(connection, megabytes)
    return True


async def short(_request: Request, connection: Connection) -> bool:
    """Promise 100 bytes, send 5, close."""
    await connection.send(head(200, ("Content-Length", "100")) + b"hello")
    return False


async def extra(_request: Request, connection: Connection) -> bool:
    """Answer rightly, with a second response behind that nobody asked for."""
    await connection.send(head(200, ("Content-Length", "5")) + b"hello" + POISON)
    return True


async def twocl(_request: Request, connection: Connection) -> bool:
    """Send two lengths that contradict each other."""
    await connection.send(head(200, ("Content-Length", "5"), ("Content-Length", "6")) + b"hello!")
    return False


async def hugecl(request: Request, connection: Connection) -> bool:
    """Promise a petabyte, or so many bytes, send 5, fall silent."""
    length = request.arguments[0] if request.arguments else str(10**15)
    await connection.send(head(200, ("Content-Length", length)) + b"hello")
    return await demo.hang(request, connection)


async def rst(_request: Request, connection: Connection) -> bool:
    """Reset the connection instead of answering."""
    raw = connection.writer.get_extra_info("socket")
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.writer.transport.abort()
    return False


async def close(_request: Request, _connection: Connection) -> bool:
    """Close instead of answering."""
    return False


async def once(request: Request, connection: Connection) -> bool:
    """Answer the first request of a connection, and close when another arrives on it."""
    return connection.requests == 1 and await ok(request, connection)


async def cookie(request: Request, connection: Connection) -> bool:
    """Set another cookie each time; the body is the Cookie header that came."""
    crumb = f"c{connection.server.requests['cookie']}={'x' * 50}; Path=/"
    return await connection.reply(200, request.header("cookie").encode(), ("Set-Cookie", crumb))


async def charset(request: Request, connection: Connection) -> bool:
    """Answer with a megabyte of text in the charset that is named."""
    kind = f"text/plain; charset={request.arguments[0]}"
    return await connection.reply(200, b"a" * MEGABYTE, ("Content-Type", kind))


async def retryafter(request: Request, connection: Connection) -> bool:
    """Answer 503, or the status in the second argument, with the first as Retry-After."""
    value, *status = request.arguments
    return await connection.reply(int(status[0]) if status else 503, b"", ("Retry-After", value))


async def status(request: Request, connection: Connection) -> bool:
    """Answer with the status in the argument."""
    return await connection.reply(int(request.arguments[0]), DOCUMENT)


async def echo(request: Request, connection: Connection) -> bool:
    """Answer with the request, as JSON."""
    document = {
        "method": request.method,
        "path": request.path,
        "query": request.query,
        "headers": request.headers,
        "body": base64.b64encode(connection.body).decode(),
        "sha256": hashlib.sha256(connection.body).hexdigest(),
    }
    return await connection.reply(200, json.dumps(document).encode(), ("Content-Type", "application/json"))


async def stats(_request: Request, connection: Connection) -> bool:
    """Answer with what has been counted; the connection that asks is not among the open ones."""
    server = connection.server
    document = {
        "requests": server.requests,
        "active": server.active,
        "peak": server.peak,
        "open": server.open - 1,
        "accepted": server.accepted,
        "names": server.names,
    }
    return await connection.reply(200, json.dumps(document).encode(), ("Content-Type", "application/json"))


async def _encoded(connection: Connection, encoding: str, body: bytes) -> bool:
    kind = ("Content-Type", "application/json")
    return await connection.reply(200, body, kind, ("Content-Encoding", encoding))


async def gzipok(_request: Request, connection: Connection) -> bool:
    """Answer rightly, in gzip."""
    return await _encoded(connection, "gzip", gzip.compress(DOCUMENT))


async def deflateok(_request: Request, connection: Connection) -> bool:
    """Answer rightly, in deflate."""
    return await _encoded(connection, "deflate", zlib.compress(DOCUMENT))


async def truncgzip(_request: Request, connection: Connection) -> bool:
    """Answer with the first half of a gzip stream, its length rightly declared."""
    packed = gzip.compress(DOCUMENT)
    return await _encoded(connection, "gzip", packed[: len(packed) // 2])


async def badgzip(_request: Request, connection: Connection) -> bool:
    """Call junk gzip."""
    return await _encoded(connection, "gzip", JUNK)


async def etag(request: Request, connection: Connection) -> bool:
    """Answer with validators, the argument being the ETag, and with 304 to who has them already."""
    tag = f'"{"/".join(request.arguments) or "1"}"'
    validators = (("ETag", tag), ("Last-Modified", LAST_MODIFIED))
    known = tag in request.header("if-none-match")
    return await connection.reply(304 if known else 200, b"" if known else DOCUMENT, *validators)


async def noread(request: Request, connection: Connection) -> bool:
    """Read nothing after the request's head, for 30 or so many seconds, then reset.

    The client's own kernel takes some 4 MB before its writes stall. A client that leaves cannot be noticed meanwhile:
    its farewell waits behind the body that is not read.
    """
    raw = connection.writer.get_extra_info("socket")
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.writer.transport.pause_reading()
    await asyncio.sleep(request.number(30.0))
    return await rst(request, connection)


MODES: Final[Mapping[str, Handler]] = {
    **demo.MODES,
    "lat": demo.slow,
    "hangbody": hangbody,
    "driphdr": driphdr,
    "1xx": informational,
    "infchunk": demo.flood,
    "hdrbomb": hdrbomb,
    "floodhdr": floodhdr,
    "redir": redir,
    "slowredir": slowredir,
    "redirbig": redirbig,
    "redirdrip": redirdrip,
    "loc": loc,
    "locstatus": locstatus,
    "bomb": bomb,
    "big": big,
    "short": short,
    "extra": extra,
    "twocl": twocl,
    "hugecl": hugecl,
    "rst": rst,
    "close": close,
    "once": once,
    "cookie": cookie,
    "charset": charset,
    "retryafter": retryafter,
    "status": status,
    "echo": echo,
    "stats": stats,
    "gzipok": gzipok,
    "deflateok": deflateok,
    "truncgzip": truncgzip,
    "badgzip": badgzip,
    "etag": etag,
    "noread": noread,
}
