"""Messages on their way: kept until they are taken, tried again while they are not, in order for each notifier."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final

import structlog

from fetchd.clock import Clock
from fetchd.errors import StoreError
from fetchd.notifiers.kinds import open_notifier
from fetchd.notifiers.message import Message, Notifier, NotifierOptions, NotifyError
from fetchd.run import new_run_id
from fetchd.sinks import Resources
from fetchd.store import Store

log = structlog.get_logger()

PREFIX: Final = "alerts/queue/"
MOST: Final = 50
"""Messages that wait for one notifier; the oldest is dropped, and counted in the next, for another one."""
BACKOFF_FIRST: Final = 5.0
BACKOFF_LONGEST: Final = 600.0
LATE: Final = 120.0
"""Seconds after which a message says when it was written."""
GIVE_UP_AFTER: Final = 0.5
KEPT_WITHIN: Final = 2.0
"""Seconds that the store has to keep what is about to be sent."""

Wait = Callable[[asyncio.Event, float], Awaitable[None]]
"""Waits until the event is set, or for so many seconds."""


async def wait_for(event: asyncio.Event, seconds: float) -> None:
    """Wait until ``event`` is set, at most for ``seconds``."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()


@dataclass(frozen=True, slots=True)
class Box:
    """An open notifier, and the seconds that one try may take."""

    notifier: Notifier
    deadline: float


def open_boxes(notifiers: Mapping[str, NotifierOptions], resources: Resources) -> dict[str, Box]:
    """Return the open notifiers by name; they hold nothing, and need not be closed."""
    return {name: Box(open_notifier(options, resources), options.deadline) for name, options in notifiers.items()}


async def attempt(box: Box, message: Message) -> NotifyError | None:
    """Try once; return why ``message`` was not taken, None if it was."""
    try:
        async with asyncio.timeout(box.deadline):
            await box.notifier.notify(message)
    except NotifyError as error:
        return error
    except TimeoutError:
        return NotifyError(f"it was not taken within {box.deadline:g} s")
    except Exception as error:
        log.exception("internal_error", alert=message.id)
        return NotifyError(f"{type(error).__name__}: {error}")
    return None


async def try_notifiers(boxes: Mapping[str, Box], host: str, now: datetime) -> dict[str, str]:
    """Send a message to each of ``boxes`` that says it is a test; return why it was not taken, empty if it was."""
    title = f"fetchd on {host}: this is a test"
    message = Message(new_run_id(), now, host, "test", title, "Somebody has asked whether messages arrive here.")
    errors = await asyncio.gather(*(attempt(box, message) for box in boxes.values()))
    return {name: str(error or "") for name, error in zip(boxes, errors, strict=True)}


@dataclass(slots=True)
class _Queue:
    """What one notifier has still to be given."""

    waiting: deque[Message] = field(default_factory=deque)
    failures: int = 0
    due: float = 0.0
    dropped: int = 0
    trying: asyncio.Task[None] | None = None


