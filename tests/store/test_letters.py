"""Dead letters and the history, as the command line sees them, with and without a daemon at work."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest

from fetchd.errors import Reason, StoreError
from fetchd.run import Outcome
from fetchd.secret import Redactor
from fetchd.store import Memory, letters
from fetchd.store.rows import LONGEST_TEXT
from fetchd.store.schema import BODIES, NAME
from fetchd.store.sqlite import open_sqlite_store
from tests.store.made import NOW, a_report, a_run, committed

LATER = NOW + timedelta(hours=1)
LARGE = b"x" * 200_000


@pytest.fixture
async def state(tmp_path: Path) -> Path:
    """Return the state of a daemon that has stopped: three dead letters of two jobs, and one that is owed."""
    async with open_sqlite_store(tmp_path) as store:
        small, owed = await committed(store, 1, "rates", "file", "command", content=b"small", etag='"1"')
        (large,) = await committed(store, 2, "rates", "file", content=LARGE, etag='"2"')
        (other,) = await committed(store, 3, "other")
        for delivery, error in ((small, "refused"), (large, "too large"), (other, "gone")):
            store.buried(delivery, 7, error)
        store.postponed(owed, 1, LATER, "later")
        store.finish(a_report(a_run(1), Outcome.DELIVERY_FAILED))
        store.finish(a_report(a_run(2)))
        store.skip("rates", NOW, Reason.OVERLAP)
        await store.claim(a_run(2))
    return tmp_path


def test_letters_are_listed(state: Path) -> None:
    """What was given up, of which job, since when and why."""
    found = letters.dead_letters(state)
    assert [(letter.job, letter.sink, letter.bytes, letter.error) for letter in found] == [
        ("rates", "file", 5, "refused"),
        ("rates", "file", 200_000, "too large"),
        ("other", "file", 10, "gone"),
    ]
    assert (found[0].id, found[0].since, found[0].attempts) == (f"{a_run(1).id}-file", NOW, 7)
    assert letters.dead_letters(state, "other") == found[2:]


async def test_a_letter_is_shown_with_its_body(state: Path) -> None:
    """One looks at it before one throws it away."""
    for letter, content in zip(letters.dead_letters(state), (b"small", LARGE, b"x" * 10), strict=True):
        owed = letters.dead_letter(state, letter.id)
        assert (owed.delivery.id, owed.attempts, owed.error) == (letter.id, 7, letter.error)
        assert await owed.delivery.fetched.body.read() == content
    with pytest.raises(StoreError, match="no dead letter unknown: `fetchd dead list` shows"):
        letters.dead_letter(state, "unknown")


async def test_a_replayed_letter_is_owed_again(state: Path) -> None:
    """From its first try on, in its old place: before what came after it."""
    async with open_sqlite_store(state) as store:
        await committed(store, 4)
    ids = [letter.id for letter in letters.dead_letters(state, "rates")]
    assert letters.replay(state, [*ids, "unknown"], LATER) == 2
    assert letters.replay(state, ids, LATER) == 0
    async with open_sqlite_store(state) as store:
        memory = store.recall("rates")
        assert (memory.owed, memory.owed_bytes, memory.dead) == (4, 5 + 5 + 200_000 + 10, 0)
        for id in (*ids, f"{a_run(4).id}-file"):
            owed = await store.first_owed("rates", "file")
            assert owed is not None
            assert (owed.delivery.id, owed.attempts) == (id, 0)
            assert (owed.next_try, owed.error) == ((NOW, "") if id not in ids else (LATER, owed.error))
            store.delivered(owed.delivery)


async def test_a_purged_letter_is_gone(state: Path) -> None:
    """With its body, unless another sink is owed the same; what is owed is not purged."""
    owed = f"{a_run(1).id}-command"
    assert letters.purge(state, [letter.id for letter in letters.dead_letters(state)] + [owed]) == 3
    assert letters.dead_letters(state) == []
    assert list((state / BODIES).iterdir()) == []
    async with open_sqlite_store(state) as store:
        left = await store.first_owed("rates", "command")
        assert left is not None
        assert await left.delivery.fetched.body.read() == b"small"
        assert len(await store.lanes()) == 1


def test_history_and_memory_are_read(state: Path) -> None:
    """What was, without asking the daemon."""
    assert [report.outcome for report in letters.history(state, "rates", 5)] == [
        Outcome.SUCCEEDED,
        Outcome.DELIVERY_FAILED,
    ]
    assert len(letters.history(state, "rates", 1)) == 1
    memory = letters.memory(state, "rates")
    assert (memory.validators.etag, memory.owed, memory.owed_bytes, memory.dead) == ('"2"', 1, 5, 2)
    assert (memory.last_slot, memory.last_success) == (a_run(2).slot, a_run(2).slot + timedelta(seconds=2))
    assert letters.memory(state, "unknown") == Memory()
    assert letters.skipped(state, "rates") == {Reason.OVERLAP: 1}


async def test_reading_beside_a_daemon(state: Path) -> None:
    """It sees what the daemon has written, and the daemon is not held up."""
    async with open_sqlite_store(state) as store:
        (delivery,) = await committed(store, 5)
        store.buried(delivery, 1, "just now")
        await store.lanes()
        assert [letter.error for letter in letters.dead_letters(state)][-1] == "just now"
        assert letters.memory(state, "rates") == store.recall("rates")


def test_without_a_database_nothing_is_made(tmp_path: Path) -> None:
    """A typing error in a path must not leave a state behind."""
    for call in (
        lambda: letters.dead_letters(tmp_path),
        lambda: letters.replay(tmp_path, ["x"], NOW),
        lambda: letters.purge(tmp_path, ["x"]),
        lambda: letters.history(tmp_path, "rates", 1),
        lambda: letters.memory(tmp_path, "rates"),
    ):
        with pytest.raises(StoreError, match=r"there is no .*state\.db"):
            call()
    assert list(tmp_path.iterdir()) == []


def test_a_replay_is_whole(state: Path) -> None:
    """One that fails in the middle, for whatever reason, has replayed nothing."""
    with closing(sqlite3.connect(state / NAME)) as connection:
        connection.execute(
            "CREATE TRIGGER refuse BEFORE UPDATE ON deliveries WHEN old.job = 'other' "
            "BEGIN SELECT raise(FAIL, 'no'); END"
        )
        connection.commit()
    with pytest.raises(StoreError, match="no"):
        letters.replay(state, [letter.id for letter in letters.dead_letters(state)], LATER)
    assert len(letters.dead_letters(state)) == 3


async def test_messages_are_kept_without_secrets(tmp_path: Path) -> None:
    """Who reads them later may not know the secrets; one that lies where a long message is cut shows no half."""
    secret = "canary 91d0aa of two words"
    long = "x " * (LONGEST_TEXT // 2 - 7) + secret + " y" * LONGEST_TEXT
    async with open_sqlite_store(tmp_path, redact=Redactor([secret])) as store:
        (late,) = await committed(store, 1, "rates", "file")
        (dead,) = await committed(store, 2, "rates", "file")
        store.postponed(late, 1, LATER, long)
        store.buried(dead, 7, long)
        store.finish(a_report(a_run(1), Outcome.FETCH_FAILED, message=long))
        owed = await store.first_owed("rates", "file")
    kept = [letters.history(tmp_path, "rates", 1)[0].message, letters.dead_letters(tmp_path)[0].error]
    assert owed is not None
    for message in (*kept, owed.error):
        assert message.startswith("x x")
        assert "canary" not in message
