"""``python -m tests.systemd``: make the machine, boot it, and show what the checks in it say.

It needs root, and the Debian packages systemd-container and mmdebstrap. Exit status: 0 all passed, 1 a check failed
or did not come to its end, 2 it cannot be run here.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

from tests.systemd import cgroups
from tests.systemd.machine import PYTHONS, ROOT, Machine

PATIENCE: Final = 420.0
PROGRAMS: Final = {"systemd-nspawn": "systemd-container", "mmdebstrap": "mmdebstrap"}
SHOWN: Final = ("CHECK ", "INFO ", "END ")


def main() -> int:
    """Do everything in order, and leave nothing but the cache."""
    options = _options()
    if problem := _problem():
        sys.stderr.write(f"{problem}\n")
        return 2
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="fetchd-systemd-") as folder:
        machine = Machine(Path(folder), options.suite, options.cache)
        machine.fill(options.lock)
        _say(f"INFO made {options.suite} in {time.monotonic() - began:.0f} s")
        well, skipped = _booted(machine, options, unified=cgroups.unified())
        if skipped and not cgroups.unified():
            _say(f"INFO what was skipped again, with the control groups of version 2: {', '.join(skipped)}")
            options.checks = skipped
            well &= _booted(machine, options, unified=True)[0]
    _say(f"INFO {time.monotonic() - began:.0f} s in all")
    return 0 if well else 1


def _booted(machine: Machine, options: argparse.Namespace, *, unified: bool) -> tuple[bool, list[str]]:
    """Boot it, show what is said; return whether nothing has failed, and the checks that were skipped."""
    said = machine.boot(options.checks, PATIENCE, unified=unified)
    lines = said.splitlines()
    for line in lines:
        if options.verbose or line.startswith(SHOWN):
            _say(line)
    found = [line.split(" ")[1:3] for line in lines if line.startswith("CHECK ")]
    well = any(line.startswith("END ") for line in lines) and not any(verdict == "FAIL" for _, verdict in found)
    if not well and not options.verbose:
        _say(said[-8000:])
    return well, sorted({name.partition(".")[0] for name, verdict in found if verdict == "SKIP"})


def _options() -> argparse.Namespace:
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    cache = Path(os.environ.get("FETCHD_SYSTEMD_CACHE") or home / "fetchd-systemd")
    words = argparse.ArgumentParser(prog="python -m tests.systemd", description=__doc__)
    words.add_argument("--suite", choices=PYTHONS, default="bookworm", help="the Debian to boot")
    words.add_argument("--cache", type=Path, default=cache, help="where file systems are kept, 250 MB each")
    words.add_argument("--lock", type=Path, default=ROOT / "requirements/runtime.txt", help="the requirements")
    words.add_argument("--verbose", action="store_true", help="show everything that was said")
    words.add_argument("checks", nargs="*", help="only checks whose names begin so")
    return words.parse_args()


def _problem() -> str:
    if os.geteuid():
        return "a container with a service manager of its own needs root: sudo make test-systemd"
    missing = [package for program, package in PROGRAMS.items() if shutil.which(program) is None]
    return f"the Debian packages {' and '.join(missing)} are missing" if missing else ""


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
