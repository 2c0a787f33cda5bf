"""The image, built as a user would build it, from the sources beside it."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any, Final

from tests.image.engine import Engine, build_arguments

CERTIFICATES: Final = "/etc/ssl/certs/ca-certificates.crt"
EPOCH: Final = 1_700_000_000
LABELS: Final = {
    "version": "1.2.3-test",
    "revision": "0123456789abcdef",
    "source": "https://git.example.com/fetchd",
}


def build(engine: Engine, context: Path, base: str, name: str) -> str:
    """Build the image called ``name`` from ``context``, with the date EPOCH on everything; return its id."""
    values = {"BASE": base, "SOURCE_DATE_EPOCH": str(EPOCH), **{key.upper(): value for key, value in LABELS.items()}}
    # For the steps of the build alone: the authorities that this machine trusts, which its proxy may need.
    trusted = Path(os.environ.get("SSL_CERT_FILE") or CERTIFICATES).resolve()
    engine.call(
        "buildah",
        "build",
        "--isolation=chroot",
        "--network=host",
        "--format=docker",
        "--layers=false",
        f"--timestamp={EPOCH}",
        f"--volume={trusted}:{CERTIFICATES}:ro",
        *build_arguments(values),
        f"--tag={name}",
        str(context),
        timeout=300,
    )
    return str(engine.inspect("image", name)["Id"])


def layers(engine: Engine, name: str) -> list[str]:
    """Return the digests of the image's layers."""
    digests: list[str] = engine.inspect("image", name)["RootFS"]["Layers"]
    return digests


def size(engine: Engine, name: str, base: str) -> tuple[float, float]:
    """Return the size of the image, and what of it is ours, in MB."""
    whole, below = (engine.inspect("image", each)["Size"] / 1e6 for each in (name, base))
    return whole, whole - below


def configuration(engine: Engine, name: str) -> dict[str, Any]:
    """Return what the image says of how it is run."""
    found: dict[str, Any] = engine.inspect("image", name)["Config"]
    return found


def locked(context: Path) -> set[str]:
    """Return the names in the lock of ``context``."""
    return set(re.findall(r"^([a-z0-9-]+)==", (context / "requirements/runtime.txt").read_text(), re.MULTILINE))
