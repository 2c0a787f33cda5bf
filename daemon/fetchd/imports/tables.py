"""From what a command wanted to a job's table, as a configuration holds it."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal
from urllib.parse import parse_qsl, unquote_plus, urlencode, urlsplit

from fetchd.config.written import toml_value
from fetchd.fetch.placeholders import escaped
from fetchd.imports.curl import FORM
from fetchd.imports.marks import OPEN, shown, whole
from fetchd.imports.wanted import Wanted
from fetchd.job import LONGEST_DEADLINE
from fetchd.secret import is_sensitive
from fetchd.units import format_duration

Secrets = Literal["inline", "env"]
"""Whether a secret that a command holds stands in the job too, or in a variable that the job names."""

_DEADLINE: Final = 30.0
_HOOKS: Final = re.compile(
    r"https?://(?:hooks\.slack\.com/|(?:ptb\.|canary\.)?discord(?:app)?\.com/api/webhooks/|api\.telegram\.org/bot|"
    r"[^/]*\.webhook\.office\.com/|hc-ping\.com/|outlook\.office\.com/webhook/)"
)
_NAMED: Final = re.compile(r"""([\w.-]+)["']?\s*[=:>]\s*["']?[^\s"',}<&]""")
"""A name with something behind it, in JSON, XML, forms and the like."""
_NOT_IN_NAMES: Final = re.compile(r"[^A-Z0-9]+")


@dataclass(frozen=True, slots=True)
class When:
    """When a job runs. ``gap`` are the seconds from one slot to the next, at the least."""

    keys: Mapping[str, str]
    gap: float


@dataclass(slots=True)
class _Texts:
    """Puts texts in their places: variables and, where that is wanted, secrets become what the job reads elsewhere."""

    job: str
    secrets: Secrets
    wanted: Wanted
    taken: dict[str, str] = field(default_factory=dict)

    def plain(self, key: str, text: str) -> Any:
        """Return ``text``, or where it is read from if a variable stands in it."""
        if OPEN not in text:
            return text
        if name := whole(text):
            return {"env": name}
        name = self._name(key)
        self.wanted.note(f'set {name} to "{shown(text)}": a variable is all of a value, or nothing of it')
        return {"env": name}

    def secret(self, key: str, text: str) -> Any:
        """Return what stands for ``text``, which nobody should see."""
        if OPEN in text or not text:
            return self.plain(key, text)
        if self.secrets == "env":
            return self.elsewhere(key)
        name = self._name(key)
        self.wanted.note(f'{key} is a secret: better set {name}, and write {{ env = "{name}" }} in its place')
        return text

    def elsewhere(self, key: str) -> Any:
        """Return where the ``key`` is read from, which is not printed."""
        name = self._name(key)
        self.wanted.note(f"set {name} to the {key} that the command holds")
        return {"env": name}

    def holds(self, key: str) -> None:
        """Say that a secret is among what stands at ``key``, and what to write instead."""
        name = self._name("body")
        more = ", with the header Content-Type" if key == "json" else ""
        better = f'write body = {{ env = "{name}" }} in its place{more}'
        self.wanted.note(f"{key} holds a secret: better set {name} to all of it, and {better}")

    def _name(self, key: str) -> str:
        bare = _NOT_IN_NAMES.sub("_", f"{self.job}_{key}".upper()).strip("_")
        name = bare if bare[:1].isalpha() else f"JOB_{bare}"
        while self.taken.setdefault(name, key) != key:
            name += "_"
        return name


def table(wanted: Wanted, name: str, when: When, secrets: Secrets = "inline") -> dict[str, Any]:
    """Return the table of the job called ``name``; what is to be said of it is added to the notes of ``wanted``."""
    texts = _Texts(name, secrets, wanted)
    made: dict[str, Any] = {"url": _url(wanted, texts), **when.keys}
    if wanted.method not in {None, "GET"} or wanted.body is not None:
        made["method"] = wanted.method or "GET"
    headers, body = _headers(wanted), _body(wanted, texts)
    if "json" in body:
        headers.pop("content-type", None)
    auth = _auth(wanted, headers, texts)
    if headers:
        made["headers"] = {shown_name: _header(shown_name, value, texts) for shown_name, value in headers.values()}
    made |= body | ({"auth": auth} if auth else {}) | _times(wanted, when.gap)
    for key, value in wanted.keys.items():
        made[key] = _key(key, value, texts)
    if wanted.tls:
        made["tls"] = _tls(wanted.tls, texts)
    if wanted.sinks:
        made["sinks"] = wanted.sinks
    return made


def _url(wanted: Wanted, texts: _Texts) -> Any:
    url = wanted.url
    try:
        pairs = parse_qsl(urlsplit(url).query)
    except ValueError:
        pairs = []
    secret = any(value and not whole(value) and is_sensitive(name) for name, value in pairs)
    if OPEN in url:
        return texts.elsewhere("url") if secret and texts.secrets == "env" else texts.plain("url", url)
    url = escaped(url)
    return texts.secret("url", url) if secret or _HOOKS.match(url) else url


def _headers(wanted: Wanted) -> dict[str, tuple[str, str]]:
    """Return the headers by name in small letters, each once."""
    made: dict[str, tuple[str, str]] = {}
    for name, value in wanted.headers:
        small = name.lower()
        if small == "host" and small in made:
            wanted.note("of several Host headers curl sends the first")
            continue
        if small in made:
            wanted.note(f"the header {name} is sent once, with both values (RFC 9110, 5.3)")
            value = f"{made[small][1]}{'; ' if small == 'cookie' else ', '}{value}"
            name = made[small][0]
        made[small] = (name, value)
    if wanted.body is not None and wanted.content_type and "content-type" not in made:
        made["content-type"] = ("Content-Type", wanted.content_type)
    return made


def _header(name: str, value: str, texts: _Texts) -> Any:
    return texts.secret(name, value) if is_sensitive(name) else texts.plain(name, value)


def _auth(wanted: Wanted, headers: dict[str, tuple[str, str]], texts: _Texts) -> dict[str, Any] | None:
    _, header = headers.get("authorization", ("", ""))
    kind, _, token = header.partition(" ")
    if kind == "Bearer" and (whole(token) or re.fullmatch(r"[\x21-\x7e]+", token)):
        del headers["authorization"]
        return {"kind": "bearer", "token": texts.secret("token", token)}
    if not wanted.auth:
        return None
    kind = wanted.auth["kind"]
    if kind == "bearer":
        return {"kind": kind, "token": texts.secret("token", wanted.auth["token"])}
    username, password = texts.plain("username", wanted.auth["username"]), wanted.auth["password"]
    if "asks" in wanted.auth:
        given: Any = {"env": texts._name("password")}
        wanted.note(f"the command asks for the password: set {given['env']} to it")
        if OPEN in wanted.auth["username"]:
            wanted.note(f"{shown(wanted.auth['username'])} must not hold the password too: part them at the colon")
    else:
        given = texts.secret("password", password)
    return {"kind": kind, "username": username, "password": given}


def _body(wanted: Wanted, texts: _Texts) -> dict[str, Any]:
    text = wanted.body
    if text is None:
        return {}
    if wanted.body_file is not None:
        wanted.note(f"{wanted.body_file} is read when the configuration is, not for each run")
        return {"body": {"file": wanted.body_file}}
    media = wanted.header("content-type") or wanted.content_type
    if media == FORM and (form := _form(text)) is not None:
        if OPEN in text:
            wanted.note("a variable in the form is percent-encoded; curl sends it as it is")
        return {"form": {name: _field(name, value, texts) for name, value in form.items()}}
    secret = _holds_secret(text)
    if secret and texts.secrets == "env":
        return {"body": texts.elsewhere("body")}
    if media == "application/json" and (document := _document(text)) is not None:
        if secret:
            texts.holds("json")
        return {"json": document}
    if secret and OPEN not in text:
        texts.holds("body")
    return {"body": escaped(text) if OPEN not in text else texts.plain("body", text)}


def _field(name: str, value: str, texts: _Texts) -> Any:
    if OPEN in value:
        return texts.plain(name, value)
    secret = is_sensitive(name) or _holds_secret(value)
    return texts.secret(name, escaped(value)) if secret else escaped(value)


def _holds_secret(text: str) -> bool:
    return any(is_sensitive(name) for name in _NAMED.findall(text))


def _form(text: str) -> dict[str, str] | None:
    """Return the fields whose encoding is just ``text``, variables being whole values; None if there are none such."""
    made: dict[str, str] = {}
    for piece in text.split("&"):
        name, sign, value = piece.partition("=")
        if not sign or OPEN in name or (OPEN in value and not whole(value)):
            return None
        name = unquote_plus(name)
        if name in made or not name:
            return None
        made[name] = value if OPEN in value else unquote_plus(value)
    plain = {name: value for name, value in made.items() if OPEN not in value}
    written = "&".join(piece for piece in text.split("&") if OPEN not in piece)
    return made if urlencode(plain) == written else None


def _document(text: str) -> Any:
    """Return the JSON that is sent as just ``text``, if TOML can hold it; else None."""
    if OPEN in text:
        return None
    try:
        document = json.loads(text)
        if not isinstance(document, dict | list):
            return None
        same = json.dumps(document, ensure_ascii=False, separators=(",", ":")) == text
        kept = tomllib.loads(f"json = {toml_value(document)}")["json"] if same else None
        again = json.dumps(kept, ensure_ascii=False, separators=(",", ":"))
    except (ValueError, RecursionError):
        return None
    return _escaped(document) if same and again == text else None


def _escaped(value: Any) -> Any:
    if isinstance(value, str):
        return escaped(value)
    if isinstance(value, dict):
        return {name: _escaped(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_escaped(item) for item in value]
    return value


def _times(wanted: Wanted, gap: float) -> dict[str, Any]:
    """Return deadline and timeout; none is longer than what it has to fit into."""
    made: dict[str, Any] = {}
    phases = {"connect": wanted.connect, "read": wanted.silence, "write": wanted.silence}
    named = {phase: seconds for phase, seconds in phases.items() if seconds is not None}
    most = min(gap, LONGEST_DEADLINE)
    bound = min(_DEADLINE, most)
    deadline = wanted.deadline
    if deadline is None and named and max(named.values()) > bound:
        deadline = max(named.values())
        wanted.note("the deadline is the longest timeout: without one, 30s would cut it off")
    if deadline is not None:
        if deadline > most:
            wanted.note(f"the deadline would be {format_duration(deadline)}, but a run ends before the next one begins")
        bound = min(deadline, most)
        made["deadline"] = format_duration(bound)
    if named:
        timeouts = {phase: format_duration(min(seconds, bound)) for phase, seconds in named.items()}
        alike = len(timeouts) == len(phases) and len(set(timeouts.values())) == 1
        made["timeout"] = next(iter(timeouts.values())) if alike else timeouts
    return made


def _key(key: str, value: Any, texts: _Texts) -> Any:
    if key == "proxy" and value:
        return texts.secret(key, value) if "@" in value else texts.plain(key, value)
    if key == "ping":
        return texts.secret(key, value)
    if key == "retry":
        return {name: format_duration(item) if isinstance(item, float) else item for name, item in value.items()}
    return value


def _tls(tls: Mapping[str, Any], texts: _Texts) -> dict[str, Any]:
    return {key: texts.secret(key, value) if key == "key_password" else value for key, value in tls.items()}
