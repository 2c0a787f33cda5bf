"""What the process is asked by signals: to stop, and to read its configuration again."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio


class Hangups:
    """Hears SIGHUP from the first instant on, long before there is a loop: what it asks for must not be lost.

    Its default is to end the process without a word.
    """

    def __init__(self) -> None:
        self.heard = False

    def listen(self) -> None:
        """Begin to hear."""
        signal.signal(signal.SIGHUP, lambda _number, _frame: self._hear())

    def _hear(self) -> None:
        self.heard = True


@dataclass(frozen=True, slots=True)
class Signals:
    """``stop`` is set by the first SIGTERM or SIGINT, ``reload`` by each SIGHUP."""

    stop: asyncio.Event
    reload: asyncio.Event


@contextmanager
def hear(hangups: Hangups, abandon: Callable[[], None]) -> Iterator[Signals]:
    """Turn signals into events; a second one that asks to stop ends the process at once, after ``abandon``."""
    import asyncio

    loop = asyncio.get_running_loop()
    signals = Signals(asyncio.Event(), asyncio.Event())

    def stop(number: signal.Signals) -> None:
        if signals.stop.is_set():
            abandon()
            os._exit(128 + number)
        signals.stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop, number)
    loop.add_signal_handler(signal.SIGHUP, signals.reload.set)
    if hangups.heard:
        signals.reload.set()
    try:
        yield signals
    finally:
        # The handlers stay: between here and the end of the process a second signal still counts.
        signals.stop.set()
