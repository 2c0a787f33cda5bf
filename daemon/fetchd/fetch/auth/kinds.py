"""The kinds of authorisation, as a configuration names them. A new kind is its class here, a line in the map, its test.

What a request's headers hold from the beginning is made here. What depends on the server's answers, or on what there is
to be fetched first, is the matter of `fetchd.fetch.auth.flows`.
"""

from __future__ import annotations

from base64 import b64encode
from typing import Annotated, Final, Literal
from urllib.parse import quote_plus, urlsplit

from pydantic import AfterValidator, Field, model_validator

from fetchd.job import LONGEST_DEADLINE, Auth, HeaderName, Url
from fetchd.secret import Secret
from fetchd.units import Duration

_OWN_KEYS: Final = frozenset(
    {"grant_type", "client_id", "client_secret", "refresh_token", "username", "password", "scope", "audience"}
)


def basic(username: str, password: str) -> str:
    """Return the header's value for a name and a password (RFC 7617)."""
    return f"Basic {b64encode(f'{username}:{password}'.encode()).decode('ascii')}"


def is_token(text: str) -> bool:
    """Return whether ``text`` can be sent as a token: it holds no spaces, no line breaks and nothing beyond ASCII."""
    return text.isascii() and text.isprintable() and " " not in text


def _username(username: Secret) -> Secret:
    if ":" in username.reveal():
        raise ValueError("a user's name holds no colon: the password would begin there")
    return username


def _quotable(username: Secret) -> Secret:
    text = _username(username).reveal()
    if not text.isprintable() or '"' in text or "\\" in text:
        raise ValueError("a user's name for digest holds no line break, no quotation mark and no backslash")
    return username


def _token(token: Secret) -> Secret:
    if not is_token(token.reveal()):
        raise ValueError("a token holds no spaces, no line breaks and nothing beyond ASCII")
    return token


def _key(key: Secret) -> Secret:
    text = key.reveal()
    if not text.isascii() or not text.isprintable():
        raise ValueError("a key holds no line breaks and nothing beyond ASCII")
    return key


def _userless(url: Secret) -> Secret:
    if "@" in urlsplit(url.reveal()).netloc:
        raise ValueError("the token server's URL holds no user: client_id and client_secret say who asks")
    return url


def _further(params: dict[str, Secret]) -> dict[str, Secret]:
    for name in params:
        if name in _OWN_KEYS:
            raise ValueError(f"{name} is set by the other keys of auth")
    return params


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


class ApiKeyAuth(Auth):
    """A key in a header or in the URL's query."""

    kind: Literal["api_key"]
    name: HeaderName
    """What the header, or the parameter, is called."""
    value: Annotated[Secret, AfterValidator(_key)]
    """The key, as it is sent."""
    where: Literal["header", "query"] = "header"
    """Where it is sent."""

    def headers(self) -> dict[str, str]:
        """Return the headers that authorise a request."""
        return {self.name: self.value.reveal()} if self.where == "header" else {}

    def fills(self) -> tuple[Literal["header", "query"], str]:
        """Return what of a request is set by this, and nobody else may set: its place and its name."""
        return self.where, self.name


class DigestAuth(Auth):
    """A user's name and password, of which only digests are sent (RFC 7616)."""

    kind: Literal["digest"]
    username: Annotated[Secret, AfterValidator(_quotable)]
    """The user's name."""
    password: Secret
    """The user's password."""


class OAuth2Auth(Auth):
    """A token that is asked for at a token server, kept, and asked for again before it expires (RFC 6749).

    Jobs with the same credentials share it. A refresh token that the server has changed is kept
    in the state directory: the configured one may be void by then.
    """

    kind: Literal["oauth2"]
    token_url: Annotated[Url, AfterValidator(_userless)]
    """Where tokens are asked for."""
    client_id: Secret
    """Who asks."""
    client_secret: Secret | None = None
    """How the client proves that; public clients have none."""
    grant: Literal["client_credentials", "refresh_token", "password"] = "client_credentials"
    """What the token is given for."""
    refresh_token: Secret | None = None
    """The refresh token, for the grant of this name."""
    username: Secret | None = None
    """The user's name, for the grant "password"."""
    password: Secret | None = None
    """The user's password, for the grant "password"."""
    scope: str = ""
    """What the token shall be good for: words with spaces between them."""
    audience: str = ""
    """For whom the token shall be, where the token server wants to know."""
    params: Annotated[dict[str, Secret], AfterValidator(_further)] = {}  # noqa: RUF012 - pydantic copies it
    """Further parameters that the token server wants."""
    client_auth: Literal["basic", "body"] = "basic"
    """Where the client's name and secret go: into the header of basic authorisation, or among the parameters."""
    deadline: Annotated[Duration, Field(le=LONGEST_DEADLINE)] = 10.0
    """The longest that the token server may take; it has to fit into the job's deadline."""
    early: Duration = 60.0
    """How long before it expires a token is replaced; at most half of the time that it is good for."""

    @model_validator(mode="after")
    def _complete(self) -> OAuth2Auth:
        needed = {
            "client_credentials": ("client_secret",),
            "refresh_token": ("refresh_token",),
            "password": ("username", "password"),
        }
        for key in needed[self.grant]:
            if getattr(self, key) is None:
                raise ValueError(f'the grant "{self.grant}" needs a {key}')
        for grant, keys in needed.items():
            for key in keys:
                if key not in needed[self.grant] and key != "client_secret" and getattr(self, key) is not None:
                    raise ValueError(f'{key} goes with grant = "{grant}" only')
        return self

    def client(self) -> str | None:
        """Return the header's value that names the client and proves it (RFC 6749, 2.3.1); None without a secret."""
        if self.client_secret is None or self.client_auth == "body":
            return None
        return basic(quote_plus(self.client_id.reveal()), quote_plus(self.client_secret.reveal()))


KINDS: Final[dict[str, type[Auth]]] = {
    "basic": BasicAuth,
    "bearer": BearerAuth,
    "api_key": ApiKeyAuth,
    "digest": DigestAuth,
    "oauth2": OAuth2Auth,
}
