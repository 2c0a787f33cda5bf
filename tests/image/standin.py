"""What the image is built from: the official Python image, or where no registry is at hand one that takes its part."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from tests.image.engine import Engine

SUITE: Final = "trixie"
NAME: Final = f"localhost/python:3.13-slim-{SUITE}"
PACKAGES: Final = ("ca-certificates", "netbase", "python3", "python3-pip", "python3-venv", "tzdata")
LEFT_OUT: Final = ("/usr/share/doc/*", "/usr/share/locale/*", "/usr/share/man/*")
LIKE_THE_OFFICIAL: Final = (
    'rm -f "$1"/usr/lib/python3*/EXTERNALLY-MANAGED',
    'ln -s /usr/bin/python3 "$1"/usr/local/bin/python',
    'ln -s /usr/bin/python3 "$1"/usr/local/bin/python3',
    'ln -s /usr/bin/pip3 "$1"/usr/local/bin/pip',
    ': > "$1"/etc/resolv.conf',
)
PATH: Final = "/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin"


def import_stand_in(engine: Engine, cache: Path) -> str:
    """Make the stand-in of Debian's own packages, or take it from ``cache``, and return its name in ``engine``.

    Debian's Python is in /usr/bin and, outside a virtual environment, has its packages elsewhere; inside one, nothing
    differs.
    """
    archive = cache / f"base-{SUITE}.tar"
    if not archive.is_file():
        cache.mkdir(parents=True, exist_ok=True)
        unfinished = archive.with_suffix(f".{os.getpid()}")
        options = [f"--dpkgopt=path-exclude={pattern}" for pattern in LEFT_OUT]
        hooks = [f"--customize-hook={hook}" for hook in LIKE_THE_OFFICIAL]
        packages = f"--include={','.join(PACKAGES)}"
        command = ["mmdebstrap", "--quiet", "--variant=minbase", "--format=tar", packages, *options, *hooks]
        try:
            engine.call(*command, SUITE, str(unfinished), timeout=300)
            unfinished.rename(archive)
        finally:
            unfinished.unlink(missing_ok=True)
    container = engine.call("buildah", "from", "scratch").stdout.split()[-1]
    engine.call("buildah", "add", "--quiet", container, str(archive), "/")
    engine.call("buildah", "config", "--env", f"PATH={PATH}", "--env", "LANG=C.UTF-8", "--cmd", "python3", container)
    engine.call("buildah", "commit", "--quiet", "--rm", container, NAME)
    return NAME
