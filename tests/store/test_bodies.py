"""Bodies that outlive the Run that fetched them."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from fetchd.body import Body, MemoryBudget
from fetchd.store.bodies import Bodies


@pytest.fixture
def bodies(tmp_path: Path) -> Bodies:
    """Return an empty folder of bodies."""
    (tmp_path / "bodies").mkdir()
    return Bodies(tmp_path / "bodies", lambda: None)


async def test_a_kept_body_outlives_the_one_it_is_of(tmp_path: Path) -> None:
    """The Run closes what it fetched; the sinks are not done with it."""
    path = tmp_path / "spooled"
    path.write_bytes(b"1234")
    budget = MemoryBudget(10)
    budget.try_take(4)
    for body in (Body(b"1234", size=4, sha256="s", release=lambda: budget.give(4)), Body(path, size=4, sha256="s")):
        kept = body.keep()
        body.close()
        assert (await kept.read(), kept.size, kept.sha256) == (b"1234", 4, "s")
        kept.close()
    assert path.exists()
    assert budget.used == 0


def test_a_closed_body_cannot_be_kept(tmp_path: Path) -> None:
    """There is nothing left of it."""
    body = Body.of(b"x")
    body.close()
    assert body.content is None
    with pytest.raises(RuntimeError, match="closed"):
        body.keep()


def test_half_a_body_is_none(bodies: Bodies) -> None:
    """What could not be written in full leaves nothing behind."""
    with pytest.raises(FileNotFoundError):
        bodies.place(bodies.folder / "missing", "run")
    assert list(bodies.folder.iterdir()) == []


def test_a_body_is_never_overwritten(bodies: Bodies) -> None:
    """Somebody may be owed the one that is there."""
    bodies.place(b"first", "run")
    with pytest.raises(FileExistsError):
        bodies.place(b"second", "run")
    assert bodies.path_of("run").read_bytes() == b"first"
    assert bodies.path_of("run").stat().st_mode & 0o777 == 0o600


def test_a_file_goes_after_its_row(tmp_path: Path) -> None:
    """Should the power fail in between, a row without its file would be a delivery that nobody can make."""
    bodies = Bodies(tmp_path, lambda: seen.append((tmp_path / "run").exists()))
    seen: list[bool] = []
    bodies.place(b"x", "run")
    bodies.remove("run")
    assert seen == [True]
    assert not (tmp_path / "run").exists()


def test_a_row_that_may_come_back_keeps_its_file(tmp_path: Path) -> None:
    """The disk did not take the change; the file goes once it does."""
    fails = [True]

    def settle() -> None:
        if fails.pop():
            raise OSError(errno.EIO, "Input/output error")

    bodies = Bodies(tmp_path, settle)
    bodies.place(b"x", "run")
    with capture_logs() as logs:
        bodies.remove("run")
    assert [line["event"] for line in logs] == ["body_file_left"]
    assert (tmp_path / "run").exists()
    fails.append(False)
    bodies.retry()
    assert not (tmp_path / "run").exists()
