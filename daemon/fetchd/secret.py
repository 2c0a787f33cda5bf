"""Values that are never shown: where they come from, and how they stay out of every output."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import core_schema

MASK: Final = "[redacted]"
INLINE: Final = "inline"
"""The origin of a secret that is written in the configuration file itself."""
LONGEST: Final = 2**20
"""Bytes of a secret at the most: a path that leads to a device shall not fill the memory."""
EARLIER_KEPT: Final = 10_000
"""Secrets that are taken out although they were replaced; a daemon that rotates them for years forgets the oldest."""
PASSING_KEPT: Final = 4096
"""Secrets known at one time of those that come up while the daemon runs."""
SHORTEST_SEARCHED: Final = 4
"""Shorter secrets are masked where they are shown as values, but not hunted in free text, which they would shred."""

_SENSITIVE: Final = re.compile(
    r"auth|cookie|credential|key|pass|pwd|secret|session|\bsig|signature|token", re.IGNORECASE
)


@dataclass(frozen=True, slots=True)
class SecretSource:
    """Where secrets may be read from: the environment, and the folder that relative files start from."""

    environment: Mapping[str, str]
    folder: Path

    def read(self, kind: str, name: str) -> str:
        """Return the secret ``name`` of ``kind`` ``env``, ``file`` or ``credential``, without a trailing line end.

        Raises:
            ValueError: it is not set, cannot be read, or is empty; the message names the remedy, never a value.
        """
        if kind == "env":
            value = self.environment.get(name)
            if value is None:
                raise ValueError(f"the environment variable {name} is not set")
        else:
            value = self._file(self.path(kind, name))
        if not value:
            raise ValueError(f"the {kind} {name} is empty")
        if not value.isascii() and any("\ud800" <= letter <= "\udfff" for letter in value):
            raise ValueError(f"the {kind} {name} is not UTF-8 text")
        return value

    def path(self, kind: str, name: str) -> Path:
        """Return the file that a secret of ``kind`` ``file`` or ``credential`` is in.

        Raises:
            ValueError: there can be none; the message names the remedy.
        """
        if kind == "file":
            return self.folder / name
        folder = self.environment.get("CREDENTIALS_DIRECTORY")
        if not folder:
            raise ValueError(
                f"$CREDENTIALS_DIRECTORY is not set: a service has it by LoadCredential={name}:PATH in its unit; "
                "by hand, set it to the folder that the file is in"
            )
        if os.sep in name or name in {".", ".."}:
            raise ValueError("a credential is a name, not a path")
        return Path(folder) / name

    @staticmethod
    def _file(path: Path) -> str:
        try:
            with open(path, "rb", opener=_at_once) as file:
                if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                    raise ValueError(f"cannot read {path}: it is a pipe, a device or the like, not a regular file")
                content = file.read(LONGEST + 1)
            if len(content) > LONGEST:
                raise ValueError(f"cannot read {path}: it is longer than 1MiB")
            return content.decode().rstrip("\r\n")
        except UnicodeDecodeError:
            raise ValueError(f"cannot read {path}: it is not UTF-8 text") from None
        except OSError as error:
            raise ValueError(f"cannot read {path}: {error.strerror}") from None


def _at_once(path: str, flags: int) -> int:
    """Open ``path`` without waiting for whoever would write into a pipe."""
    return os.open(path, flags | os.O_NONBLOCK)


class Secret:
    """A text that may be used but is never shown. In TOML: a text, or a table with one of env, file, credential."""

    __slots__ = ("_value", "origin")

    def __init__(self, value: str, origin: str = INLINE) -> None:
        self._value = value
        self.origin = origin

    def reveal(self) -> str:
        """Return the value itself; for the one place that sends it."""
        return self._value

    def masked(self) -> str:
        """Return what is shown in its place: where it comes from, never what it is."""
        return MASK if self.origin == INLINE else f"{MASK[:-1]}: {self.origin}]"

    def __repr__(self) -> str:
        return f"Secret({self.origin})"

    __str__ = __repr__

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and (self._value, self.origin) == (other._value, other.origin)

    def __hash__(self) -> int:
        return hash((self._value, self.origin))

    @classmethod
    def __get_pydantic_core_schema__(cls, _source: Any, _handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        shown = core_schema.plain_serializer_function_ser_schema(cls.masked, when_used="json")
        return core_schema.with_info_plain_validator_function(cls._validate, serialization=shown)

    @classmethod
    def __get_pydantic_json_schema__(
        cls, _schema: core_schema.CoreSchema, _handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        table = {
            "type": "object",
            "properties": {
                "env": {"type": "string", "description": "The environment variable that holds it."},
                "file": {"type": "string", "description": "The file that holds it; from the configuration's folder."},
                "credential": {"type": "string", "description": "The systemd credential that holds it."},
            },
            "additionalProperties": False,
            "minProperties": 1,
            "maxProperties": 1,
        }
        return {"anyOf": [{"type": "string"}, table], "description": "A text, or where to read it from; never shown."}

    @classmethod
    def _validate(cls, value: Any, info: core_schema.ValidationInfo) -> Secret:
        if isinstance(value, Secret):
            return value
        if isinstance(value, str):
            return cls(value)
        if not isinstance(value, dict) or len(value) != 1 or next(iter(value)) not in {"env", "file", "credential"}:
            raise ValueError('write a text, or { env = "NAME" }, { file = "path" } or { credential = "NAME" }')
        kind, name = next(iter(value.items()))
        if not isinstance(name, str) or not name:
            raise ValueError(f"{kind} takes a name, as a text")
        source = (info.context or {}).get("secrets")
        if not isinstance(source, SecretSource):
            return cls("", f"{kind} {name}")
        return cls(source.read(kind, name), f"{kind} {name}")


def is_sensitive(name: str) -> bool:
    """Return whether a header or parameter called ``name`` is taken for a secret even when written inline."""
    return bool(_SENSITIVE.search(name))


class Passing:
    """Secrets that come up while the daemon runs, such as tokens: thousands of them, each there for an hour.

    To learn one costs nothing, and what it costs to look for them grows with the text alone: there is no pattern that
    would have to be put together anew.
    """

    def __init__(self, most: int = PASSING_KEPT) -> None:
        self._most = most
        self._words: dict[str, None] = {}
        self._by_start: dict[str, tuple[str, ...]] = {}

    def add(self, secret: str) -> None:
        """Learn ``secret``, also as part of an address; forget the oldest when there are too many."""
        for word in {secret, quote(secret, safe="")}:
            if len(word) < SHORTEST_SEARCHED:
                continue
            if word in self._words:
                del self._words[word]
            else:
                start = word[:SHORTEST_SEARCHED]
                same = (word, *self._by_start.get(start, ()))
                self._by_start[start] = tuple(sorted(same, key=len, reverse=True))
            self._words[word] = None
        while len(self._words) > self._most:
            self._forget(next(iter(self._words)))

    def clean(self, text: str) -> str:
        """Return ``text`` with each secret replaced. It may be called from any thread."""
        starts = self._by_start
        if not starts:
            return text
        kept: list[str] = []
        done = 0
        for place in range(len(text) - SHORTEST_SEARCHED + 1):
            words = starts.get(text[place : place + SHORTEST_SEARCHED])
            if words is None or place < done:
                continue
            if word := next((word for word in words if text.startswith(word, place)), None):
                kept += [text[done:place], MASK]
                done = place + len(word)
        return "".join([*kept, text[done:]])

    def _forget(self, word: str) -> None:
        del self._words[word]
        start = word[:SHORTEST_SEARCHED]
        if left := tuple(other for other in self._by_start[start] if other != word):
            self._by_start[start] = left
        else:
            del self._by_start[start]


class Redactor:
    """Takes secrets out of any value that is about to be shown."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        self._passing = Passing()
        self._words: dict[str, None] = {}
        self._pattern: re.Pattern[str] | None = None
        self._idle = True
        self.learn(secrets)

    def learn(self, secrets: Iterable[str]) -> None:
        """Take ``secrets`` out too, from here on; what was one before remains one. It may be called from any thread."""
        words = dict.fromkeys(word for word in secrets if len(word) >= SHORTEST_SEARCHED)
        if words.keys() <= self._words.keys():
            return
        earlier = [word for word in self._words if word not in words]
        known = dict.fromkeys(earlier[-EARLIER_KEPT:]) | words
        self._pattern = re.compile(_any_of(known, levels=6))
        re.purge()  # hundreds of earlier ones would be kept, secrets and all
        self._idle = False
        self._words = known

    def note(self, secret: str) -> None:
        """Take ``secret`` out too, one of many that come and go while the daemon runs; the newest of them are known."""
        self._passing.add(secret)
        self._idle = False

    def __call__(self, value: Any) -> Any:
        """Return ``value`` with each secret replaced; texts, and texts within lists, tuples and tables."""
        if self._idle:
            return value
        return self._clean(value)

    def _clean(self, value: Any) -> Any:
        if isinstance(value, str):
            return self._passing.clean(value if self._pattern is None else self._pattern.sub(MASK, value))
        if isinstance(value, Mapping):
            return {self._clean(key): self._clean(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [self._clean(item) for item in value]
        return value


def _any_of(words: Iterable[str], *, levels: int) -> str:
    """Return a pattern for the longest of ``words``.

    It branches by first letters, ``levels`` deep: a plain alternative of thousands is tried one by one at each letter
    of each line.
    """
    groups: dict[str, list[str]] = {}
    for word in sorted(words, key=len, reverse=True):
        groups.setdefault(word[:1], []).append(word)
    return "|".join(_with_first(group, levels) for group in groups.values())


def _with_first(words: list[str], levels: int) -> str:
    """Return a pattern for the longest of ``words``, which begin with the same letter and stand in that order."""
    if len(words) == 1 or levels == 0:
        return "|".join(map(re.escape, words))
    first, last = min(words), max(words)
    same = next((index for index, pair in enumerate(zip(first, last, strict=False)) if pair[0] != pair[1]), len(first))
    prefix = first[:same]
    rests = [word.removeprefix(prefix) for word in words if word != prefix]
    optional = "?" if len(rests) < len(words) else ""
    return f"{re.escape(prefix)}(?:{_any_of(rests, levels=levels - 1)}){optional}"
