"""Where the output of a command goes, as sinks."""

from __future__ import annotations

import re
import shlex
from typing import Any, Final

from fetchd.imports.addresses import path_of
from fetchd.imports.data import within
from fetchd.imports.marks import variables
from fetchd.imports.wanted import Surroundings, Wanted

_NOWHERE: Final = frozenset({"-", "/dev/stdout"})
_SWALLOWED: Final = "/dev/null"
_NAMED: Final = re.compile(r"\$\{?([A-Za-z_][A-Za-z0-9_]*)")


def file_sink(file: str, around: Surroundings, wanted: Wanted) -> None:
    """Have the result written to ``file``, as ``-o`` does."""
    if file in _NOWHERE:
        return
    wanted.shows = False
    if file == _SWALLOWED:
        return
    if variables(file):
        wanted.block("a variable stands in the name of the file that the result goes to")
        return
    path = within(around.out, file)
    if "{" in path or "}" in path or path.endswith(("/", "/.", "/..")) or path in {"", ".", ".."}:
        wanted.block(f"the file {file} cannot be the name of a result")
        return
    if path.startswith("../") or "/../" in f"/{path}":
        wanted.block(f"the file {file} leaves the folder that results are kept in: write its path in full")
        return
    if not path.startswith("/"):
        wanted.note(f"{path} is in the folder out of the state directory now")
    wanted.sinks.append({"kind": "file", "path": path})


def append_sink(file: str, around: Surroundings, wanted: Wanted) -> None:
    """Have the result added to ``file``, as ``>>`` does."""
    wanted.shows = False
    if file == _SWALLOWED:
        return
    if variables(file):
        wanted.block("a variable stands in the name of the file that the result goes to")
        return
    wanted.note('a file sink with mode = "append" would write each result as a line of JSON; cat keeps it as it is')
    shell_sink(f"cat >> {shlex.quote(within(around.out, file))}", around, wanted)


def shell_sink(line: str, around: Surroundings, wanted: Wanted) -> None:
    """Have the result piped to the command line ``line``."""
    wanted.shows = False
    sink: dict[str, Any] = {"kind": "command", "argv": [around.shell, "-c", line]}
    if around.out is not None:
        sink["cwd"] = around.out
    else:
        wanted.note("the command starts in the folder out of the state directory")
    named = set(_NAMED.findall(line))
    if values := {name: value for name, value in around.known.items() if name in named | {"PATH"}}:
        sink["env"] = values
    if named - set(around.known):
        wanted.note("a command has only the variables that its sink names in env, besides PATH, HOME and the like")
    wanted.sinks.append(sink)


def remote_name(url: str) -> str:
    """Return the name that a file has by its URL."""
    return path_of(url).rpartition("/")[2]
