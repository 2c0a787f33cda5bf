"""Results as files: whole or not at all, never elsewhere, never mixed."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import json
import os
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from fetchd.body import Body
from fetchd.errors import SinkError
from fetchd.run import Delivery
from fetchd.sinks.content import json_of, text_of
from fetchd.sinks.file import PIECE, FileSink
from tests.processes import descriptors, until
from tests.sinks.made import delivery, options, records, resources


def sink(out: Path, path: str, **values: str) -> FileSink:
    """Return a file sink in ``out``."""
    return FileSink(options("file", path=path, **values), resources(out))


class TestOptions:
    """What can be said before anything is delivered."""

    @pytest.mark.parametrize(
        ("path", "message"),
        [
            ("", "name a file"),
            ("a\0b", "name a file"),
            ("../x", "must not leave"),
            ("a/../../x", "must not leave"),
            ("rates/", "names a folder"),
            ("rates/..", "names a folder"),
            ("/data/.", "names a folder"),
            ("~/x", "is not expanded"),
            ("{host}.json", r"unknown placeholder \{host\}; known are \{job\}, \{date\}, \{run\}"),
            ("{job.json", "a brace stands alone"),
            ("{}.json", r"unknown placeholder \{\}"),
        ],
    )
    def test_an_unsound_path_is_a_finding(self, path: str, message: str) -> None:
        """It is told at the check, not at the first delivery."""
        with pytest.raises(ValidationError, match=message):
            options("file", path=path)

    @pytest.mark.parametrize("path", ["x", "a/b/c.json", "a/../b", "/data/x", "{job}/{date}/{run}.json", "..x"])
    def test_sound_paths_are_taken(self, path: str) -> None:
        """Absolute ones as well: the operator knows."""
        assert options("file", path=path).path == path

    @pytest.mark.parametrize("permissions", ["0640", "640"])
    def test_permissions_are_octal(self, permissions: str) -> None:
        """As chmod reads them."""
        assert options("file", path="x", permissions=permissions).permissions == permissions
        for wrong in ("0o640", "rw", "9", "01640"):
            with pytest.raises(ValidationError):
                options("file", path="x", permissions=wrong)


class TestReplace:
    """The newest result under one name."""

    async def test_what_a_killed_process_has_left_is_removed(self, tmp_path: Path) -> None:
        """Each kill may leave a whole result behind; what is written at the moment, or is not ours, stays."""
        left, young, taken, foreign = (
            tmp_path / name for name in [f".fetchd-{digit * 16}.tmp" for digit in "abc"] + [".fetchd-mine.tmp"]
        )
        for path in (left, taken, foreign):
            path.touch()
            os.utime(path, (0, time.time() - 1))
        target = sink(tmp_path, "rates.json")
        young.touch()
        os.utime(young, (0, time.time()))
        with taken.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            await target.deliver(delivery(b"new"))
        assert {path.name for path in tmp_path.iterdir()} == {"rates.json", young.name, taken.name, foreign.name}
        await target.deliver(delivery(b"newer"))
        assert taken.exists()  # a folder of thousands is not searched for each delivery

    async def test_the_folder_of_a_delivery_is_looked_at(self, tmp_path: Path) -> None:
        """A killed process was at a delivery of yesterday, which is still owed: nothing stays in that day's folder."""
        folders = [tmp_path / day for day in ("2026-03-01", "2026-03-02")]
        for folder in folders:
            folder.mkdir()
            (folder / f".fetchd-{'a' * 16}.tmp").touch()
            os.utime(folder / f".fetchd-{'a' * 16}.tmp", (0, time.time() - 1))
        target, given = sink(tmp_path, "{date}/x"), delivery()
        for later in (0, 1):
            await target.deliver(replace(given, slot=given.slot + timedelta(days=later)))
        assert [[path.name for path in folder.iterdir()] for folder in folders] == [["x"], ["x"]]

    async def test_what_is_written_is_locked(self, tmp_path: Path) -> None:
        """Another daemon that begins meanwhile must not take it for something left behind."""
        os.mkfifo(tmp_path / "slow")
        writing = asyncio.create_task(sink(tmp_path, "x").deliver(delivery(tmp_path / "slow")))
        await until(lambda: list(tmp_path.glob(".fetchd-*")))
        with open(tmp_path / "slow", "wb") as writer:
            writer.write(b"new")
            (path,) = tmp_path.glob(".fetchd-*")
            with path.open("rb") as file, pytest.raises(BlockingIOError):
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        await writing
        assert (tmp_path / "x").read_bytes() == b"new"

    async def test_leftovers_that_cannot_be_removed_stop_nothing(self, tmp_path: Path) -> None:
        """The result counts."""
        (tmp_path / f".fetchd-{'a' * 16}.tmp").mkdir()
        os.utime(tmp_path / f".fetchd-{'a' * 16}.tmp", (0, 0))
        await sink(tmp_path, "rates.json").deliver(delivery(b"new"))
        assert (tmp_path / "rates.json").read_bytes() == b"new"

    async def test_the_newest_result_is_there(self, tmp_path: Path) -> None:
        """Folders are made, and nothing else is left beside the file."""
        target = sink(tmp_path, "{job}/{date}/{run}.json")
        await target.deliver(delivery(b"old"))
        await target.deliver(delivery(b"new"))
        assert (tmp_path / "rates/2026-03-01/r1.json").read_bytes() == b"new"
        assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["r1.json"]

    async def test_a_spooled_body_is_copied(self, tmp_path: Path) -> None:
        """It must not be taken away: other sinks come after."""
        spooled = tmp_path / "spooled"
        spooled.write_bytes(b"x" * 3_000_000)
        await sink(tmp_path, "x").deliver(delivery(spooled))
        assert (tmp_path / "x").read_bytes() == spooled.read_bytes()

    async def test_permissions_are_given_or_kept(self, tmp_path: Path) -> None:
        """A file that the operator has closed to others must not open with the next result."""
        path = tmp_path / "x"
        await sink(tmp_path, "x").deliver(delivery())
        path.chmod(0o604)
        await sink(tmp_path, "x").deliver(delivery())
        assert path.stat().st_mode & 0o777 == 0o604
        await sink(tmp_path, "x", permissions="0640").deliver(delivery())
        assert path.stat().st_mode & 0o777 == 0o640

    async def test_a_link_within_the_folder_is_followed(self, tmp_path: Path) -> None:
        """The link stays one; what it leads to is replaced."""
        (tmp_path / "real").mkdir()
        (tmp_path / "x").symlink_to("real/x")
        await sink(tmp_path, "x").deliver(delivery(b"new"))
        assert (tmp_path / "x").is_symlink()
        assert (tmp_path / "real/x").read_bytes() == b"new"

    async def test_what_is_no_file_is_left_alone(self, tmp_path: Path) -> None:
        """A process that runs as root could otherwise replace a device."""
        (tmp_path / "folder").mkdir()
        os.mkfifo(tmp_path / "pipe")
        for path in (str(tmp_path / "folder"), str(tmp_path / "pipe"), "/dev/null"):
            with pytest.raises(SinkError, match="is not a file") as caught:
                await sink(tmp_path, path).deliver(delivery())
            assert caught.value.permanent

    async def test_a_delivery_that_was_given_up_does_not_come_after_a_newer_one(self, tmp_path: Path) -> None:
        """A disk that stalls past the deadline would put the old result over the new one when it wakes."""
        os.mkfifo(tmp_path / "slow")
        old = asyncio.create_task(sink(tmp_path, "x").deliver(delivery(tmp_path / "slow")))
        await until(lambda: list(tmp_path.glob(".fetchd-*")))
        old.cancel()
        await asyncio.wait({old})
        await sink(tmp_path, "x").deliver(delivery(b"new"))
        with open(tmp_path / "slow", "wb") as writer:
            writer.write(b"old")
        await until(lambda: not list(tmp_path.glob(".fetchd-*")))
        assert (tmp_path / "x").read_bytes() == b"new"


