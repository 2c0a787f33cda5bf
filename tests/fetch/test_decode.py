"""The decoder alone: right for every stream however it is cut up, and never more than a piece at a time."""

from __future__ import annotations

import contextlib
import gzip
import time
import tracemalloc
import zlib
from collections.abc import Callable, Iterator

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fetchd.fetch.decode import PIECE, Decoder, NotDecodableError


def raw_deflate(data: bytes) -> bytes:
    """Return ``data`` deflated without zlib's header, as some servers send it."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    return packer.compress(data) + packer.flush()


PACKED: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "gzip": ("gzip", gzip.compress),
    "x-gzip": ("X-GZip", gzip.compress),
    "zlib": ("deflate", zlib.compress),
    "raw deflate": ("deflate", raw_deflate),
    "members": ("gzip", lambda data: b"".join(gzip.compress(data[at : at + 1000]) for at in range(0, len(data), 1000))),
    "padded": ("gzip", lambda data: gzip.compress(data) + bytes(1500)),
    "identity": ("identity", bytes),
    "nothing": ("", bytes),
}


def decoded(encoding: str, chunks: Iterator[bytes]) -> bytes:
    """Return what ``chunks`` decode to; no piece of it may be large."""
    decoder = Decoder(encoding)
    pieces = []
    for chunk in chunks:
        for piece in decoder.feed(chunk):
            assert len(piece) <= max(PIECE, len(chunk) if decoder.identity else 0)
            pieces.append(piece)
    decoder.finish()
    return b"".join(pieces)


def cut(data: bytes, size: int) -> Iterator[bytes]:
    """Yield ``data`` in chunks of ``size``."""
    return (data[at : at + size] for at in range(0, len(data), size))


@pytest.mark.parametrize("form", PACKED)
@given(data=st.binary(max_size=5000), repeat=st.integers(1, 40), size=st.sampled_from([1, 2, 3, 7, 100, 4096, 100_000]))
@example(data=b"", repeat=1, size=1)
@example(data=b"\0" * PIECE, repeat=1, size=100_000)
@example(data=b"\0" * PIECE, repeat=3, size=1)
def test_round_trip(form: str, data: bytes, repeat: int, size: int) -> None:
    """Whatever a well-behaved server sends, in whatever segments it comes, is what it packed."""
    encoding, pack = PACKED[form]
    whole = data * repeat
    assert decoded(encoding, cut(pack(whole), size)) == whole


@pytest.mark.parametrize("form", PACKED)
def test_round_trip_around_a_piece(form: str) -> None:
    """At the end of its input zlib may hold output back: no body may lose it."""
    encoding, pack = PACKED[form]
    for size in range(PIECE - 300, PIECE + 300, 50):
        for pattern in (b"\0", b"ab"):
            whole = pattern * (size // len(pattern))
            assert decoded(encoding, iter([pack(whole)])) == whole


@pytest.mark.parametrize("form", ["gzip", "zlib", "raw deflate"])
@given(data=st.binary(min_size=1, max_size=500), keep=st.floats(0, 1, exclude_max=True), size=st.integers(1, 50))
def test_cut_off(form: str, data: bytes, keep: float, size: int) -> None:
    """A stream that ends in the middle is never taken for a whole one."""
    encoding, pack = PACKED[form]
    packed = pack(data)
    part = packed[: max(1, int(len(packed) * keep))]
    with pytest.raises(NotDecodableError, match=r".+"):
        decoded(encoding, cut(part, size))


@given(
    data=st.binary(min_size=1, max_size=2000), encoding=st.sampled_from(["gzip", "deflate"]), size=st.integers(1, 50)
)
def test_junk(data: bytes, encoding: str, size: int) -> None:
    """Junk is this one error, or happens to decode; no other exception comes out of it."""
    with contextlib.suppress(NotDecodableError):
        decoded(encoding, cut(data, size))


@pytest.mark.parametrize("encoding", ["br", "zstd", "gzip, gzip", "gzip,deflate", "deflate, identity, gzip", "lzw"])
def test_refused(encoding: str) -> None:
    """What was not offered is refused, as soon as there is anything to decode."""
    decoder = Decoder(encoding)
    assert not decoder.identity
    decoder.finish()
    with pytest.raises(NotDecodableError, match="gzip, deflate were offered"):
        list(decoder.feed(b"x"))


def test_data_behind_deflate() -> None:
    """Only gzip knows members: bytes behind a deflate stream belong to nothing."""
    with pytest.raises(NotDecodableError, match="after the end"):
        decoded("deflate", iter([zlib.compress(b"hello") + b"more"]))


def test_memory_of_a_bomb() -> None:
    """A decoder holds one piece, not what a megabyte of zeros unpacks to."""
    packed = gzip.compress(bytes(200 * 2**20), compresslevel=1)
    decoder = Decoder("gzip")
    tracemalloc.start()
    total = sum(len(piece) for piece in decoder.feed(packed))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert total == 200 * 2**20
    assert peak < 8 * PIECE


def test_work_of_empty_members() -> None:
    """Members of nothing cost twenty bytes each: a chunk full of them must not stand in the loop's way."""
    chunk = gzip.compress(b"") * 13_000
    decoder = Decoder("gzip")
    start = time.thread_time()
    assert not list(decoder.feed(chunk))
    assert time.thread_time() - start < 0.2


def test_work_of_padding() -> None:
    """Zeros behind a member are skipped, not gathered."""
    decoder = Decoder("gzip")
    list(decoder.feed(gzip.compress(b"hello")))
    tracemalloc.start()
    for _ in range(500):
        assert not list(decoder.feed(bytes(2**14)))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    decoder.finish()
    assert peak < 2 * PIECE
