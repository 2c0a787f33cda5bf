"""Results as files: the newest under one name, or each as a line, and each of its records as one, at the end."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import re
import secrets
import shutil
import stat
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Annotated, Final, Literal

import structlog
from pydantic import AfterValidator, Field

from fetchd.body import on_disk
from fetchd.errors import SinkError
from fetchd.job import SinkOptions
from fetchd.run import Delivery, order_of
from fetchd.sinks import Resources
from fetchd.sinks.content import is_records, json_of, records_of
from fetchd.sinks.paths import fill, locate, path_with

log = structlog.get_logger()

PIECE: Final = 2**20

LOCK_WAIT: Final = 2.0
"""Seconds to wait for another writer of the same file."""

_TEMPORARY: Final = re.compile(r"\.fetchd-[0-9a-f]{16}\.tmp")
_LOCK_POLL: Final = 0.005
_HEAD: Final = 512
"""Bytes that hold the start of a line, up to its Run."""


class FileOptions(SinkOptions):
    """A file with the newest result, or one with a line for each."""

    kind: Literal["file"]
    path: Annotated[str, AfterValidator(path_with("job", "date", "run"))]
    """Where to write; relative to the folder out in the state directory. May hold {job}, {run} and {date}, in UTC."""
    mode: Literal["replace", "append"] = "replace"
    """Whether a result takes the place of the last one, whole or not at all, or is a line at the end (JSON Lines).

    A result made of records is a line for each of them.
    """
    permissions: Annotated[str, Field(pattern=r"^0?[0-7]{3}$")] | None = None
    """The file's permissions, such as "0640"; without, those of the file that is replaced, or the process's default."""


class FileSink:
    """Writes files, off the loop. It opens nothing before a delivery."""

    def __init__(self, options: FileOptions, resources: Resources, *, lock_wait: float = LOCK_WAIT) -> None:
        self._path = options.path
        self._out = resources.out
        self._write = _append if options.mode == "append" else _replace
        self._mode = int(options.permissions, 8) if options.permissions else None
        self._lock_wait = lock_wait
        self._since = time.time()
        self._tidied: Path | None = None

    async def deliver(self, delivery: Delivery) -> None:
        """Write the result; it is on the disk when this returns.

        Raises:
            SinkError: permanent if the path leads to where nothing can be written; else it may help to wait.
        """
        path = fill(
            self._path,
            {"job": delivery.job, "date": f"{delivery.slot.astimezone(UTC):%Y-%m-%d}", "run": delivery.run},
        )
        attempt = _Attempt(delivery, self._mode, self._lock_wait)
        try:
            await on_disk(partial(self._carry_out, path, attempt))
        except OSError as error:
            raise SinkError(f"{path}: {error.strerror or error}") from None
        except BaseException:
            attempt.given_up = True
            raise

    async def aclose(self) -> None:
        """Nothing is held."""

    def _carry_out(self, path: str, attempt: _Attempt) -> None:
        target = locate(self._out, path)
        if self._tidied != target.parent:
            self._tidied = target.parent  # beforehand: one that takes long must not cost each delivery its deadline
            _tidy(target.parent, self._since)
        self._write(target, attempt)


class _Attempt:
    """A delivery on its way to the disk. One that was given up must not write after a newer one has."""

    def __init__(self, delivery: Delivery, mode: int | None, lock_wait: float) -> None:
        self.delivery = delivery
        self.mode = mode
        self.lock_wait = lock_wait
        self.given_up = False


def _replace(target: Path, attempt: _Attempt) -> None:
    """Put the body in the place of ``target``: whoever reads it sees the old one or the new one, whole."""
    mode = _mode_of(target) if attempt.mode is None else attempt.mode
    temporary = target.with_name(f".fetchd-{secrets.token_hex(8)}.tmp")
    try:
        with open(temporary, "xb", opener=partial(os.open, mode=0o666 if mode is None else 0o600)) as file:
            with suppress(OSError):  # not each file system has locks; there, what is left behind stays
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if mode is not None:
                os.fchmod(file.fileno(), mode)
            with attempt.delivery.fetched.body.open() as body:
                shutil.copyfileobj(body, file, PIECE)
            file.flush()
            os.fsync(file.fileno())
        if not attempt.given_up:
            os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)
    _sync_folder(target.parent)


def _tidy(folder: Path, since: float) -> None:
    """Remove what killed processes have left in ``folder``; whatever goes wrong, the delivery is worth more.

    What was begun ``since`` then is this process's own. Of what is older, others hold a lock while they write it.
    """
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if _TEMPORARY.fullmatch(entry.name) and _is_left(entry, since):
                    Path(entry).unlink(missing_ok=True)
    except OSError as error:
        log.warning("temporary_files_left", folder=str(folder), error=error.strerror)


def _is_left(entry: os.DirEntry[str], since: float) -> bool:
    try:
        status = entry.stat(follow_symlinks=False)
        if not stat.S_ISREG(status.st_mode) or status.st_mtime >= since:
            return False
        with open(entry, "rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, FileNotFoundError):  # its writer is at it, or has just finished
        return False
    return True


def _append(target: Path, attempt: _Attempt) -> None:
    """Add the lines of a delivery to ``target``; those that do not all fit leave nothing behind.

    What may have been tried before is looked for first: whoever did may have been killed between writing and saying so.
    """
    lines = _lines(attempt.delivery)
    if not is_records(attempt.delivery.fetched.content_type):
        lines = iter(list(lines))  # made before the file is locked
    flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK
    descriptor = os.open(target, flags, 0o666 if attempt.mode is None else attempt.mode)
    try:
        status = os.fstat(descriptor)
        regular = stat.S_ISREG(status.st_mode)
        if not regular and not stat.S_ISCHR(status.st_mode):
            raise SinkError(f"{target} is not a file", permanent=True)
        if regular and attempt.mode is not None and stat.S_IMODE(status.st_mode) != attempt.mode:
            os.fchmod(descriptor, attempt.mode)
        with _locked(descriptor, target, attempt):
            _write_lines(descriptor, _in_pieces(_missing(descriptor, lines, attempt) if regular else lines), attempt)
        if regular and not status.st_size:
            _sync_folder(target.parent)
    finally:
        os.close(descriptor)


def _missing(descriptor: int, lines: Iterator[bytes], attempt: _Attempt) -> Iterator[bytes]:
    """Yield what has to be added to the file for it to end with ``lines``, each of them once.

    A kill stops a write between two pages: whole lines stand there then, and the beginning of one. Nothing is taken
    back of it, as whoever follows the file may have read it: the line is written on where it ends.
    """
    if attempt.delivery.attempt > 1:
        lines = islice(lines, _written(descriptor, attempt), None)
    for first in lines:
        yield _from_its_end(descriptor, first)
        yield from lines


def _from_its_end(descriptor: int, line: bytes) -> bytes:
    """Return ``line``, without what of it ends the file already; on a line of its own if something else does."""
    size = os.fstat(descriptor).st_size
    if not size or os.pread(descriptor, 1, size - 1) == b"\n":
        return line
    begun = os.pread(descriptor, len(line), max(0, size - len(line))).rpartition(b"\n")[2]
    return line[len(begun) :] if line.startswith(begun) else b"\n" + line


def _write_lines(descriptor: int, pieces: Iterable[bytes], attempt: _Attempt) -> None:
    status = os.fstat(descriptor)
    regular = stat.S_ISREG(status.st_mode)
    try:
        for piece in pieces:
            if attempt.given_up:
                raise SinkError("given up")
            if os.write(descriptor, piece) < len(piece) and regular:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        if regular:
            os.fsync(descriptor)
    except BaseException:
        # Nor does what could not be synced stay: the kernel says so once, then forgets it. It has to be written anew.
        if regular:
            os.ftruncate(descriptor, status.st_size)
        raise


def _in_pieces(lines: Iterable[bytes]) -> Iterator[bytes]:
    """Yield whole lines, about a mebibyte at a time: small records make long lines."""
    piece = bytearray()
    for line in lines:
        piece += line
        if len(piece) >= PIECE:
            yield bytes(piece)
            piece.clear()
    if piece:
        yield bytes(piece)


def _written(descriptor: int, attempt: _Attempt) -> int:
    """Return how many of the delivery's lines the file holds whole: they were written in their order.

    It is read from its end, as far as the piece with an older line of the same lane: what is newer stands behind that.
    """
    delivery = attempt.delivery
    own = re.compile(rb'\n\{"delivery": %b, (?:"record": (\d+), )?' % re.escape(json.dumps(delivery.id).encode()))
    older = re.compile(
        rb'\n\{"delivery": "[^"]*%b", (?:"record": \d+, )?"job": %b, "run": "([0-9a-f.]{1,64})"'
        % (re.escape(f"-{delivery.sink}".encode()), re.escape(json.dumps(delivery.job).encode()))
    )
    end = os.fstat(descriptor).st_size
    while end > 0:
        if attempt.given_up:
            raise SinkError("given up")
        start = max(0, end - PIECE)
        # With the line end before it, and as much of what follows as the head of a line may take.
        piece = os.pread(descriptor, end - start + _HEAD, max(0, start - 1))
        piece = piece if start else b"\n" + piece
        for found in reversed(list(own.finditer(piece))):
            if _is_whole(descriptor, start + found.start()):
                return int(found[1] or 1)
        if any(order_of(found[1].decode()) < order_of(delivery.run) for found in older.finditer(piece)):
            return 0
        end = start
    return 0


def _is_whole(descriptor: int, start: int) -> bool:
    """Return whether a line was written to its end: one that was cut off has none, or is no JSON."""
    with open(descriptor, "rb", closefd=False) as file:
        file.seek(start)
        line = file.readline()
    try:
        json.loads(line)
    except ValueError:
        return False
    return line.endswith(b"\n")


@contextmanager
def _locked(descriptor: int, target: Path, attempt: _Attempt) -> Iterator[None]:
    """Hold the file against other writers, as long as they ask as well; never wait for ever in a shared thread."""
    end = time.monotonic() + attempt.lock_wait
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            if attempt.given_up or time.monotonic() > end:
                raise SinkError(f"{target} is locked by another writer") from None
            time.sleep(_LOCK_POLL)
    if attempt.given_up:
        raise SinkError(f"{target}: given up")
    yield  # the lock goes with the descriptor


def _lines(delivery: Delivery) -> Iterator[bytes]:
    """Yield the delivery as one line of JSON, or as one for each record, which are numbered from 1."""
    fetched = delivery.fetched
    with fetched.body.open() as file:
        if not is_records(fetched.content_type):
            yield _line(delivery, {}, file.read(), fetched.content_type)
            return
        for number, record in enumerate(records_of(file), start=1):
            yield _line(delivery, {"record": number}, record, "application/json")


def _line(delivery: Delivery, place: dict[str, int], content: bytes, content_type: str) -> bytes:
    """Return ``content`` with its delivery as one line of JSON; what is JSON itself stands in it as it came."""
    head = {
        "delivery": delivery.id,
        **place,
        "job": delivery.job,
        "run": delivery.run,
        "slot": delivery.slot.isoformat(),
        "url": delivery.fetched.url,
        "status": delivery.fetched.status,
    }
    body = json_of(content, content_type)
    if body is None:
        body = json.dumps(content.decode("utf-8", "replace"), ensure_ascii=False)
    return f'{json.dumps(head)[:-1]}, "body": {body}}}\n'.encode()


def _mode_of(target: Path) -> int | None:
    """Return the permissions of the file that will be replaced, None if there is none."""
    try:
        mode = target.stat().st_mode
    except FileNotFoundError:
        return None
    if not stat.S_ISREG(mode):
        raise SinkError(f"{target} is not a file", permanent=True)
    return stat.S_IMODE(mode)


def _sync_folder(folder: Path) -> None:
    """Write down that a name in ``folder`` has changed."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
