"""What another configuration changes, decided without I/O; and that it is put in force whole, or not at all."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from fetchd.config import Config, Daemon, Log
from fetchd.config.source import Source, Stamp
from fetchd.job import Job
from fetchd.reload.changes import Changes, Verdict, Why, compare
from fetchd.reload.files import SecretFiles
from fetchd.reload.force import Force
from fetchd.reload.reloader import Reloader
from fetchd.roster import Roster
from fetchd.secret import Redactor, Secret
from fetchd.systemd import Notifier
from fetchd.targets import Target
from tests.fakes import FakeSink
from tests.processes import until

DAEMON = Daemon(state_dir=Path("/nowhere"))
NOW = datetime(2026, 3, 1, tzinfo=UTC)
DEFINED = st.dictionaries(st.sampled_from("abcdef"), st.integers(0, 2))


def job(name: str, **keys: Any) -> Job:
    """Return a job."""
    return Job.model_validate({"name": name, "url": "http://upstream.test/", **keys})


def config(*jobs: Job, **tables: Any) -> Config:
    """Return a configuration of ``jobs``."""
    return Config(path=Path("c.toml"), **{"daemon": DAEMON, "jobs": {one.name: one for one in jobs}, **tables})


class TestCompare:
    """Before and after, as values."""

    def test_each_job_comes_changes_goes_or_stays(self) -> None:
        """One that stays is the very same value, so that nothing that was worked out for it is thrown away."""
        before = config(job("stays"), job("goes"), job("changes", retries=1))
        after = config(job("comes"), job("changes", retries=2), job("stays"))
        merged, changes = compare(before, after)
        assert changes == Changes(("comes",), ("changes",), ("goes",), 1)
        assert list(merged.jobs) == ["comes", "changes", "stays"]
        assert merged.jobs["stays"] is before.jobs["stays"]
        assert merged.jobs["changes"] is after.jobs["changes"]

    def test_a_secret_that_changed_changes_its_job(self) -> None:
        """Its name is the same in the file; what it opens is not."""
        before, after = (
            config(job("a", headers={"X-Api-Key": Secret(text, "file token")}), job("b")) for text in ("old", "new")
        )
        assert compare(before, after)[1].changed == ("a",)

    def test_what_the_process_is_built_from_stays_in_force(self) -> None:
        """It is named, not dropped in silence; the rest counts."""
        before = config(job("a"))
        daemon = DAEMON.model_copy(update={"max_workers": 9, "shutdown_grace": 1.0, "reload_on_change": True})
        after = config(job("a"), daemon=daemon, log=Log(level="debug", format="json"))
        merged, changes = compare(before, after)
        assert changes.restart_needed == ("daemon.max_workers", "log.format")
        assert (merged.daemon.max_workers, merged.daemon.shutdown_grace) == (DAEMON.max_workers, 1.0)
        assert (merged.daemon.reload_on_change, merged.log) == (True, Log(level="debug"))

    @given(DEFINED, DEFINED)
    def test_the_changes_lead_from_one_to_the_other(self, one: dict[str, int], other: dict[str, int]) -> None:
        """Whatever the two are: each job is in exactly one of the four groups."""
        before, after = (config(*(job(name, retries=count) for name, count in jobs.items())) for jobs in (one, other))
        merged, changes = compare(before, after)
        assert merged.jobs == after.jobs
        assert set(changes.added) == other.keys() - one.keys()
        assert set(changes.removed) == one.keys() - other.keys()
        assert set(changes.changed) == {name for name in one.keys() & other.keys() if one[name] != other[name]}
        assert changes.unchanged == len(other) - len(changes.added) - len(changes.changed)

    def test_a_verdict_in_words(self) -> None:
        """One line, however many jobs there are; findings as they are."""
        many = tuple(f"j{number}" for number in range(12))
        (line, restart) = Verdict(Why.VERB, 3, NOW, Changes(many, ("a",), (), 1, ("daemon.listen",))).lines()
        named = ", ".join(many[:10])
        assert line == f"configuration 3 is in force: added {named} and 2 more; changed a; 1 job unchanged"
        assert restart == "needs a restart to count: daemon.listen"
        assert list(Verdict(Why.FILE, 3, NOW, findings=("c.toml:1: x",)).lines()) == ["c.toml:1: x"]
        assert list(Verdict(Why.FILE, 3, NOW, error="broken").lines()) == ["nothing was changed: broken"]


class FakeTimetable:
    """Notes which jobs are armed; cannot arm one that is called ``bad``."""

    def __init__(self, jobs: Iterable[Job] = ()) -> None:
        self.jobs = {one.name: one for one in jobs}
        self.touched: list[str] = []

    def add(self, one: Job) -> None:
        """Arm a job."""
        if one.name == "bad":
            raise ValueError("it cannot be armed")
        assert one.name not in self.jobs
        self.jobs[one.name] = one
        self.touched.append(one.name)

    def replace(self, one: Job) -> None:
        """Arm another definition."""
        assert one.name in self.jobs
        self.jobs[one.name] = one
        self.touched.append(one.name)

    def remove(self, name: str) -> None:
        """Arm a job no longer."""
        del self.jobs[name]
        self.touched.append(name)


class Room:
    """What a configuration is put in force in."""

    def __init__(self, before: Config) -> None:
        self.before = before
        self.fails: set[str] = set()
        self.timetable = FakeTimetable(before.jobs.values())
        self.cancelled: list[str] = []
        self.closed: list[str] = []
        self.followed: list[Config] = []
        self.roster = Roster(self.open)
        for one in before.jobs.values():
            self.roster.put(self.roster.open(one))

    def open(self, one: Job) -> dict[str, Target]:
        """Open the sink of a job, which tells when it is closed."""
        if one.name in self.fails:
            raise OSError("its sink cannot be opened")
        sink, closed = FakeSink(), self.closed

        async def aclose() -> None:
            closed.append(f"{one.name} {one.retries}")

        sink.aclose = aclose  # type: ignore[method-assign]
        return {"sink": Target(sink, 1.0)}

    async def cancel(self, jobs: Iterable[str]) -> list[str]:
        """End Runs."""
        assert set(jobs).isdisjoint(self.timetable.jobs)
        assert set(jobs).isdisjoint(self.roster.jobs), "one that was started but has not begun would begin now"
        self.cancelled += jobs
        return []

    async def apply(self, after: Config) -> None:
        """Put ``after`` in force."""
        merged, changes = compare(self.before, after)
        force = Force(self.roster, self.timetable, self.cancel, [self.followed.append, self.refuse])
        await force.apply(self.before, merged, changes)
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    def refuse(self, other: Config) -> None:
        """Be unable to follow a configuration that has a job of a certain name."""
        if "unfollowed" in other.jobs:
            raise RuntimeError("it cannot be followed")


class TestForce:
    """Applying, and taking back."""

    async def test_what_changed_is_put_in_force(self) -> None:
        """The old sinks are closed, those of jobs that stay are not touched, and neither are their slots."""
        room = Room(config(job("stays"), job("goes"), job("changes", retries=1)))
        await room.apply(config(job("comes"), job("stays"), job("changes", retries=3)))
        assert room.timetable.jobs == room.roster.jobs
        assert set(room.roster.jobs) == {"comes", "stays", "changes"}
        assert "stays" not in room.timetable.touched
        assert room.cancelled == ["goes"]
        assert sorted(room.closed) == ["changes 1", "goes 2"]
        assert room.roster.jobs["stays"] is room.before.jobs["stays"]

    @pytest.mark.parametrize("where", ["opened", "armed", "followed"])
    async def test_what_fails_is_taken_back_whole(self, where: str) -> None:
        """Wherever it fails: all jobs are as they were, armed and open, and what was opened meanwhile is closed."""
        room = Room(config(job("stays"), job("goes"), job("changes", retries=1)))
        room.fails = {"unopened"}
        name = {"opened": "unopened", "armed": "bad", "followed": "unfollowed"}[where]
        after = config(job("comes"), job("stays"), job("changes", retries=3), job(name))
        with pytest.raises((OSError, ValueError, RuntimeError)):
            await room.apply(after)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert room.timetable.jobs == room.roster.jobs == room.before.jobs
        assert set(room.roster) == {"stays", "goes", "changes"}
        assert "changes 1" not in room.closed
        assert "changes 3" in room.closed
        assert room.followed[-1:] in ([], [room.before])
        if where == "opened":
            assert (room.cancelled, room.timetable.touched) == ([], [])


class FakeSecrets:
    """Files of secrets as a table: the text of each, None where it is gone; each change has another stamp."""

    def __init__(self, **texts: str) -> None:
        self.texts: dict[str, str | None] = {**texts}
        self.stamps = dict.fromkeys(texts, 1)

    def put(self, name: str, text: str | None) -> None:
        """Change a file."""
        self.texts[name] = text
        self.stamps[name] = self.stamps.get(name, 0) + 1

    def stamp(self, kind: str = "", name: str = "") -> Stamp | None:
        """Return the state of a file."""
        return None if self.texts[name] is None else (self.stamps[name],)

    def secret(self, kind: str, name: str) -> str | None:
        """Return the text of a file."""
        return self.texts[name] or None


class TestSecretFiles:
    """Which secrets have changed, from what their files look like at each look."""

    def test_a_change_counts_once_it_looks_the_same_twice(self) -> None:
        """Half a secret, which somebody is just writing, must not be sent."""
        secrets = FakeSecrets(a="old", b="same")
        files = SecretFiles(secrets)
        known = {("file", "a"): "old", ("file", "b"): "same"}
        assert not files.look(known).changed
        assert not files.look(known).changed
        secrets.put("a", "ne")
        assert not files.look(known).changed
        secrets.put("a", "new")
        assert not files.look(known).changed
        assert files.look(known).changed == {("file", "a")}
        assert not files.look({**known, ("file", "a"): "new"}).changed

    def test_a_change_before_the_first_look_is_found(self) -> None:
        """It compares values, not dates: between the start and the first look a file may have changed as well."""
        files = SecretFiles(FakeSecrets(a="new"))
        known = {("file", "a"): "old"}
        assert not files.look(known).changed
        assert files.look(known).changed == {("file", "a")}

    @pytest.mark.parametrize("gone", [None, ""])
    def test_one_that_is_gone_is_told_once(self, gone: str | None) -> None:
        """Missing or empty, it keeps its value; when it comes back the same, nothing has changed."""
        secrets = FakeSecrets(a="old")
        files = SecretFiles(secrets)
        known = {("file", "a"): "old"}
        files.look(known)
        files.look(known)
        for _ in range(2):
            secrets.put("a", gone)
            looks = [files.look(known) for _ in range(4)]
            assert [look.gone for look in looks if look.gone] == [{("file", "a")}]
            secrets.put("a", "old")
            looks += [files.look(known) for _ in range(3)]
            assert not any(look.changed for look in looks)

    def test_what_was_refused_is_offered_again_with_the_next_change(self) -> None:
        """Two secrets change, the second one late: the first must not be forgotten, nor be tried each second."""
        secrets = FakeSecrets(a="new", b="")
        files = SecretFiles(secrets)
        known = {("file", "a"): "old", ("file", "b"): "old"}
        files.look(known)
        look = files.look(known)
        assert (look.changed, look.gone) == ({("file", "a")}, {("file", "b")})
        files.refuse(look.changed)
        assert not any(files.look(known).changed for _ in range(3))
        secrets.put("b", "old")
        assert not files.look(known).changed
        assert files.look(known).changed == {("file", "a")}


TEXT = '[daemon]\nstate_dir = "state"\n'


async def test_reloads_come_one_after_the_other(tmp_path: Path) -> None:
    """Ten at once, each of another file: each has a verdict of its own, and what is in force is one of them."""
    path = tmp_path / "c.toml"
    path.write_text(f'{TEXT}[jobs.a]\nurl = "http://a.test/"\n')
    source = Source(path, {}, Redactor().learn)
    reading = source.read()
    room = Room(reading.config)
    told: list[Verdict] = []
    force = Force(room.roster, room.timetable, room.cancel)
    reloader = Reloader(source, reading, force, Notifier(None), [told.append])

    async def change(number: int) -> Verdict:
        path.write_text(f'{TEXT}[jobs.a]\nurl = "http://a.test/{number}"\n')
        return await reloader.reload(Why.VERB)

    with capture_logs():
        verdicts = await asyncio.gather(*(change(number) for number in range(10)))
    assert all(verdict.applied for verdict in verdicts)
    assert told == sorted(verdicts, key=told.index)
    assert reloader.config.jobs == room.roster.jobs == room.timetable.jobs
    assert reloader.generation == 2  # the last file was there before the first was read
    assert room.roster.jobs["a"].url is not None


async def test_a_reload_is_refused_once_the_daemon_stops(tmp_path: Path) -> None:
    """Nothing is armed that nobody would run any more."""
    path = tmp_path / "c.toml"
    path.write_text(f'{TEXT}[jobs.a]\nurl = "http://a.test/"\n')
    source = Source(path, {}, Redactor().learn)
    reading = source.read()
    room = Room(reading.config)
    told: list[Verdict] = []
    force = Force(room.roster, room.timetable, room.cancel)
    reloader = Reloader(source, reading, force, Notifier(None), [told.append])
    await reloader.close()
    path.write_text(f'{TEXT}[jobs.b]\nurl = "http://a.test/"\n')
    with capture_logs() as lines:
        verdict = await reloader.reload(Why.SIGNAL)
    assert (verdict.error, verdict.applied) == ("the daemon is stopping", False)
    assert [line["event"] for line in lines] == ["config_rejected"]
    assert told == [], "there is nothing wrong with the configuration that anybody should be woken for"
    assert list(room.roster.jobs) == ["a"]


async def test_secrets_of_a_new_configuration_are_known_before_it_counts(tmp_path: Path) -> None:
    """The first line that a new job causes may quote its token; the old one is still under way somewhere."""
    path, token = tmp_path / "c.toml", tmp_path / "token"
    token.write_text("canary-one")
    path.write_text(f'{TEXT}[jobs.a]\nurl = "http://a.test/"\nheaders = {{ X-Api-Key = {{ file = "token" }} }}\n')
    redact = Redactor()
    source = Source(path, {}, redact.learn)
    reading = source.read()
    room = Room(reading.config)
    seen: list[str] = []
    force = Force(room.roster, room.timetable, room.cancel, [lambda _: seen.append(redact("canary-one canary-two"))])
    reloader = Reloader(source, reading, force, Notifier(None))
    token.write_text("canary-two")
    path.write_text("the file is being edited")
    with capture_logs() as lines:
        verdict = await reloader.rotate()
    assert (verdict.changes.changed, verdict.generation) == (("a",), 2)
    assert seen == ["[redacted] [redacted]"]
    assert [line["event"] for line in lines] == ["secrets_rotated"]
    assert source.secrets(reloader.config) == {("file", "token"): "canary-two"}


async def test_a_module_that_hangs_does_not_hold_the_daemon(tmp_path: Path) -> None:
    """While a reload is read, whatever that takes, the loop turns."""
    path = tmp_path / "c.toml"
    path.write_text(f'{TEXT}[jobs.a]\nurl = "http://a.test/"\n')
    source = Source(path, {}, Redactor().learn)
    reading = source.read()
    room = Room(reading.config)
    reloader = Reloader(source, reading, Force(room.roster, room.timetable, room.cancel), Notifier(None))
    (tmp_path / "slowly_imported.py").write_text("import time\ntime.sleep(0.3)\ndef take(result):\n    pass\n")
    path.write_text(
        f'{TEXT}python_path = ["."]\n[jobs.a]\nurl = "http://a.test/"\n'
        'sinks = [{ kind = "function", call = "slowly_imported:take" }]\n'
    )
    turns = 0
    with capture_logs():
        reading_again = asyncio.create_task(reloader.reload(Why.VERB))
        while not reading_again.done():
            turns += 1
            await asyncio.sleep(0.01)
    assert reading_again.result().changes.changed == ("a",)
    assert turns >= 10
    await until(lambda: room.closed == ["a 2"])


async def test_a_file_that_was_refused_is_taken_once_what_it_names_is_there(tmp_path: Path) -> None:
    """A configuration and a new secret of it are brought by two volumes, in any order; nobody asks a second time."""
    path, token = tmp_path / "c.toml", tmp_path / "token"
    watched = TEXT.replace("[daemon]\n", "[daemon]\nreload_on_change = true\n")
    path.write_text(f'{watched}[jobs.a]\nurl = "http://a.test/"\n')
    source = Source(path, {}, Redactor().learn)
    reading = source.read()
    room = Room(reading.config)
    told: list[Verdict] = []
    force = Force(room.roster, room.timetable, room.cancel)
    reloader = Reloader(source, reading, force, Notifier(None), [told.append], again_every=0.0)
    path.write_text(f'{watched}[jobs.b]\nurl = "http://b.test/"\nheaders = {{ X-Api-Key = {{ file = "token" }} }}\n')
    with capture_logs() as lines:
        running = asyncio.create_task(reloader.run(asyncio.Event()))
        await until(lambda: told)
        token.write_text("canary")
        await until(lambda: len(told) == 2)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    assert [verdict.applied for verdict in told] == [False, True]
    assert [line["event"] for line in lines] == ["config_rejected", "config_reloaded"]
    assert list(room.roster.jobs) == ["b"]