class TestAppend:
    """Each result as a line."""

    async def test_a_line_tells_the_whole_delivery(self, tmp_path: Path) -> None:
        """JSON Lines: what reads it needs no other source."""
        target = sink(tmp_path, "x.jsonl", mode="append")
        await target.deliver(delivery())
        await target.deliver(delivery(b"plain \xff\n", id="d2", content_type="text/plain", status=None))
        first, second = map(json.loads, (tmp_path / "x.jsonl").read_text().splitlines())
        assert first == {
            "delivery": "d1",
            "job": "rates",
            "run": "r1",
            "slot": "2026-03-02T00:30:00+01:00",
            "url": "https://upstream.test/v1/rates",
            "status": 200,
            "body": {"rate": 1.1},
        }
        assert (second["delivery"], second["status"], second["body"]) == ("d2", None, "plain \ufffd\n")

    async def test_many_writers_do_not_mix(self, tmp_path: Path) -> None:
        """Several jobs may share one file."""
        body = json.dumps("x" * 300_000).encode()
        sinks = [sink(tmp_path, "x.jsonl", mode="append") for _ in range(4)]
        await asyncio.gather(
            *(sinks[number % 4].deliver(delivery(body, id=f"d{number}")) for number in range(20)),
        )
        lines = (tmp_path / "x.jsonl").read_text().splitlines()
        assert sorted(json.loads(line)["delivery"] for line in lines) == sorted(f"d{number}" for number in range(20))

    async def test_a_line_that_was_cut_short_spoils_only_itself(self, tmp_path: Path) -> None:
        """A machine may lose its power in the middle of a line."""
        (tmp_path / "x.jsonl").write_bytes(b'{"torn')
        await sink(tmp_path, "x.jsonl", mode="append").deliver(delivery())
        torn, whole = (tmp_path / "x.jsonl").read_bytes().splitlines()
        assert torn == b'{"torn'
        assert json.loads(whole)["delivery"] == "d1"

    async def test_permissions_are_set(self, tmp_path: Path) -> None:
        """Whether the file was there before or not."""
        for _ in range(2):
            await sink(tmp_path, "x", mode="append", permissions="600").deliver(delivery())
            assert (tmp_path / "x").stat().st_mode & 0o777 == 0o600
            (tmp_path / "x").chmod(0o644)

    async def test_a_new_file_is_in_its_folder_on_the_disk(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Content without a name would be lost with the power."""
        synced: list[str] = []
        monkeypatch.setattr(os, "fsync", lambda fd: synced.append(os.readlink(f"/proc/self/fd/{fd}")))
        for _ in range(2):
            await sink(tmp_path, "x", mode="append").deliver(delivery())
        assert synced == [str(tmp_path / "x"), str(tmp_path), str(tmp_path / "x")]

    async def test_what_the_disk_did_not_take_is_written_again(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The lines can be read, but are on no disk: the kernel tells it once, and the next time all seems well."""
        target = sink(tmp_path, "x", mode="append")
        await target.deliver(delivery(id="d1"))
        before = (tmp_path / "x").read_bytes()

        def fail(_fd: int) -> None:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

        with monkeypatch.context() as failing:
            failing.setattr(os, "fsync", fail)
            with pytest.raises(SinkError, match="Input/output error"):
                await target.deliver(delivery(id="d2"))
        assert (tmp_path / "x").read_bytes() == before
        await target.deliver(replace(delivery(id="d2"), attempt=2))
        assert [json.loads(line)["delivery"] for line in (tmp_path / "x").read_text().splitlines()] == ["d1", "d2"]

    async def test_what_is_no_file_is_refused_at_once(self, tmp_path: Path) -> None:
        """Opening a pipe that nobody reads would hold a thread for ever."""
        os.mkfifo(tmp_path / "pipe")
        with pytest.raises(SinkError, match="is not a file") as caught:
            await sink(tmp_path, "pipe", mode="append").deliver(delivery())
        assert caught.value.permanent

    async def test_a_full_device_is_transient(self, tmp_path: Path) -> None:
        """Somebody will make room."""
        before = descriptors()
        with pytest.raises(SinkError, match="No space left on device") as caught:
            await sink(tmp_path, "/dev/full", mode="append").deliver(delivery())
        assert not caught.value.permanent
        assert descriptors() == before

    async def test_a_file_that_somebody_locks_is_transient(self, tmp_path: Path) -> None:
        """A lock that is never let go must not take one thread after the other."""
        target = FileSink(options("file", path="x", mode="append"), resources(tmp_path), lock_wait=0.02)
        with open(tmp_path / "x", "ab") as other:
            fcntl.flock(other, fcntl.LOCK_EX)
            with pytest.raises(SinkError, match="locked by another writer") as caught:
                await target.deliver(delivery())
        assert not caught.value.permanent

    async def test_a_delivery_that_was_given_up_is_not_written(self, tmp_path: Path) -> None:
        """It is still owed, and will come again."""
        with open(tmp_path / "x", "ab") as other:
            fcntl.flock(other, fcntl.LOCK_EX)
            with anyio.move_on_after(0.05):
                await sink(tmp_path, "x", mode="append").deliver(delivery())
        await sink(tmp_path, "x", mode="append").deliver(delivery(id="d2"))
        assert [json.loads(line)["delivery"] for line in (tmp_path / "x").read_text().splitlines()] == ["d2"]


class TestEscape:
    """A relative path stays where it belongs."""

    @pytest.mark.parametrize("mode", ["replace", "append"])
    async def test_links_do_not_lead_out(self, tmp_path: Path, mode: str) -> None:
        """Neither a folder's nor the file's own, and nothing is made on the way."""
        out, outside = tmp_path / "out", tmp_path / "outside"
        out.mkdir()
        outside.mkdir()
        (out / "folder").symlink_to(outside)
        (out / "file").symlink_to(outside / "file")
        for path in ("folder/x", "folder/new/x", "file"):
            with pytest.raises(SinkError, match="leads it out of") as caught:
                await sink(out, path, mode=mode).deliver(delivery())
            assert caught.value.permanent
        assert list(outside.iterdir()) == []

    async def test_an_absolute_path_is_the_operators_word(self, tmp_path: Path) -> None:
        """It may be anywhere."""
        await sink(tmp_path / "out", str(tmp_path / "elsewhere/x")).deliver(delivery(b"x"))
        assert (tmp_path / "elsewhere/x").read_bytes() == b"x"


async def test_an_unwritable_folder_is_transient(tmp_path: Path) -> None:
    """A folder can be put right, and the result is still owed."""
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(SinkError, match="file/x: ") as caught:
        await sink(tmp_path, "file/x").deliver(delivery())
    assert not caught.value.permanent


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Mount a file system of 64 KiB; only root can."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if (
        os.geteuid() != 0
        or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", folder], capture_output=True).returncode
    ):
        pytest.skip("mounting takes root")
    yield folder
    subprocess.run(["umount", folder], check=True)


