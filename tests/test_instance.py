from __future__ import annotations

import os
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fetchd.errors import InstanceError, StateError
from fetchd.instance import hold

HOLDER = """
import subprocess, sys
from pathlib import Path
from fetchd.instance import hold

with hold(Path(sys.argv[1])):
    if "child" in sys.argv:
        code = "import sys; print('child', flush=True); sys.stdin.read()"
        subprocess.Popen([sys.executable, "-c", code], close_fds=False)
    else:
        print("held", flush=True)
    sys.stdin.read()
"""


@contextmanager
def holder(state_dir: Path, *words: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run another process that holds ``state_dir``."""
    command = [sys.executable, "-c", HOLDER, str(state_dir), *words]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline()
        yield process


def test_the_folder_is_made_for_this_user_alone(tmp_path: Path) -> None:
    """Results and credentials of others lie in it; parents may be missing on a first start."""
    state_dir = tmp_path / "var" / "fetchd"
    with hold(state_dir) as instance:
        assert stat.S_IMODE(state_dir.stat().st_mode) == 0o700
        assert (state_dir / "lock").read_text() == f"{os.getpid()}\n"
        assert instance.still_ours()
    assert (state_dir / "lock").exists(), "removing it might remove another's"


def test_a_folder_of_somebody_s_keeps_its_mode(tmp_path: Path) -> None:
    """What the service manager or the administrator has set up is theirs."""
    tmp_path.chmod(0o750)
    with hold(tmp_path):
        assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o750


def test_a_second_process_is_refused(tmp_path: Path) -> None:
    """Two daemons on one state would fetch everything twice; the message says whom to stop."""
    with holder(tmp_path) as process:
        with (
            pytest.raises(InstanceError, match=f"held by the fetchd with process id {process.pid}: stop"),
            hold(tmp_path),
        ):
            pass
        process.communicate(b"")
        with hold(tmp_path):
            pass


def test_a_killed_process_leaves_nothing_to_clean_up(tmp_path: Path) -> None:
    """After a crash the next start must not need a person, and its id replaces the dead one's."""
    with holder(tmp_path) as process:
        process.kill()
        process.wait()
        with hold(tmp_path):
            assert (tmp_path / "lock").read_text() == f"{os.getpid()}\n"


def test_a_child_that_lives_on_does_not_hold_it(tmp_path: Path) -> None:
    """A command that outlives the daemon must not keep the next one from starting."""
    with holder(tmp_path, "child") as process:
        process.kill()
        process.wait()
        with hold(tmp_path) as instance:
            assert instance.still_ours()


def test_a_removed_lock_file_is_noticed(tmp_path: Path) -> None:
    """A cleaner of temporary files lets a second process in; the first must be able to tell."""
    with hold(tmp_path) as first:
        (tmp_path / "lock").unlink()
        assert not first.still_ours()
        with hold(tmp_path) as second:
            assert second.still_ours()
            assert not first.still_ours()


def test_a_lock_that_is_a_link_is_refused(tmp_path: Path) -> None:
    """Whoever can write the folder must not make a privileged daemon write into another file."""
    (tmp_path / "lock").symlink_to("elsewhere")
    with pytest.raises(StateError, match="Too many levels of symbolic links"), hold(tmp_path):
        pass


RACE = """
import sys
from pathlib import Path
from fetchd.errors import InstanceError
from fetchd.instance import hold

state_dir, times = Path(sys.argv[1]), int(sys.argv[2])

def remove(event, _arguments):
    global times
    if event == "fcntl.flock" and times:
        times -= 1
        (state_dir / "lock").unlink()

sys.addaudithook(remove)  # called between the opening and the locking
try:
    with hold(state_dir) as instance:
        print(instance.still_ours())
except InstanceError as error:
    print(error)
"""


@pytest.mark.parametrize(("times", "said"), [(3, "True"), (100, "is replaced again and again")])
def test_a_lock_file_removed_before_it_was_locked(tmp_path: Path, times: int, said: str) -> None:
    """A lock on a file that has lost its name keeps nobody out: it is taken anew, but not for ever."""
    command = [sys.executable, "-c", RACE, str(tmp_path), str(times)]
    assert said in subprocess.run(command, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("below", ["file", "file/fetchd"])
def test_a_folder_that_cannot_be_made(tmp_path: Path, below: str) -> None:
    """The message names the folder, the cause and the key to change."""
    (tmp_path / "file").touch()
    with (
        pytest.raises(StateError, match=r"cannot use .*file.* as the state directory: .*; daemon\.state_dir must"),
        hold(tmp_path / below),
    ):
        pass


def run_as_nobody(code: str, *words: str) -> str:
    """Run ``code`` without root's privileges, whoever runs the tests, and return what it printed."""
    drop = "import os\nif os.geteuid() == 0:\n    os.setgroups([])\n    os.setegid(65534)\n    os.seteuid(65534)\n"
    command = [sys.executable, "-c", f"import fetchd.instance\n{drop}{code}", *words]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_a_folder_that_cannot_be_written() -> None:
    """A wrong owner is the most frequent of all first errors."""
    code = """
import sys
from pathlib import Path
try:
    with fetchd.instance.hold(Path(sys.argv[1])):
        pass
except fetchd.instance.StateError as error:
    print(os.geteuid(), error)
"""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o555)
        user, _, message = run_as_nobody(code, folder).partition(" ")
    assert f"cannot use {folder} as the state directory: Permission denied" in message
    assert f"the user with id {user} can write" in message


def test_a_full_disk_does_not_keep_it_from_starting(tmp_path: Path) -> None:
    """The id in the lock file is for people; the lock itself needs no space."""
    code = """
import resource, sys
from pathlib import Path
resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
with fetchd.instance.hold(Path(sys.argv[1])) as instance:
    assert instance.still_ours()
    os.write(2, b"held")
"""
    command = [sys.executable, "-c", f"import os\nimport fetchd.instance\n{code}", str(tmp_path)]
    process = subprocess.run(command, capture_output=True, text=True, check=True)
    assert process.stderr == "held"
    assert "lock_not_signed" in process.stdout
