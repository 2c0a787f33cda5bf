"""Pings: a word at each start and end to an address that raises the alarm when no word comes (healthchecks.io)."""

from __future__ import annotations

import asyncio
import uuid
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final
from urllib.parse import urlsplit, urlunsplit

import structlog

from fetchd.body import Body
from fetchd.clock import Clock
from fetchd.errors import FetchError
from fetchd.job import Job, Timeouts
from fetchd.run import Outcome, Report, Run
from fetchd.secret import Secret
from fetchd.sinks import Outgoing, Send
from fetchd.watch import Unwatched

log = structlog.get_logger()

IN_FLIGHT: Final = 20
"""Pings under way at one time to one server; further jobs wait, each with its newest word alone."""
IN_FLIGHT_ALL: Final = 60
"""The same to all servers, the daemon's own ping aside: whoever waits for that would take the daemon for dead."""
DEADLINE: Final = 10.0
TRIES: Final = 3
TRY_AGAIN: Final = 2.0
"""Seconds before the second try; it doubles with each one."""
SAID_EVERY: Final = 300.0
DAEMON_EVERY: Final = 60.0
LONGEST_REASON: Final = 500
DAEMON: Final = ""
"""Stands where a job's name would, for the daemon's own ping."""

_QUIET: Final = frozenset({Outcome.CANCELLED, Outcome.SKIPPED})
_PASSING: Final = frozenset({408, 425, 429})


@dataclass(frozen=True, slots=True)
class _Word:
    """What one ping says; ``state`` is what stands behind the address: nothing for success, start, fail."""

    url: str
    state: str
    run: str = ""
    text: str = ""