@pytest.mark.parametrize("mode", ["replace", "append"])
async def test_a_full_disk_leaves_everything_as_it_was(small_disk: Path, mode: str) -> None:
    """The last good result must not be lost to one that does not fit."""
    target = sink(small_disk, "x", mode=mode)
    await target.deliver(delivery(b'"good"'))
    before = (small_disk / "x").read_bytes()
    with pytest.raises(SinkError, match="No space left on device") as caught:
        await target.deliver(delivery(b"x" * 100_000))
    assert not caught.value.permanent
    assert (small_disk / "x").read_bytes() == before
    assert [path.name for path in small_disk.iterdir()] == ["x"]
    await target.deliver(delivery(b'"next"'))
    assert b"next" in (small_disk / "x").read_bytes()


class TestContent:
    """What a body is."""

    @given(
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
            lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        )
    )
    def test_json_stays_what_it_is_on_one_line(self, value: object) -> None:
        """However it was laid out."""
        for laid_out in (json.dumps(value), json.dumps(value, indent=2, ensure_ascii=False)):
            found = json_of(laid_out.encode(), "application/json; charset=utf-8")
            assert found is not None
            assert "\n" not in found
            assert json.loads(found) == value

    def test_numbers_keep_their_digits(self) -> None:
        """A price must not become a binary fraction, nor an id be rounded."""
        text = "[1.10,12345678901234567890123,1e999]"
        assert json_of(text.encode(), "application/vnd.x+json") == text

    @pytest.mark.parametrize(
        "content", [b"{", b"", b"NaN", b"[Infinity]", b"\xff", b"[" * 100_000, b'"a\nb"', b"1 2", b"\xef\xbb\xbf1"]
    )
    def test_what_is_not_json_is_none(self, content: bytes) -> None:
        """A line that holds it would break every reader."""
        assert json_of(content, "application/json") is None

    def test_the_type_has_a_say(self) -> None:
        """A text that happens to be JSON is a text."""
        assert json_of(b"1", "text/plain") is None
        assert text_of(b"1", "text/plain; charset=punycode") == "1"
        assert text_of(b"1", "application/octet-stream") is None
        assert text_of(b"1", "") is None
        assert text_of(b"\xff", "text/plain") is None
        assert text_of(b"<a/>", "application/atom+xml") == "<a/>"


