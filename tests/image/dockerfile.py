"""A Dockerfile, read into its stages."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(slots=True)
class Stage:
    """One stage: what it starts from, its name, and its instructions in order."""

    base: str
    name: str
    instructions: list[tuple[str, str]] = field(default_factory=list)

    def all(self, word: str) -> list[str]:
        """Return what follows each instruction ``word``."""
        return [rest for found, rest in self.instructions if found == word]

    def words(self, word: str) -> list[str]:
        """Return the list that the last instruction ``word`` has, in its JSON form."""
        words: list[str] = json.loads(self.all(word)[-1])
        return words


def stages_of(path: Path) -> tuple[dict[str, str], list[Stage]]:
    """Return the arguments before the first stage, with their defaults, and the stages."""
    text = re.sub(r"^\s*#.*\n", "", path.read_text(), flags=re.MULTILINE)
    arguments: dict[str, str] = {}
    stages: list[Stage] = []
    for line in re.sub(r"\\\n", " ", text).splitlines():
        word, _, rest = line.strip().partition(" ")
        if word == "FROM":
            base, _, name = rest.partition(" AS ")
            stages.append(Stage(base, name))
        elif word and stages:
            stages[-1].instructions.append((word, " ".join(rest.split())))
        elif word == "ARG":
            name, _, value = rest.partition("=")
            arguments[name] = value
    return arguments, stages
