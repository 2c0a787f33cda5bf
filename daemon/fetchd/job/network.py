"""How a job's requests travel: through which proxy, over which addresses, with which certificates."""

from __future__ import annotations

import hashlib
import re
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    PrivateAttr,
    ValidationInfo,
    WithJsonSchema,
    model_validator,
)

from fetchd.job.values import Frozen
from fetchd.secret import Secret, SecretSource

ENVIRONMENT: Final = "env"
"""Stands for the proxies that the environment names."""

_SHA_256: Final = r"^(?:[0-9A-Fa-f]{2}:?){31}[0-9A-Fa-f]{2}$"

IpVersion = Literal["any", "ipv4", "ipv6", "prefer_ipv4", "prefer_ipv6"]


def path_from_config(value: Any, info: ValidationInfo) -> Any:
    """Return the path that a text names, from the configuration file's folder, or from home behind ``~/``.

    Raises:
        ValueError: it is no text, or names no path.
    """
    if isinstance(value, Path):
        return value
    if not isinstance(value, str):
        raise ValueError("must be a text")
    if not value or "\0" in value:
        raise ValueError("must be a path")
    source = (info.context or {}).get("secrets")
    if not isinstance(source, SecretSource):
        return Path(value)
    home = source.environment.get("HOME")
    if value.startswith("~/") and home:
        return Path(home) / value[2:]
    return source.folder / value


def certificates(path: Path) -> Path:
    """Return ``path`` if it is a file of certificates.

    Raises:
        ValueError: it is not, or cannot be read.
    """
    _regular(path)
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(path)
    except ssl.SSLError:
        raise ValueError("not a PEM file of certificates") from None
    except OSError as error:
        raise ValueError(f"cannot be read: {error.strerror}") from None
    return path


def _regular(path: Path) -> Path:
    if path.exists() and not path.is_file():  # a pipe would be waited for, and a device might have no end
        raise ValueError("cannot be read: it is not a regular file")
    return path


def content_of(path: Path) -> str:
    """Return what tells the content of the regular file at ``path`` from another, a digest; "" if there is none."""
    try:
        if not path.is_file():
            return ""
        with path.open("rb") as file:
            return hashlib.file_digest(file, "blake2b").hexdigest()
    except OSError:
        return ""


def _fingerprint(text: str) -> str:
    if not re.fullmatch(_SHA_256, text):
        raise ValueError("write a SHA-256 as 64 hexadecimal digits, colons between them or not")
    return text


def _proxy(value: Secret) -> Secret:
    text = value.reveal()
    if text in ("", ENVIRONMENT):
        return value
    try:
        parts = urlsplit(text)
        sound = parts.scheme in {"http", "https"} and parts.hostname and parts.path in ("", "/") and parts.port != 0
    except ValueError:
        sound = False
    if not sound:
        raise ValueError('a proxy is an address such as "http://proxy.example.com:3128", or "env"')
    return value


def _paper(value: Any, info: ValidationInfo) -> Any:
    """Return the path of a PEM file, which systemd may have handed over as a credential."""
    if not isinstance(value, dict):
        return path_from_config(value, info)
    name = value.get("credential")
    if len(value) != 1 or not isinstance(name, str) or not name:
        raise ValueError('write a path, or { credential = "NAME" }')
    source = (info.context or {}).get("secrets")
    return source.path("credential", name) if isinstance(source, SecretSource) else Path(name)


TextPath = WithJsonSchema({"type": "string"})
_PAPER: Final = {
    "anyOf": [
        {"type": "string"},
        {
            "type": "object",
            "properties": {"credential": {"type": "string", "description": "The systemd credential that holds it."}},
            "additionalProperties": False,
            "minProperties": 1,
        },
    ]
}
CertificateFile = Annotated[Path, AfterValidator(certificates), BeforeValidator(_paper), WithJsonSchema(_PAPER)]
"""A PEM file of certificates."""
KeyFile = Annotated[Path, AfterValidator(_regular), BeforeValidator(_paper), WithJsonSchema(_PAPER)]
"""A PEM file with a key."""
Proxy = Annotated[Secret, AfterValidator(_proxy)]
"""The address of a proxy, or where to find it; empty for none."""


class Tls(Frozen):
    """Whom the job trusts, and who it says it is."""

    ca_file: CertificateFile | None = None
    """A PEM file of CAs that are trusted instead of the system's."""
    cert: CertificateFile | None = None
    """A PEM file with the client's certificate and its chain."""
    key: KeyFile | None = None
    """A PEM file with the certificate's key; without, it is in the same file as the certificate."""
    key_password: Secret | None = None
    """What the key is encrypted with."""
    fingerprint: Annotated[str, AfterValidator(_fingerprint), Field(json_schema_extra={"pattern": _SHA_256})] | None = (
        None
    )
    """The SHA-256 of the one certificate that the server may show, in hexadecimal digits."""
    verify: bool = True
    """Whether the server's certificate has to be trusted. Without it anybody on the way can read and change all."""

    _contents: dict[Path, str] = PrivateAttr(default_factory=dict)

    def model_post_init(self, _context: Any) -> None:
        """Note what is in the files."""
        paths = (self.ca_file, self.cert, self.key)
        self._contents = {path: content_of(path) for path in paths if path is not None}

    @property
    def contents(self) -> Mapping[Path, str]:
        """Return what was in each file when it was read, as `content_of` tells it; others make another value."""
        return self._contents

    @model_validator(mode="after")
    def _together(self) -> Tls:
        if self.key is not None and self.cert is None:
            raise ValueError("a key needs a cert")
        if self.key_password is not None and self.cert is None:
            raise ValueError("a key_password needs a cert")
        return self
