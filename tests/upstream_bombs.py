"""Zeros, packed: what the test upstream answers to blow up a reader that does not bound what it unpacks."""

from __future__ import annotations

import gzip
import struct
import zlib
from typing import Final

MEGABYTE: Final = 2**20
JUNK: Final = bytes(range(256)) * 4


def pack_zeros(encodings: str, megabytes: int) -> bytes:
    """Return so many megabytes of zeros in ``encodings``, such as "gzip+gzip", the first applied first.

    Of gzip and deflate at any place, and zstd in the first; what else is named yields junk.
    """
    first, *others = encodings.split("+")
    packed = _ZEROS.get(first, lambda _: JUNK)(megabytes)
    for encoding in others:
        packed = _PACK.get(encoding, lambda _: JUNK)(packed)
    return packed


def _deflated_zeros(megabytes: int) -> bytes:
    # After a full flush the compressor knows nothing of the past: each megabyte packs into the same bytes.
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    block = packer.compress(bytes(MEGABYTE)) + packer.flush(zlib.Z_FULL_FLUSH)
    return block * megabytes + packer.flush()


def _gzip_zeros(megabytes: int) -> bytes:
    crc = 0
    for _ in range(megabytes):
        crc = zlib.crc32(bytes(MEGABYTE), crc)
    trailer = struct.pack("<II", crc, megabytes * MEGABYTE % 2**32)
    return b"\x1f\x8b\x08\0\0\0\0\0\0\xff" + _deflated_zeros(megabytes) + trailer


def _zlib_zeros(megabytes: int) -> bytes:
    check = 1
    for _ in range(megabytes):
        check = zlib.adler32(bytes(MEGABYTE), check)
    return b"\x78\xda" + _deflated_zeros(megabytes) + struct.pack(">I", check)


def _zstd_zeros(megabytes: int) -> bytes:
    # RFC 8878: a frame with a window of 128 KiB, then blocks that say "128 KiB of the byte 0".
    repeat, last = ((2**17 << 3 | 1 << 1 | end).to_bytes(3, "little") + b"\0" for end in (0, 1))
    return b"\x28\xb5\x2f\xfd\x00\x38" + repeat * (megabytes * 8 - 1) + last


_ZEROS: Final = {"gzip": _gzip_zeros, "deflate": _zlib_zeros, "zstd": _zstd_zeros}
_PACK: Final = {"gzip": gzip.compress, "deflate": zlib.compress}
