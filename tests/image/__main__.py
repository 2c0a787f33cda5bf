"""Builds the image and runs it as careful operators do, under an upstream that does all it can: ``make test-image``.

Needs root, and Debian packages that it names if they are not there. Says ``CHECK name PASS|FAIL detail``, line by
line; exits with 1 if anything failed, with 2 if it could not look. It ends what it has started, and removes what it has
made, but for the base, which it keeps in a cache.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

from tests.image.building import build
from tests.image.containers import Place
from tests.image.engine import Engine, EngineError, missing_packages, opened
from tests.image.looks import build_again, look_at
from tests.image.network import upstream
from tests.image.page import can_be_built_upon, follows_the_page
from tests.image.scenes import SCENES, Report, Stage, played
from tests.image.standin import import_stand_in
from tests.upstream import ROOT

IMAGE: Final = "localhost/fetchd"
LIMIT: Final = 600
"""Seconds after which it ends, whatever it waits for."""


def main() -> int:
    """Build, look, play; return the exit status."""
    options = _options()
    if os.geteuid() != 0 or (missing := missing_packages()):
        needed = "root" if os.geteuid() else f"the Debian packages {', '.join(missing)}"
        sys.stderr.write(f"the image cannot be tested here: this needs {needed}\n")
        return 2
    for number in (signal.SIGTERM, signal.SIGALRM):
        signal.signal(number, lambda _number, _frame: sys.exit(2))
    signal.alarm(LIMIT)
    report = Report()
    python = "docker.io/library/python" if options.base else "localhost/python"
    with tempfile.TemporaryDirectory(prefix="fetchd-image-") as name, opened(Path(name), python=python) as engine:
        engine.folder.chmod(0o755)
        try:
            _test(engine, options, report)
        except EngineError as error:
            sys.stderr.write(f"{error}\n")
            return 2
    sys.stdout.write(f"END {report.passed} passed, {report.failed} failed\n")
    return int(report.failed > 0)


def _test(engine: Engine, options: argparse.Namespace, report: Report) -> None:
    begun = time.monotonic()
    if options.base:
        engine.call("buildah", "pull", options.base, timeout=300)
    base = options.base or import_stand_in(engine, options.cache)
    build(engine, options.context, base, IMAGE)
    report.check("builds", True, f"on {base}, {time.monotonic() - begun:.0f} s")
    look_at(engine, IMAGE, base, options.context, report)
    if options.twice:
        build_again(engine, IMAGE, base, options.context, report)
    scenes = engine.folder / "scenes"
    scenes.mkdir()
    with upstream() as network:
        stage = Stage(Place(engine, IMAGE, network.path), network, scenes, report)
        played(stage, (*SCENES, follows_the_page, can_be_built_upon))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.image", description="Build the image and run it.")
    caches = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    parser.add_argument("--base", help="an image to pull and build on; without it, one is made of Debian's packages")
    parser.add_argument("--cache", type=Path, default=caches / "fetchd-image", help="where what was made is kept")
    parser.add_argument("--context", type=Path, default=ROOT, help="the sources; by default those beside this")
    parser.add_argument("--twice", action="store_true", help="build a second time and compare, byte for byte")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
