"""How requests are authorised. A new kind is its class here, a line in the map, and its test."""

from __future__ import annotations

from base64 import b64encode
from typing import Final, Literal

from fetchd.job import Auth
from fetchd.secret import Secret


class BasicAuth(Auth):
    """A user's name and password (RFC 7617)."""

    kind: Literal["basic"]
    username: Secret
    """The user's name."""
    password: Secret
    """The user's password."""

    def headers(self) -> dict[str, str]:
        """Return the headers that authorise a request."""
        pair = f"{self.username.reveal()}:{self.password.reveal()}".encode()
        return {"Authorization": f"Basic {b64encode(pair).decode('ascii')}"}


class BearerAuth(Auth):
    """A token (RFC 6750)."""

    kind: Literal["bearer"]
    token: Secret
    """The token."""

    def headers(self) -> dict[str, str]:
        """Return the headers that authorise a request."""
        return {"Authorization": f"Bearer {self.token.reveal()}"}


KINDS: Final[dict[str, type[Auth]]] = {"basic": BasicAuth, "bearer": BearerAuth}
