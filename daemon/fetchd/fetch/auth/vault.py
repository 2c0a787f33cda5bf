"""Secrets that come up while the daemon runs."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Mapping
from typing import Final

PREFIX: Final = "oauth/"
"""What the names begin with under which refresh tokens are kept."""


class Vault:
    """Tells of each secret, so that no output shows it, and keeps those over restarts that no file holds.

    A token server may give a new refresh token and take back the one of the configuration: lost with the process, it
    would lock the job out for good. It is kept in the state directory, which its owner alone can read.
    """

    def __init__(
        self,
        told: Callable[[str], None] | None = None,
        kept: Mapping[str, str] | None = None,
        keep: Callable[[str, str | None], None] | None = None,
    ) -> None:
        """Begin with what is ``kept`` by names; ``keep`` takes a name and what to keep under it, None for nothing."""
        self._told = told
        self._kept = dict(kept or {})
        self._keep = keep
        for secret in self._kept.values():
            self.tell(secret)

    def tell(self, secret: str) -> None:
        """Tell of ``secret``."""
        if secret and self._told is not None:
            self._told(secret)

    def get(self, name: str) -> str:
        """Return what is kept under ``name``, "" if nothing is."""
        return self._kept.get(name, "")

    def put(self, name: str, secret: str) -> None:
        """Keep ``secret`` under ``name``; "" forgets what is kept there."""
        if secret == self.get(name):
            return
        if secret:
            self._kept[name] = secret
        else:
            del self._kept[name]
        if self._keep is not None:
            self._keep(name, secret or None)


class RefreshToken:
    """The refresh token that counts now: the one of the configuration, or what has taken its place; "" for none.

    Whoever sends it holds ``turn`` meanwhile: many are good once, and a server that sees one again may lock all out.
    """

    def __init__(self, vault: Vault, token_url: str = "", client_id: str = "", configured: str = "") -> None:
        self.name = _name_of(token_url, client_id, configured)
        """Under which it is kept."""
        self.turn = asyncio.Lock()
        self._vault = vault
        self._configured = configured

    @property
    def value(self) -> str:
        """Return it."""
        return (self._vault.get(self.name) or self._configured) if self._configured else ""

    def replace(self, refresh: str) -> None:
        """Go on with another one, with that of the configuration if it is ""."""
        if self._configured:
            self._vault.put(self.name, "" if refresh == self._configured else refresh)


def _name_of(*parts: str) -> str:
    """Return the name of what belongs to ``parts``, which may be secret: it tells nothing of them."""
    return PREFIX + hashlib.blake2b("\n".join(parts).encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
