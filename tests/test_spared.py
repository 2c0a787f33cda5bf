"""What the daemon does without, so that it stays small: each is easily lost with another version of a library."""

from __future__ import annotations

import ctypes
import gc
import os
import ssl
import subprocess
import sys
import weakref
from collections.abc import Iterator
from pathlib import Path

import aiohttp.connector
import pytest

from fetchd.fetch.client import ClientOptions, open_transport
from fetchd.fetch.tls import sorted_folder
from fetchd.heap import give_back, settle
from tests.process.daemon import PATHS

CERTIFICATE = "-----BEGIN CERTIFICATE-----\n"

LOOK = """
import linecache, sys
from fetchd.cli.shared import sparing
with sparing():
    import fetchd.app, fetchd.web, fetchd.metrics.exposition
print(sorted({"rich", "pygments", "frozenlist._frozenlist"} & set(sys.modules)), len(linecache.cache))
import rich, frozenlist._frozenlist
"""


def test_what_is_not_needed_is_not_imported() -> None:
    """Neither what libraries draw with nor libstdc++; whoever asks for them later gets them all the same."""
    done = subprocess.run(
        [sys.executable, "-c", LOOK],
        env={**os.environ, "PYTHONPATH": PATHS},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("[] 0\n", "")


async def test_there_is_one_context_with_the_system_s_cas() -> None:
    """That which aiohttp makes for itself is let go of, and what takes its place trusts no less."""
    assert isinstance(aiohttp.connector._SSL_CONTEXT_VERIFIED, ssl.SSLContext)
    before = aiohttp.connector._SSL_CONTEXT_VERIFIED
    async with open_transport(ClientOptions()):
        now = aiohttp.connector._SSL_CONTEXT_VERIFIED
    assert now is not before
    assert (now.verify_mode, now.check_hostname) == (ssl.CERT_REQUIRED, True)


@pytest.mark.parametrize(
    ("hashed", "bundled", "other", "sorted_ones"),
    [
        (2, 2, False, True),
        (3, None, False, True),
        (1, 2, False, False),
        (0, 2, False, False),
        (0, None, False, False),
        (2, 2, True, False),
    ],
)
def test_whether_cas_are_looked_up_one_by_one(
    hashed: int, bundled: int | None, other: bool, sorted_ones: bool, tmp_path: Path
) -> None:
    """A folder with some of them only, or a file that somebody has set, must not cost anybody's trust."""
    folder, bundle, set_by_user = tmp_path / "certs", tmp_path / "bundle.pem", tmp_path / "own.pem"
    folder.mkdir()
    for number in range(hashed):
        (folder / f"0000000{number}.0").touch()
    (folder / "readme.txt").touch()
    if bundled is not None:
        for file in (bundle, set_by_user):
            file.write_text(CERTIFICATE * bundled)
    cafile = None if bundled is None else str(set_by_user if other else bundle)
    paths = ssl.DefaultVerifyPaths(cafile, str(folder), "SSL_CERT_FILE", str(bundle), "SSL_CERT_DIR", str(folder))
    assert sorted_folder(paths) == (str(folder) if sorted_ones else None)


def test_free_memory_goes_back() -> None:
    """Without it, what lies below one small thing that is still in use is kept for ever."""
    if "glibc" not in os.confstr("CS_GNU_LIBC_VERSION").lower():  # type: ignore[union-attr]
        pytest.skip("only glibc gives memory back when it is asked to")
    bodies = [bytes(100_000) for _ in range(400)]
    bodies[:] = bodies[::40]
    before = _resident()
    give_back()
    assert before - _resident() > 20 * 2**20
    assert bodies


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


ARENAS = """
import ctypes, sys, threading
from fetchd.heap import few_arenas
if sys.argv[1] == "few":
    few_arenas()
barrier = threading.Barrier(7)
def take():
    kept = bytearray(50_000)
    barrier.wait()
threads = [threading.Thread(target=take) for _ in range(6)]
for thread in threads:
    thread.start()
barrier.wait()
ctypes.CDLL(None).malloc_stats()
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_stats"), reason="the C library is not glibc")
@pytest.mark.parametrize(("wanted", "few"), [("few", True), ("many", False)])
def test_threads_share_their_heaps(wanted: str, few: bool) -> None:
    """Each heap keeps the most that a thread of it ever needed; six threads would else have six."""
    done = subprocess.run(
        [sys.executable, "-c", ARENAS, wanted],
        env={**os.environ, "PYTHONPATH": PATHS},
        capture_output=True,
        text=True,
        check=True,
    )
    arenas = len([line for line in done.stderr.splitlines() if line.startswith("Arena")])
    assert (arenas <= 2) is few


class Knot:
    """Something that refers to itself."""

    def __init__(self) -> None:
        self.itself = self


@pytest.fixture
def unsettled() -> Iterator[None]:
    """Leave the other tests' process as it was."""
    yield
    gc.unfreeze()


@pytest.mark.usefixtures("unsettled")
def test_what_lasts_is_not_looked_through() -> None:
    """A search for cycles with many jobs would hold the loop; what a reload has replaced goes all the same."""
    lasting, replaced = Knot(), Knot()
    gone = weakref.ref(replaced)
    settle()
    assert not any(one is lasting for one in gc.get_objects())
    del replaced
    gc.collect()
    assert gone() is not None
    settle()
    assert gone() is None
    assert lasting.itself is lasting
