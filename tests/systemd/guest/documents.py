"""What the pages tell people to type on a machine is typed, and each line of it ends well."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from tests.systemd.guest.stage import Stage
from tests.systemd.guest.unit import expect, run, until

SCRIPTS: Final = Path("/opt/check/pages.json")
SECURE: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
PROGRAMS: Final = {"sudo": f'#!/bin/sh\nPATH={SECURE} exec "$@"\n', "apt": "#!/bin/sh\n"}
"""Who types is root already, and the packages are there."""
OURS: Final = ("opt/fetchd", "etc/fetchd", "usr/bin/fetchd")
UNITS: Final = "etc/systemd/system/fetchd*"
STATES: Final = ("var/lib/fetchd*", "var/lib/private/fetchd*")
PATIENCE: Final = 150.0


def documents_can_be_followed(stage: Stage) -> dict[str, str]:
    """From nothing to a service and what goes with it, its upgrade, and its end; who follows it need not be root."""
    for name, text in PROGRAMS.items():
        program = Path("/usr/local/bin", name)
        program.write_text(text)
        program.chmod(0o755)
    stage.unit.stop()
    with _nothing_installed():
        return {name: _followed(text) for name, text in json.loads(SCRIPTS.read_text()).items()}


def _followed(script: str) -> str:
    """Type ``script``; where it installs a service, nothing of that may be left by its own lines, but an instance."""
    done = run("bash", "-exo", "pipefail", "-c", script, patience=PATIENCE)
    expect(done.returncode == 0, f"exit status {done.returncode}: {done.stderr[-2000:]}\n{done.stdout[-1000:]}")
    typed = sum(line.startswith("+ ") for line in done.stderr.splitlines())
    removed = "systemctl clean" in script
    if removed:
        _end_instances()
        left = [str(path) for path in _found(*OURS, UNITS, *STATES)]
        expect(not left, f"left behind: {left}")
    for path in _found(*OURS, UNITS, *STATES):
        _remove(path)
    return f"PASS {typed} lines typed{', nothing left behind' if removed else ''}"


def _end_instances() -> None:
    """The page on removal is about the one service; of those beside it each has the same to be done."""
    run("systemctl", "disable", "--now", "fetchd@shop")
    run("systemctl", "clean", "--what=state", "fetchd@shop")
    until(lambda: not Path("/var/lib/private/fetchd-shop").exists(), "the instance's state is gone")
    Path("/etc/systemd/system/fetchd@.service").unlink()
    run("systemctl", "daemon-reload")


@contextmanager
def _nothing_installed() -> Iterator[None]:
    """Put aside what the other checks use, and bring it back."""
    aside = Path("/opt/aside")
    kept = [path.relative_to("/") for path in _found(*OURS, UNITS) if path.suffix != ".wants"]
    for path in kept:
        (aside / path.parent).mkdir(parents=True, exist_ok=True)
        shutil.move(Path("/", path), aside / path)
    for path in _found(*STATES):
        _remove(path)
    run("systemctl", "daemon-reload")
    try:
        yield
    finally:
        for path in _found(*OURS, UNITS):
            _remove(path)
        for path in kept:
            shutil.move(aside / path, Path("/", path))
        run("systemctl", "daemon-reload")


def _found(*patterns: str) -> list[Path]:
    return [path for pattern in patterns for path in sorted(Path("/").glob(pattern))]


def _remove(path: Path) -> None:
    if path.is_symlink() or path.is_file():
        path.unlink()
    else:
        shutil.rmtree(path)