class Pings(Unwatched):
    """Pings whom jobs name. It delays no Run, and what becomes of a ping is of no consequence to the job.

    ``counts`` are the pings that were sent and those that failed.
    """

    def __init__(
        self,
        send: Send,
        clock: Clock,
        redact: Callable[[Any], Any],
        *,
        wait: Callable[[float], Awaitable[None]] = asyncio.sleep,
        deadline: float = DEADLINE,
    ) -> None:
        self._send = send
        self._clock = clock
        self._redact = redact
        self._wait = wait
        self._deadline = deadline
        self._urls: dict[str, str] = {}
        # By server, in their order: who looks for the next one must not go through all that wait for one that hangs.
        self._waiting: dict[str, dict[str, _Word]] = {}
        self._busy: dict[str, asyncio.Task[None]] = {}
        self._places: Counter[str] = Counter()
        self._servers: dict[str, str] = {}
        self._unsaid: Counter[str] = Counter()
        self._said_at: dict[str, float] = {}
        self._closing = False
        self._every = DAEMON_EVERY
        self.counts: Counter[str] = Counter(sent=0, failed=0)

    @property
    def in_flight(self) -> int:
        """How many pings are under way."""
        return len(self._busy)

    def replace(self, jobs: Mapping[str, Job], daemon: Secret | None = None, every: float = DAEMON_EVERY) -> None:
        """Ping for these jobs, and for the ``daemon`` at its own address ``every`` so many seconds, from now on."""
        self._every = every
        self._urls = {name: job.ping.reveal() for name, job in jobs.items() if job.ping}
        if daemon is not None:
            self._urls[DAEMON] = daemon.reveal()
        self._servers = {name: _origin(url) if name != DAEMON else DAEMON for name, url in self._urls.items()}
        waiting = [one for words in self._waiting.values() for one in words.items()]
        self._waiting.clear()
        for name, word in waiting:
            if name in self._servers:
                self._waiting.setdefault(self._servers[name], {})[name] = word
        for kept in (self._unsaid, self._said_at):
            for name in [name for name in kept if name not in self._urls]:
                del kept[name]

    def started(self, run: Run) -> None:
        """Say that a Run has begun."""
        if url := self._urls.get(run.job):
            self._say(run.job, _Word(url, "start", run.id))

    def finished(self, report: Report) -> None:
        """Say how a Run has ended; of one that was cut off by the daemon's end nothing is said."""
        run = report.run
        url = self._urls.get(run.job)
        if url is None or report.outcome in _QUIET:
            return
        if report.outcome.good:
            self._say(run.job, _Word(url, "", run.id))
            return
        reason = report.reason or report.outcome
        text = str(self._redact(f"{reason}: {report.message}" if report.message else str(reason)))
        self._say(run.job, _Word(url, "fail", run.id, text[:LONGEST_REASON]))

    async def beat(self, problems: Callable[[], Sequence[str] | None]) -> None:
        """Say for the daemon, time and again, that it has no ``problems``, or which, until cancelled.

        None says nothing: a daemon that starts, or was told to stop, neither works nor fails.
        """
        while True:
            found = problems()
            if (url := self._urls.get(DAEMON)) and found is not None:
                text = "; ".join(found)
                state = "fail" if text else ""
                self._say(DAEMON, _Word(url, state, text=str(self._redact(text))[:LONGEST_REASON]))
            await self._wait(self._every)

    async def drain(self, seconds: float) -> None:
        """Let the last pings go out, for at most ``seconds``; then none goes out any more."""
        end = self._clock.monotonic() + seconds
        while self._busy and (left := end - self._clock.monotonic()) > 0:
            await asyncio.wait(self._busy.values(), timeout=left, return_when=asyncio.FIRST_COMPLETED)
        self._closing = True
        self._waiting.clear()
        tasks = set(self._busy.values())
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=0.5)

    def _say(self, name: str, word: _Word) -> None:
        """Have ``word`` sent as soon as there is a place; an older one of the same job that waits is left out."""
        if self._closing:
            return
        self._waiting.setdefault(self._servers[name], {})[name] = word
        self._start_next()

    def _start_next(self) -> None:
        while (name := self._next()) is not None:
            server = self._servers[name]
            words = self._waiting.pop(server)
            word = words.pop(name)
            if words:
                self._waiting[server] = words  # behind the others
            task = asyncio.create_task(self._ping(name, word), name=f"ping {name}")
            self._busy[name] = task
            self._places[server] += name != DAEMON
            task.add_done_callback(partial(self._done, name, server))

    def _next(self) -> str | None:
        """Return whose ping is to be sent next: a server that hangs holds up those of others no more than itself."""
        full = self._places.total() >= IN_FLIGHT_ALL
        for server in (DAEMON,) if full else self._waiting:
            if self._places[server] < IN_FLIGHT:
                for name in self._waiting.get(server, ()):
                    if name not in self._busy:
                        return name
        return None

    def _done(self, name: str, server: str, _ended: asyncio.Task[None]) -> None:
        del self._busy[name]
        self._places[server] -= name != DAEMON
        if not self._places[server]:
            del self._places[server]
        self._start_next()

    async def _ping(self, name: str, word: _Word) -> None:
        """Send ``word``, in a few tries; a newer one of the same job ends them."""
        tries = 0
        while (failure := await self._try(word)) is not None:
            error, passes = failure
            tries += 1
            if not passes or tries == TRIES or name in self._waiting.get(self._servers.get(name, ""), ()):
                self.counts["failed"] += 1
                self._say_failed(name, word, error)
                return
            await self._wait(TRY_AGAIN * 2.0 ** (tries - 1))
        self.counts["sent"] += 1

    async def _try(self, word: _Word) -> tuple[str, bool] | None:
        """Return why the ping was not taken, and whether another try may help; None if it was."""
        body = Body.of(word.text.encode("utf-8", "replace"))
        headers = {"Content-Type": "text/plain; charset=utf-8"} if word.text else {}
        outgoing = Outgoing(
            "POST" if word.text else "GET", address(word), headers, body, Timeouts().shrunk_to(self._deadline)
        )
        try:
            async with asyncio.timeout(self._deadline):
                status = await self._send(outgoing)
        except FetchError as error:
            return str(error), error.transient
        except TimeoutError:
            return f"no answer within {self._deadline:g} s", True
        except Exception as error:
            log.exception("internal_error", ping=_origin(word.url))
            return f"{type(error).__name__}: {error}", False
        if 200 <= status < 300:
            return None
        return f"answered {status}", status >= 500 or status in _PASSING

    def _say_failed(self, name: str, word: _Word, error: str) -> None:
        """Log a ping that failed: one line in a while for each job."""
        self._unsaid[name] += 1
        now = self._clock.monotonic()
        if now - self._said_at.get(name, float("-inf")) < SAID_EVERY:
            return
        count, self._said_at[name] = self._unsaid.pop(name), now
        whose = {"job": name} if name != DAEMON else {}
        log.warning("ping_failed", **whose, address=_origin(word.url), count=count, message=error)


def address(word: _Word) -> str:
    """Return where ``word`` is sent: its state behind the path, and the Run, as a UUID, among the parameters."""
    parts = urlsplit(word.url)
    path = f"{parts.path.rstrip('/')}/{word.state}" if word.state else parts.path
    run = f"rid={uuid.uuid5(uuid.NAMESPACE_OID, word.run)}" if word.run else ""
    return urlunsplit((parts.scheme, parts.netloc, path, "&".join(filter(None, (parts.query, run))), ""))


def _origin(url: str) -> str:
    """Return where a ping goes, fit to be shown: its path is the secret."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
