"""What runs in a worker process: calls one function after the other, until its parent hangs up.

It is started by its path and imports little: the process shall carry what the user's code needs, and none of ours.
"""

from __future__ import annotations

import os
import pickle
import select
import signal
import sys
import threading
from typing import Any, Final

HEADER: Final = 9
"""A message is one byte, whether what follows is a failure's text, then eight of length, then what follows."""


def frame(payload: bytes, *, failed: bool = False) -> bytes:
    """Return what goes ahead of ``payload``."""
    return bytes([failed]) + len(payload).to_bytes(8, "big")


def unframe(header: bytes) -> tuple[bool, int]:
    """Return whether a failure follows ``header``, and how many bytes."""
    return bool(header[0]), int.from_bytes(header[1:], "big")


def main(channel: int) -> None:
    """Serve the parent at the other end of ``channel``; its first message is where modules are found."""
    os.set_inheritable(channel, False)
    threading.Thread(target=_follow_parent, args=(channel,), daemon=True).start()
    sys.path[:] = pickle.loads(_receive(channel))  # noqa: S301 - from the process that started this one
    while True:
        failed, payload = answer(_receive(channel))
        _send(channel, frame(payload, failed=failed))
        _send(channel, payload)


def answer(request: bytes) -> tuple[bool, bytes]:
    """Call what ``request`` names; return whether that failed, and the pickled result or the failure's text."""
    try:
        function, argument, wanted = pickle.loads(request)  # noqa: S301 - from the process that started this one
        value = function(argument)
        if hasattr(value, "__await__"):
            return True, b"the function returned an awaitable: only what is defined with async def is awaited"
        return False, pickle.dumps(value if wanted else None)
    except BaseException as error:  # sys.exit as well: it ends the call, and neither this process nor the daemon
        return True, _told(error)


def _told(error: BaseException) -> bytes:
    try:
        from fetchd.usercode import own_traceback

        return own_traceback(error).encode("utf-8", "replace")
    except Exception:
        return type(error).__name__.encode("utf-8", "replace")  # an exception that breaks whoever looks at it


def _follow_parent(channel: int) -> None:
    """Die, with everything that the user's code started, as soon as the parent has hung up, however it ended."""
    poll = select.poll()
    poll.register(channel, 0)
    poll.poll()
    os.killpg(0, signal.SIGKILL)


def _receive(channel: int) -> bytes:
    _, length = unframe(_read(channel, HEADER))
    return _read(channel, length)


def _read(channel: int, size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        piece = os.read(channel, min(size - len(data), 2**20))
        if not piece:
            os._exit(0)
        data += piece
    return bytes(data)


def _send(channel: int, data: bytes) -> None:
    rest: Any = memoryview(data)
    while rest:
        rest = rest[os.write(channel, rest) :]


if __name__ == "__main__":
    main(int(sys.argv[1]))