class Posts:
    """Gives messages to notifiers. Nothing that happens to a notifier holds anybody up but itself.

    ``counts`` are the messages by notifier and what became of them: sent, failed (a try of one), dead, dropped.
    """

    def __init__(
        self, store: Store, clock: Clock, *, jitter: Callable[[], float] = random.random, wait: Wait = wait_for
    ) -> None:
        self._store = store
        self._clock = clock
        self._jitter = jitter
        self._wait = wait
        self._boxes: Mapping[str, Box] = {}
        self._retry_for = 86400.0
        self._queues: dict[str, _Queue] = {}
        self._changed = asyncio.Event()
        self.counts: Counter[tuple[str, str]] = Counter()

    @property
    def names(self) -> tuple[str, ...]:
        """Return the notifiers that there are."""
        return tuple(self._boxes)

    async def load(self) -> None:
        """Learn what an earlier process has left to be sent."""
        try:
            found = await self._store.notes(PREFIX)
        except StoreError:
            return  # the store says so itself
        for name, value in found.items():
            queue = self._queues.setdefault(name.removeprefix(PREFIX), _Queue())
            queue.waiting.extendleft(reversed(_messages(value)))
        self._changed.set()

    def replace(self, boxes: Mapping[str, Box], retry_for: float) -> None:
        """Let these be the notifiers from now on; what was meant for others is given up."""
        self._boxes, self._retry_for = dict(boxes), retry_for
        for name in [name for name in self._queues if name not in boxes]:
            queue = self._queues.pop(name)
            if queue.trying is not None:
                queue.trying.cancel()
            for message in queue.waiting:
                self._dead(name, message, "the configuration has no such notifier any more")
            self._store.note(PREFIX + name, None)
        for queue in self._queues.values():
            queue.due = 0.0  # what was wrong with its options may be mended
        self._changed.set()

    def put(self, name: str, message: Message) -> None:
        """Queue ``message`` for the notifier called ``name``."""
        queue = self._queues.setdefault(name, _Queue())
        queue.waiting.append(message)
        if len(queue.waiting) > MOST:
            # The first one is being tried: what it is must not change under the try.
            del queue.waiting[1]
            queue.dropped += 1
            self.counts[name, "dropped"] += 1
        self._keep(name)
        self._changed.set()

    async def run(self) -> None:
        """Send what is due, until cancelled."""
        while True:
            self._changed.clear()
            now = self._clock.monotonic()
            self._start_due(now)
            wake = min((queue.due for queue in self._queues.values() if _waits(queue)), default=now + 60.0)
            await self._wait(self._changed, min(60.0, max(0.05, wake - now)))

    async def drain(self, seconds: float) -> None:
        """Send what is due, for at most ``seconds``; the rest is kept for the next process."""
        self._start_due(self._clock.monotonic())
        tasks = {queue.trying for queue in self._queues.values() if queue.trying is not None}
        if tasks:
            await asyncio.wait(tasks, timeout=seconds)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=GIVE_UP_AFTER)

    def _start_due(self, now: float) -> None:
        for name, queue in self._queues.items():
            if _waits(queue) and queue.due <= now and name in self._boxes:
                queue.trying = asyncio.create_task(self._send(name, queue), name=f"notify {name}")

    async def _send(self, name: str, queue: _Queue) -> None:
        """Send what waits for one notifier, in order, until it does not take one."""
        try:
            await self._written(name)
            while queue.waiting and name in self._boxes:
                message, dropped = queue.waiting[0], queue.dropped
                error = await attempt(self._boxes[name], self._as_sent(message, dropped))
                if not self._settled(name, queue, error):
                    return
                queue.dropped -= 0 if error else dropped
        finally:
            queue.trying = None
            self._changed.set()

    async def _written(self, name: str) -> None:
        """Wait until all that was noted so far is kept.

        Else a process that is killed once a message is sent would not know what people know, and never tell them that
        it is over. A store that fails, or stalls, is no reason to say nothing.
        """
        with contextlib.suppress(StoreError, TimeoutError):
            async with asyncio.timeout(KEPT_WITHIN):
                await self._store.notes(PREFIX + name)

    def _settled(self, name: str, queue: _Queue, error: NotifyError | None) -> bool:
        """Note how a try ended; return whether the message is done with."""
        message = queue.waiting[0]
        if error is None:
            self.counts[name, "sent"] += 1
            log.info("alert_sent", notifier=name, alert=message.id, title=message.title, attempts=queue.failures + 1)
        else:
            self.counts[name, "failed"] += 1
            queue.failures += 1
            age = (self._clock.now() - message.time).total_seconds()
            delay = min(BACKOFF_LONGEST, BACKOFF_FIRST * 2.0 ** min(queue.failures - 1, 16))
            delay *= 0.5 + self._jitter() / 2
            log.warning("alert_failed", notifier=name, alert=message.id, attempts=queue.failures, message=str(error))
            if not error.permanent and age < self._retry_for:
                queue.due = self._clock.monotonic() + delay
                return False
            self._dead(name, message, str(error))
        queue.failures, queue.due = 0, 0.0
        queue.waiting.popleft()
        self._keep(name)
        return True

    def _as_sent(self, message: Message, dropped: int) -> Message:
        """Return ``message`` with what has happened to it and to those before it."""
        lines = [message.text] if message.text else []
        if (self._clock.now() - message.time).total_seconds() > LATE:
            lines.append(f"This was to be told at {message.time:%Y-%m-%d %H:%M:%S} UTC, and could not be before.")
        if dropped:
            lines.append(f"{dropped} messages before this one could not be told.")
        return replace(message, text="\n".join(lines), dropped=dropped)

    def _dead(self, name: str, message: Message, why: str) -> None:
        self.counts[name, "dead"] += 1
        log.error("notification_dead", notifier=name, alert=message.id, title=message.title, message=why)

    def _keep(self, name: str) -> None:
        waiting = self._queues[name].waiting
        value = json.dumps([message.payload() for message in waiting]) if waiting else None
        self._store.note(PREFIX + name, value)


def _waits(queue: _Queue) -> bool:
    return bool(queue.waiting) and queue.trying is None


def _messages(value: str) -> list[Message]:
    """Return the messages that were kept as ``value``; none if another version of the program has kept them."""
    try:
        return [Message.from_payload(payload) for payload in json.loads(value)]
    except (KeyError, TypeError, ValueError) as error:
        log.warning("notes_unreadable", message=f"messages that were to be sent are lost: {error}")
        return []
