"""The image, built as a user would build it, from the sources beside it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from tests.image.engine import Engine, build_arguments

CERTIFICATES: Final = "/etc/ssl/certs/ca-certificates.crt"
EPOCH: Final = 1_700_000_000
LABELS: Final = {
    "version": "1.2.3-test",
    "revision": "0123456789abcdef",
    "source": "https://git.example.com/fetchd",
}


def trusted() -> Path:
    """Return the authorities that this machine trusts, for the steps of a build alone: its proxy may need them."""
    return Path(os.environ.get("SSL_CERT_FILE") or CERTIFICATES).resolve()


def build(engine: Engine, context: Path, base: str, name: str) -> str:
    """Build the image called ``name`` from ``context``, with the date EPOCH on everything; return its id."""
    values = {"BASE": base, "SOURCE_DATE_EPOCH": str(EPOCH), **{key.upper(): value for key, value in LABELS.items()}}
    engine.call(
        "buildah",
        "build",
        "--isolation=chroot",
        "--network=host",
        "--format=docker",
        "--layers=false",
        f"--timestamp={EPOCH}",
        f"--volume={trusted()}:{CERTIFICATES}:ro",
        *build_arguments(values),
        f"--tag={name}",
        str(context),
        timeout=300,
    )
    return str(engine.inspect("image", name)["Id"])
