"""What the tests of importing share: an import in one line, and its jobs as a configuration reads them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from fetchd.config import load
from fetchd.imports import Choices, Imported, Surroundings, from_command, from_crontab
from fetchd.job import Job

ENVIRONMENT: Final[Mapping[str, str]] = {
    "HOME": "/home/somebody",
    "TOKEN": "t0ken",
    "API_KEY": "k3y",
    "USERNAME": "me",
    "PASSWORD": "s3cret",
    "CITY": "Brno",
}


def read_file(file: str) -> bytes:
    """Return what is in ``file``."""
    return Path(file).read_bytes()


def command(line: str, folder: Path | None = None, **choices: Any) -> Imported:
    """Return what the command ``line``, run in ``folder``, is imported as."""
    surroundings = Surroundings(folder=str(folder) if folder else None, read=read_file)
    return from_command(line, surroundings, Choices(**choices))


def crontab(text: str, **options: Any) -> Imported:
    """Return what a crontab is imported as."""
    return from_crontab(text, Surroundings(read=read_file), Choices(), **options)


def jobs_of(found: Imported, folder: Path, environment: Mapping[str, str] = ENVIRONMENT) -> list[Job]:
    """Return the jobs of what was imported, as the daemon would have them: with findings this fails."""
    path = folder / "imported.toml"
    path.write_text(found.text, encoding="utf-8")
    return list(load(path, environment=environment).jobs.values())


def only(found: Imported, folder: Path) -> Job:
    """Return the only job of what was imported."""
    (job,) = jobs_of(found, folder)
    return job
