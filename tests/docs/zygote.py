"""Starts ``fetchd`` for the tests as often as they like: a process that has imported it all, and forks.

It reads requests from its standard input and answers each on its standard output, one JSON object a line.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import traceback
from typing import Any, Final, NoReturn

_USED: Final = (
    *("fetchd.cli", "fetchd.app", "fetchd.once", "fetchd.past", "fetchd.config", "fetchd.config.source"),
    *(
        "fetchd.control.client",
        "fetchd.cli.standing",
        "fetchd.schedule",
        "fetchd.web.pages",
        "fetchd.metrics.exposition",
    ),
)


def serve() -> None:
    """Answer until there are no more requests."""
    for name in _USED:
        importlib.import_module(name)
    for line in sys.stdin:
        request = json.loads(line)
        pid = os.fork()
        if pid == 0:
            _become(request)
        answer = {"pid": pid} if request["background"] else {"status": _status(pid)}
        os.write(1, json.dumps(answer).encode() + b"\n")


def _become(request: dict[str, Any]) -> NoReturn:
    status = 99
    try:
        os.setsid()
        os.chdir(request["cwd"])
        os.environ.clear()
        os.environ.update(request["env"])
        output = os.open(request["output"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        nothing = os.open(os.devnull, os.O_RDONLY)
        for source, target in ((nothing, 0), (output, 1), (output, 2)):
            os.dup2(source, target)
        status = _main(request["arguments"])
        sys.stdout.flush()
        sys.stderr.flush()
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)


def _main(arguments: list[str]) -> int:
    from fetchd.cli import main

    try:
        main(arguments, prog_name="fetchd")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    return 0


def _status(pid: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


if __name__ == "__main__":
    serve()
