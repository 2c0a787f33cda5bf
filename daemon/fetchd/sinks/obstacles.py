"""What keeps sinks from taking results on this machine, as far as that can be told without one."""

from __future__ import annotations

import itertools
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from fetchd.job import SinkOptions
from fetchd.secret import Secret
from fetchd.sinks.command import CommandOptions
from fetchd.sinks.file import FileOptions
from fetchd.sinks.sqlite import SqliteOptions


def obstacles(options: SinkOptions, out: Path) -> Iterator[str]:
    """Yield what is in the way of the sink that ``options`` define; ``out`` is where relative paths start from.

    Nothing is made or changed. It holds for the user who asks.
    """
    look = _LOOKS.get(options.kind)
    if look is not None:
        yield from look(options, out)


def missing_program(argv: tuple[str, ...], folder: Path, env: Mapping[str, Secret]) -> Iterator[str]:
    """Yield that there is no program to be started in ``folder``, if that is so."""
    name = str(folder / argv[0]) if os.sep in argv[0] else argv[0]
    path = env["PATH"].reveal() if "PATH" in env else None
    if shutil.which(name, path=path) is None:
        yield f"there is no program {argv[0]} that may be executed"


def _command(options: CommandOptions, out: Path) -> Iterator[str]:
    folder = out / options.cwd if options.cwd else out
    if options.cwd and not os.path.isdir(folder):
        yield f"there is no folder {folder}"
    else:
        yield from missing_program(options.argv, folder, options.env)


def _file(options: FileOptions, out: Path) -> Iterator[str]:
    if "{" not in options.path:
        yield from _taken(out / options.path, writable=options.mode == "append")
    # What a placeholder stands for only a delivery tells; up to there the folder is known.
    known = itertools.takewhile(lambda part: "{" not in part, Path(options.path).parent.parts)
    yield from _unwritable(out.joinpath(*known))


def _sqlite(options: SqliteOptions, out: Path) -> Iterator[str]:
    yield from _taken(out / options.path, writable=True)
    yield from _unwritable((out / options.path).parent)


def _taken(path: Path, *, writable: bool) -> Iterator[str]:
    # What may not be looked at raises with pathlib; that is told of its folder.
    there = os.path.exists(path)
    if there and not os.path.isfile(path):
        yield f"{path} is not a file"
    elif writable and there and not os.access(path, os.W_OK):
        yield f"{path} may not be written to"


def _unwritable(folder: Path) -> Iterator[str]:
    """Yield that nothing can be put into ``folder``, or into the one that it would be made in."""
    while not os.path.lexists(folder) and folder != folder.parent:
        folder = folder.parent
    if not os.path.isdir(folder):
        yield f"{folder} is not a folder"
    elif not os.access(folder, os.W_OK | os.X_OK):
        yield f"the folder {folder} may not be written to"


_LOOKS: Final[dict[str, Callable[[Any, Path], Iterator[str]]]] = {
    "command": _command,
    "file": _file,
    "sqlite": _sqlite,
}
