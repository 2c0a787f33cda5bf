"""Asks a running daemon."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, Final

from fetchd.control.wire import BEAT_EVERY, line_of
from fetchd.errors import UnavailableError
from fetchd.whereabouts import address_in, anothers

PATIENCE: Final = 5 * BEAT_EVERY
"""Seconds of silence after which a daemon does not answer."""


def ask(state_dir: Path, request: dict[str, Any], *, patience: float = PATIENCE) -> Iterator[dict[str, Any]]:
    """Send ``request`` to the daemon whose state is in ``state_dir``, and yield what it says, message by message.

    The last one holds the exit status, as ``exit``.

    Raises:
        UnavailableError: there is no daemon, it may not be asked, or it does not answer.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as channel:
        channel.settimeout(patience)
        try:
            with address_in(state_dir) as address:
                channel.connect(address)
            channel.sendall(line_of(request))
            with channel.makefile("rb") as answer:
                yield from _messages(answer, state_dir)
        except (FileNotFoundError, NotADirectoryError, ConnectionRefusedError):
            message = f"no fetchd runs with the state directory {state_dir}; name another one's by --state-dir"
            raise UnavailableError(message) from None
        except PermissionError:
            raise UnavailableError(anothers(state_dir)) from None
        except TimeoutError:
            message = f"the fetchd with the state directory {state_dir} does not answer within {patience:g} s"
            raise UnavailableError(message) from None
        except OSError as error:
            raise UnavailableError(f"the fetchd with the state directory {state_dir}: {error.strerror}") from None


def _messages(answer: IO[bytes], state_dir: Path) -> Iterator[dict[str, Any]]:
    for line in answer:
        try:
            message = json.loads(line)
        except ValueError:
            break
        if "beat" not in message:
            yield message
        if "exit" in message:
            return
    raise UnavailableError(f"the fetchd with the state directory {state_dir} ended before it had answered")