class TestAgain:
    """Lines of deliveries that may have been tried before: each is there once."""

    @staticmethod
    def lane(
        number: int, content: bytes = b"1", *, attempt: int = 2, sink: str = "file", job: str = "rates"
    ) -> Delivery:
        """Return the delivery of a Run to one of its sinks."""
        run = f"{number:05}"
        made = delivery(content, id=f"{run}-{sink}", job=job)
        return replace(made, run=run, sink=sink, attempt=attempt)

    @staticmethod
    def written(out: Path) -> list[str]:
        """Return whose lines the file holds."""
        return [json.loads(line)["delivery"] for line in (out / "log").read_text().splitlines()]

    async def test_what_is_there_is_not_written_again(self, tmp_path: Path) -> None:
        """The process was killed between writing and saying so."""
        target = sink(tmp_path, "log", mode="append")
        for number in (1, 2, 3):
            await target.deliver(self.lane(number, attempt=1))
        for number in (3, 2):
            await target.deliver(self.lane(number))
        await target.deliver(self.lane(4))
        assert self.written(tmp_path) == ["00001-file", "00002-file", "00003-file", "00004-file"]

    async def test_a_first_try_is_not_looked_for(self, tmp_path: Path) -> None:
        """It cannot be there, and the file may be large."""
        target = sink(tmp_path, "log", mode="append")
        for _ in range(2):
            await target.deliver(self.lane(1, attempt=1))
        assert self.written(tmp_path) == ["00001-file", "00001-file"]

    async def test_a_line_that_a_kill_has_cut_short_is_written_on(self, tmp_path: Path) -> None:
        """Wherever it was cut: nobody who reads the file finds half of a line, and whoever follows it nothing twice."""
        target = sink(tmp_path, "log", mode="append")
        await target.deliver(self.lane(1, attempt=1))
        start = (tmp_path / "log").stat().st_size
        await target.deliver(self.lane(2, '{"a": {"é": 1}}'.encode(), attempt=1))
        whole = (tmp_path / "log").read_bytes()
        for end in range(start, len(whole)):
            (tmp_path / "log").write_bytes(whole[:end])
            await target.deliver(self.lane(2, '{"a": {"é": 1}}'.encode()))
            assert (tmp_path / "log").read_bytes() == whole, end

    async def test_what_others_have_cut_short_or_written_behind_it_stays(self, tmp_path: Path) -> None:
        """The line is written whole, on a line of its own: nothing that stands in a file is ever taken out of it."""
        target = sink(tmp_path, "log", mode="append")
        await target.deliver(self.lane(1, b'{"a": {"b": 1}}', attempt=1))
        whole = (tmp_path / "log").read_bytes()
        other = whole.replace(b"00001", b"00002")
        long = whole[:-2] + b" " * len(whole)
        for before in (whole[:-3] + b"\n" + other, other[:-3], other[:-1], b'{"x', b"x" * len(whole), long):
            (tmp_path / "log").write_bytes(before)
            await target.deliver(self.lane(1, b'{"a": {"b": 1}}'))
            assert (tmp_path / "log").read_bytes() == before.rstrip(b"\n") + b"\n" + whole

    @pytest.mark.parametrize("size", [PIECE - 300, PIECE - 100, PIECE - 1, PIECE, 3 * PIECE])
    async def test_it_is_found_wherever_it_stands(self, tmp_path: Path, size: int) -> None:
        """Lines of others lie behind it, and it may stand across the pieces that are read."""
        target = sink(tmp_path, "log", mode="append")
        await target.deliver(self.lane(1, b'"x"', attempt=1))
        for step in range(0, 400, 25):
            (tmp_path / "log").write_bytes((tmp_path / "log").read_bytes().splitlines(keepends=True)[0])
            await target.deliver(self.lane(7, b'"%b"' % (b"y" * (size - step)), attempt=1, job="other"))
            await target.deliver(self.lane(1, b'"x"'))
            assert (tmp_path / "log").read_bytes().count(b"\n") == 2, step

    async def test_other_lanes_say_nothing(self, tmp_path: Path) -> None:
        """Several jobs and sinks may write to one file, each in an order of its own."""
        target = sink(tmp_path, "log", mode="append")
        filler = self.lane(9, b'"%b"' % (b"y" * PIECE), attempt=1, job="other")
        for line in (self.lane(2, attempt=1), filler, self.lane(1, attempt=1, sink="archive"), filler, self.lane(2)):
            await target.deliver(line)
        assert self.written(tmp_path).count("00002-file") == 1

    async def test_a_further_page_is_no_older_one(self, tmp_path: Path) -> None:
        """The tenth page of a Run is not before its second: state restored from a backup delivers all of them again."""
        target = sink(tmp_path, "log", mode="append")
        lines = [
            replace(self.lane(1, b'"%b"' % (b"y" * PIECE)), run=f"00001.{page}", id=f"00001.{page}-file")
            for page in range(2, 12)
        ]
        for line in lines:
            await target.deliver(replace(line, attempt=1))
        for line in lines:
            await target.deliver(line)
        assert self.written(tmp_path) == [line.id for line in lines]

    async def test_an_older_line_of_the_lane_ends_the_search(self, tmp_path: Path) -> None:
        """A file of years is not read for each delivery.

        The price: behind a replayed line, and a mebibyte of others, what was written before the replay is not found.
        """
        target = sink(tmp_path, "log", mode="append")
        filler = self.lane(9, b'"%b"' % (b"y" * PIECE), attempt=1, job="other")
        for line in (self.lane(2, attempt=1), filler, self.lane(1, attempt=1), filler, self.lane(2)):
            await target.deliver(line)
        assert self.written(tmp_path).count("00002-file") == 2

    async def test_an_id_within_a_body_is_not_a_line(self, tmp_path: Path) -> None:
        """Whatever an upstream sends."""
        target = sink(tmp_path, "log", mode="append")
        await target.deliver(self.lane(1, b'{"delivery": "00002-file", "job": "rates"}', attempt=1))
        await target.deliver(self.lane(2))
        assert self.written(tmp_path) == ["00001-file", "00002-file"]

    async def test_a_device_has_no_lines(self) -> None:
        """It is written to, whatever was there."""
        await FileSink(options("file", path="/dev/null", mode="append"), resources(Path("/tmp"))).deliver(self.lane(1))


