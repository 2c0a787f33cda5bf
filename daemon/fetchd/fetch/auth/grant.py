"""What is asked of a token server, and what its answer says; formed and read by oauthlib, without I/O.

oauthlib takes up to 1 MiB and is imported with the first question: most daemons have no such job.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urlencode

from fetchd.fetch.auth.kinds import OAuth2Auth, is_token

LONGEST_RETRY_AFTER: Final = 300.0

_TRANSIENT: Final = frozenset({408, 425, 429, 500, 502, 503, 504})
_CODES: Final = {
    "access_denied": False,
    "invalid_client": False,
    "invalid_grant": False,
    "invalid_request": False,
    "invalid_scope": False,
    "invalid_target": False,
    "server_error": True,
    "slow_down": True,
    "temporarily_unavailable": True,
    "unauthorized_client": False,
    "unsupported_grant_type": False,
}
"""The errors of RFC 6749 and its kin, and whether they pass by. Others are not repeated: they may hold anything."""


@dataclass(frozen=True, slots=True)
class Question:
    """One request to a token server."""

    url: str = field(repr=False)
    headers: tuple[tuple[str, str], ...] = field(repr=False)
    body: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Token:
    """What authorises requests. ``lifetime`` is in seconds, None where the server names none."""

    value: str = field(repr=False)
    lifetime: float | None = None
    refresh: str = field(default="", repr=False)
    """The refresh token that takes the place of the one that was sent; "" if there is none."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why there is no token. ``wait`` are the seconds that the server wants to be left alone for."""

    message: str
    transient: bool
    wait: float = 0.0
    code: str = ""


def question(auth: OAuth2Auth, refresh: str) -> Question:
    """Return the request for a token by ``auth``; ``refresh`` is the refresh token that counts now, if there is one."""
    from oauthlib.oauth2.rfc6749.parameters import prepare_token_request

    client = auth.client()
    secret = auth.client_secret.reveal() if auth.client_secret is not None and client is None else None
    body = prepare_token_request(
        auth.grant,
        body=urlencode({name: value.reveal() for name, value in auth.params.items()}),
        include_client_id=client is None,
        client_id=auth.client_id.reveal(),
        client_secret=secret,
        scope=auth.scope,
        audience=auth.audience,
        refresh_token=refresh,
        username=auth.username.reveal() if auth.username is not None and auth.grant == "password" else "",
        password=auth.password.reveal() if auth.password is not None and auth.grant == "password" else "",
    )
    headers = [("Accept", "application/json"), ("Content-Type", "application/x-www-form-urlencoded")]
    if client is not None:
        headers.append(("Authorization", client))
    return Question(auth.token_url.reveal(), tuple(headers), body)


def answer(status: int, wait: float, body: bytes) -> Token | Refusal:
    """Return what a token server says by ``status``, the seconds that it wants to ``wait``, and ``body``.

    What the body says is not repeated beyond the known codes: it may hold what was sent.
    """
    from oauthlib.oauth2.rfc6749.errors import OAuth2Error
    from oauthlib.oauth2.rfc6749.parameters import parse_token_response

    code = ""
    try:
        found = parse_token_response(body.decode())
    except OAuth2Error as error:
        found, code = None, str(error.error)
    except Exception:  # oauthlib expects a table of texts, and meets anything else with any exception
        found = None
    code = code if code in _CODES else ""
    if found is None or not 200 <= status <= 299:
        what = f"it answered {status} {code}".rstrip() if code or status != 200 else "what it answered holds no token"
        transient = status in _TRANSIENT or _CODES.get(code, False)
        return Refusal(what, transient, min(wait, LONGEST_RETRY_AFTER), code)
    return _token(found)


def _token(found: dict[str, object]) -> Token | Refusal:
    value, kind, lifetime = found.get("access_token"), found.get("token_type"), found.get("expires_in")
    if not isinstance(value, str) or not value or not is_token(value):
        return Refusal("what it answered as a token cannot be sent", transient=False)
    if kind is not None and not str(kind).lower().startswith("bearer"):
        return Refusal("its token is of a type other than Bearer", transient=False)
    refresh = found.get("refresh_token")
    return Token(
        value,
        float(lifetime) if isinstance(lifetime, int) and 0 < lifetime < 2**31 else None,
        refresh if isinstance(refresh, str) else "",
    )
