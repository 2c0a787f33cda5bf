"""Bounded decoding: a few bytes of a bomb never become more than one piece of output at a time."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import Final

PIECE: Final = 64 * 1024
ACCEPTED: Final = "gzip, deflate"
"""What is asked for. The decoders for br and zstd cannot be bounded with the standard library, so they are not."""


class NotDecodableError(Exception):
    """The bytes are not what the Content-Encoding says; the message says what is wrong."""


class Decoder:
    """Decodes a body piece by piece. One content encoding at most: nested ones serve nobody but attackers."""

    def __init__(self, content_encoding: str) -> None:
        """Choose the decoder.

        Raises:
            NotDecodableError: an encoding that was not asked for, or more than one.
        """
        names = [name for name in content_encoding.replace(" ", "").lower().split(",") if name not in {"", "identity"}]
        if len(names) > 1 or (names and names[0] not in {"gzip", "x-gzip", "deflate"}):
            raise NotDecodableError(f'Content-Encoding is "{content_encoding[:100]}", but {ACCEPTED} were offered')
        self._kind = names[0] if names else "identity"
        self._inflate = self._fresh()
        self._begun = False

    @property
    def identity(self) -> bool:
        """Whether the bytes pass as they are."""
        return self._kind == "identity"

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Yield what ``data`` decodes to, in pieces of at most 64 KiB.

        Raises:
            NotDecodableError: the data is corrupt.
        """
        if self.identity:
            if data:
                yield data
            return
        while data:
            try:
                piece = self._inflate.decompress(data, PIECE)
            except zlib.error as error:
                if self._raw_deflate():
                    continue
                raise NotDecodableError(f"corrupt {self._kind} data: {error}") from None
            self._begun = True
            if piece:
                yield piece
            data = self._inflate.unconsumed_tail
            if self._inflate.eof:
                data = self._next_member()

    def finish(self) -> None:
        """Say that there is no more data.

        Raises:
            NotDecodableError: the data ends in the middle.
        """
        if not self.identity and self._begun and not self._inflate.eof:
            raise NotDecodableError(f"the {self._kind} data ends in the middle")

    def _fresh(self) -> zlib._Decompress:
        return zlib.decompressobj(zlib.MAX_WBITS if self._kind == "deflate" else zlib.MAX_WBITS | 16)

    def _raw_deflate(self) -> bool:
        """Go over to deflate without the zlib header, which some servers send; only where nothing was decoded yet."""
        if self._kind != "deflate" or self._begun:
            return False
        self._begun = True
        self._inflate = zlib.decompressobj(-zlib.MAX_WBITS)
        return True

    def _next_member(self) -> bytes:
        """Return what follows a finished gzip member: the next one (RFC 1952, 2.2), or nothing but padding."""
        rest = self._inflate.unused_data.lstrip(b"\0")
        if not rest:
            return b""
        if self._kind == "deflate":
            raise NotDecodableError("data after the end of the deflate stream")
        self._inflate = self._fresh()
        return rest
