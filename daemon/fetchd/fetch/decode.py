"""Bounded decoding: a few bytes of a bomb never become more than one piece of output at a time."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import Final

from fetchd.shorten import shortened

PIECE: Final = 64 * 1024
ACCEPTED: Final = "gzip, deflate"
"""What is asked for. The decoders for br and zstd cannot be bounded with the standard library, so they are not."""

_SLICE: Final = 4096
"""Encoded bytes taken at once: zlib copies what it leaves of them, after each piece and each of many tiny members."""


class NotDecodableError(Exception):
    """The bytes are not what the Content-Encoding says; the message says what is wrong."""


class Decoder:
    """Decodes a body piece by piece. One content encoding at most: nested ones serve nobody but attackers.

    An encoding that was not asked for is an error only once data comes: there may be none, as with HEAD.
    """

    def __init__(self, content_encoding: str) -> None:
        names = [name for name in content_encoding.replace(" ", "").lower().split(",") if name not in {"", "identity"}]
        self._declared = content_encoding
        self._kind = "identity" if not names else names[0].removeprefix("x-") if len(names) == 1 else "nested"
        self._inflate: zlib._Decompress | None = None
        self._head = b""
        self._ended = False

    @property
    def identity(self) -> bool:
        """Whether the bytes pass as they are."""
        return self._kind == "identity"

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Yield what ``data`` decodes to, in pieces of at most 64 KiB; what is not encoded passes as it is.

        Raises:
            NotDecodableError: the data is corrupt, or in an encoding that was not asked for.
        """
        if self.identity:
            yield data
            return
        if self._kind not in {"gzip", "deflate"}:
            raise NotDecodableError(
                f'Content-Encoding is "{shortened(self._declared, 100)}", but {ACCEPTED} were offered'
            )
        for start in range(0, len(data), _SLICE):
            yield from self._inflated(data[start : start + _SLICE])

    def finish(self) -> None:
        """Say that there is no more data.

        Raises:
            NotDecodableError: the data ends in the middle.
        """
        if self._inflate is not None or self._head:
            raise NotDecodableError(f"the {self._kind} data ends in the middle")

    def _inflated(self, data: bytes) -> Iterator[bytes]:
        more = False
        while data or more:
            if self._inflate is None:
                data = self._begin(data)
                continue
            try:
                piece = self._inflate.decompress(data, PIECE)
            except zlib.error as error:
                raise NotDecodableError(f"corrupt {self._kind} data: {error}") from None
            if piece:
                yield piece
            more = len(piece) == PIECE  # then zlib may hold output for which it needs no further input
            data = self._inflate.unconsumed_tail
            if self._inflate.eof:
                data, more = self._inflate.unused_data, False
                self._inflate, self._ended = None, True

    def _begin(self, data: bytes) -> bytes:
        """Begin to inflate ``data``, unless it is too short to tell how; return what there is to inflate."""
        if self._ended:  # what follows is another gzip member (RFC 1952, 2.2), or padding
            data = data.lstrip(b"\0")
            if data and self._kind == "deflate":
                raise NotDecodableError("data after the end of the deflate stream")
        if self._kind == "deflate":
            data, self._head = self._head + data, b""
            if len(data) < 2:
                self._head = data
                return b""
        if data:
            self._inflate = zlib.decompressobj(self._window(data))
        return data

    def _window(self, data: bytes) -> int:
        if self._kind == "gzip":
            return zlib.MAX_WBITS | 16
        # Some servers leave out zlib's header (RFC 1950, 2.2), whose first two bytes are a multiple of 31.
        has_header = data[0] & 0x0F == 8 and int.from_bytes(data[:2], "big") % 31 == 0
        return zlib.MAX_WBITS if has_header else -zlib.MAX_WBITS