class TestRecords:
    """Each record as a line."""

    async def test_a_line_tells_its_record_and_its_delivery(self, tmp_path: Path) -> None:
        """As that of a whole result does; numbers keep every digit."""
        given = records({"id": 1}, "x")
        given.fetched.body.close()
        given = replace(given, fetched=replace(given.fetched, body=Body.of(b'{"p": 1.10}\n"x"\nno JSON\n\n')))
        await sink(tmp_path, "x.jsonl", mode="append").deliver(given)
        lines = (tmp_path / "x.jsonl").read_text().splitlines()
        assert '"body": {"p": 1.10}}' in lines[0]
        told = [json.loads(line) for line in lines]
        assert [(line["delivery"], line["record"], line["job"]) for line in told] == [
            ("d1", number, "rates") for number in (1, 2, 3)
        ]
        assert [line["body"] for line in told[1:]] == ["x", "no JSON"]

    async def test_replaced_files_hold_the_lines_alone(self, tmp_path: Path) -> None:
        """JSON Lines, as every program reads them."""
        await sink(tmp_path, "x.jsonl").deliver(records(1, 2))
        assert (tmp_path / "x.jsonl").read_bytes() == b"1\n2\n"

    async def test_records_that_are_there_are_not_written_again(self, tmp_path: Path) -> None:
        """Wherever a kill has cut the delivery off, it goes on from there."""
        target = sink(tmp_path, "log", mode="append")
        first, second = (replace(records(1, 2, 3, id=f"{number:05}-target"), run=f"{number:05}") for number in (1, 2))
        await target.deliver(first)
        start = (tmp_path / "log").stat().st_size
        await target.deliver(second)
        whole = (tmp_path / "log").read_bytes()
        for again in (second, first):
            await target.deliver(replace(again, attempt=2))
            assert (tmp_path / "log").read_bytes() == whole
        for end in range(start, len(whole)):
            (tmp_path / "log").write_bytes(whole[:end])
            await target.deliver(replace(second, attempt=2))
            assert (tmp_path / "log").read_bytes() == whole, end

    async def test_what_follows_a_line_that_others_have_cut_off_is_written_again(self, tmp_path: Path) -> None:
        """Another job was the first to write after the kill."""
        target = sink(tmp_path, "log", mode="append")
        given = replace(records(1, 2, 3, id="00001-target"), run="00001")
        await target.deliver(given)
        first, second, third = (tmp_path / "log").read_bytes().splitlines(keepends=True)
        before = first + second[:-9] + b"\n{}\n"
        (tmp_path / "log").write_bytes(before)
        await target.deliver(replace(given, attempt=2))
        assert (tmp_path / "log").read_bytes() == before + second + third

    async def test_many_small_records_are_written_in_pieces(self, tmp_path: Path) -> None:
        """Their lines are a hundred times longer than they are: all at once they would fill the memory."""
        count = PIECE // 50
        await sink(tmp_path, "log", mode="append").deliver(records(*range(count)))
        assert (tmp_path / "log").stat().st_size > 3 * PIECE
        with open(tmp_path / "log", "rb") as file:
            assert sum(1 for _ in file) == count


async def test_records_that_do_not_all_fit_leave_nothing(small_disk: Path) -> None:
    """Half of them would look like all of them."""
    target = sink(small_disk, "x", mode="append")
    await target.deliver(records(1))
    before = (small_disk / "x").read_bytes()
    with pytest.raises(SinkError, match="No space left on device"):
        await target.deliver(records(*range(1000)))
    assert (small_disk / "x").read_bytes() == before
