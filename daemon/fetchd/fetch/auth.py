"""How requests are authorised. A new kind is its class here, a line in the map, and its test."""

from __future__ import annotations

from base64 import b64encode
from typing import Annotated, Final, Literal

from pydantic import AfterValidator

from fetchd.job import Auth
from fetchd.secret import Secret


def basic(username: str, password: str) -> str:
    """Return the header's value for a name and a password (RFC 7617)."""
    return f"Basic {b64encode(f'{username}:{password}'.encode()).decode('ascii')}"


def _username(username: Secret) -> Secret:
    if ":" in username.reveal():
        raise ValueError("a user's name holds no colon: the password would begin there")
    return username


def _token(token: Secret) -> Secret:
    text = token.reveal()
    if not text.isascii() or not text.isprintable() or " " in text:
        raise ValueError("a token holds no spaces, no line breaks and nothing beyond ASCII")
    return token


class BasicAuth(Auth):
    """A user's name and password (RFC 7617)."""

    kind: Literal["basic"]
    username: Annotated[Secret, AfterValidator(_username)]
    """The user's name."""
    password: Secret
    """The user's password."""

    def headers(self) -> dict[str, str]:
        """Return the headers that authorise a request."""
        return {"Authorization": basic(self.username.reveal(), self.password.reveal())}


class BearerAuth(Auth):
    """A token (RFC 6750)."""

    kind: Literal["bearer"]
    token: Annotated[Secret, AfterValidator(_token)]
    """The token."""

    def headers(self) -> dict[str, str]:
        """Return the headers that authorise a request."""
        return {"Authorization": f"Bearer {self.token.reveal()}"}


KINDS: Final[dict[str, type[Auth]]] = {"basic": BasicAuth, "bearer": BearerAuth}
