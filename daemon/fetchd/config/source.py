"""The file of a running daemon: read anew for a reload, and built anew from its last good text for new secrets."""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel

from fetchd.config.document import content_of, parsed
from fetchd.config.load import build
from fetchd.config.model import Config
from fetchd.job.network import content_of as content_of_certificates
from fetchd.secret import Secret, SecretSource

_FROM_FILES: Final = ("file", "credential")
_CERTIFICATES: Final = "certificates"
"""A kind of its own beside those of secrets: a file that tls names; what is in it counts as a digest."""

Stamp = tuple[int, ...]
"""What tells one state of a file from another."""


@dataclass(frozen=True, slots=True)
class Reading:
    """A configuration with the text that it was made of, which is kept small: it is seldom needed again."""

    config: Config
    packed: bytes = field(repr=False)


class Source:
    """The configuration file at ``path``. All of it touches the disk, or takes long: it is not for the loop.

    ``learn`` is told each secret before anybody else can show it. ``seen`` is what the file looked like when it was
    read last.
    """

    def __init__(self, path: Path, environment: Mapping[str, str], learn: Callable[[Iterable[str]], None]) -> None:
        self.path = path
        self.seen: Stamp | None = None
        self._learn = learn
        self._environment = environment
        self._secrets = SecretSource(environment, path.absolute().parent)
        self._looked_through: tuple[Config | None, dict[tuple[str, str], str]] = (None, {})

    def read(self) -> Reading:
        """Return what the file says now.

        Raises:
            ConfigError: something is wrong; all of it at once.
        """
        self.seen = self.stamp()
        return self._build(content_of(self.path))

    def again(self, reading: Reading) -> Reading:
        """Return the same text with the secrets as they are now; the file may say something else by now.

        Raises:
            ConfigError: a secret is missing, or not fit for its place.
        """
        return self._build(zlib.decompress(reading.packed))

    def secrets(self, config: Config) -> dict[tuple[str, str], str]:
        """Return the secrets and certificates of ``config`` that were read from files: (kind, name) and the text.

        Whoever watches the files asks each second: for ten thousand jobs it would be a third of one to look each time.
        """
        known, found = self._looked_through
        if known is not config:
            found = dict(_from_files(config))
            self._looked_through = config, found
        return found

    def stamp(self, kind: str = "", name: str = "") -> Stamp | None:
        """Return what tells whether a secret's file, or the configuration file itself, has changed; None without one.

        Links are followed: it changes as well when one of them is set to another file.
        """
        try:
            found = os.stat(self._path(kind, name) if kind else self.path)
        except (OSError, ValueError):
            return None
        return (found.st_mtime_ns, found.st_ino, found.st_dev, found.st_size)

    def secret(self, kind: str, name: str) -> str | None:
        """Return a secret as it is now; None while it is missing or empty."""
        if kind == _CERTIFICATES:
            return content_of_certificates(Path(name)) or None
        try:
            return self._secrets.read(kind, name)
        except ValueError:
            return None

    def _path(self, kind: str, name: str) -> Path:
        return Path(name) if kind == _CERTIFICATES else self._secrets.path(kind, name)

    def _build(self, content: bytes) -> Reading:
        config = build(parsed(self.path, content), environment=self._environment)
        self._learn(config.secret_texts())
        return Reading(config, zlib.compress(content))


def _from_files(config: Config) -> Iterator[tuple[tuple[str, str], str]]:
    for secret in _secrets(config):
        kind, _, name = secret.origin.partition(" ")
        if kind in _FROM_FILES:
            yield (kind, name), secret.reveal()
    for tls in {id(job.tls): job.tls for job in config.jobs.values()}.values():
        yield from (((_CERTIFICATES, str(path)), content) for path, content in tls.contents.items())


def _secrets(value: Any) -> Iterator[Secret]:
    """Yield all secrets within ``value``."""
    if isinstance(value, Secret):
        yield value
    elif isinstance(value, BaseModel):
        for item in value.__dict__.values():
            yield from _secrets(item)
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _secrets(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _secrets(item)
