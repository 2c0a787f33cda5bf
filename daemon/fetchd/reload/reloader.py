"""Reloads: one at a time, judged before anything is touched, and answered for."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import Final

import structlog

from fetchd.body import on_disk
from fetchd.config import Config
from fetchd.config.source import Reading, Source, Stamp
from fetchd.errors import ConfigError
from fetchd.reload.apart import apart
from fetchd.reload.changes import Changes, Verdict, Why, compare
from fetchd.reload.files import Key, Look, SecretFiles
from fetchd.reload.force import Force
from fetchd.shorten import count_of
from fetchd.systemd import Notifier

log = structlog.get_logger()

READ_WITHIN: Final = 60.0
"""Seconds that reading may take, the import of the user's modules included."""
FILE_EVERY: Final = 0.5
AGAIN_EVERY: Final = 30.0
"""Seconds after which a file that was refused is looked into again: what it names, such as a secret, may have come."""
SECRETS_EVERY: Final = 1.0

Tell = Callable[[Verdict], None]
"""Is told what became of a reload; it neither waits nor raises."""


class RefusedError(Exception):
    """A reload that comes to nothing; the text says why."""


class Reloader:
    """The configuration in force, and the one way to another."""

    def __init__(
        self,
        source: Source,
        reading: Reading,
        force: Force,
        notifier: Notifier,
        tell: Sequence[Tell] = (),
        *,
        again_every: float = AGAIN_EVERY,
    ) -> None:
        self.generation = 1
        self._source = source
        self._reading = reading
        self._force = force
        self._notifier = notifier
        self._tell = tell
        self._turn = asyncio.Lock()
        self._applying = asyncio.Lock()
        self._closed = False
        self._again_every = again_every
        self._refused = False

    @property
    def config(self) -> Config:
        """The configuration in force."""
        return self._reading.config

    async def reload(self, why: Why) -> Verdict:
        """Read the file and put what it says in force, or change nothing; return what became of it."""
        async with self._turn:
            if self._closed:  # of anything after the stop the service manager is not told
                return await self._attempt(why, self._source.read)
            self._notifier.reloading()
            refused = "reload failed"
            try:
                verdict = await self._attempt(why, self._source.read)
                refused = "" if verdict.applied else "the new configuration was refused"
            finally:
                jobs = count_of(len(self.config.jobs), "job")
                if not self._closed:
                    self._notifier.ready(f"{jobs}; {refused}" if refused else jobs)
            return verdict

    async def rotate(self) -> Verdict:
        """Put the same text in force with the secrets as they are now; the file is not read."""
        async with self._turn:
            return await self._attempt(Why.SECRETS, partial(self._source.again, self._reading))

    async def run(self, asked: asyncio.Event) -> None:
        """Reload each time that ``asked`` is set, or a file has changed, until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._hear(asked))
            group.create_task(self._watch_file())
            group.create_task(self._watch_secrets())

    async def close(self) -> None:
        """Refuse each reload from here on; one that is being put in force is waited for."""
        self._closed = True
        async with self._applying:
            """What was begun is done."""

    async def _attempt(self, why: Why, read: Callable[[], Reading]) -> Verdict:
        changes, error = Changes(), ""
        findings: tuple[str, ...] = ()
        try:
            changes = await self._through(read)
        except ConfigError as refused:
            findings = tuple(map(str, refused.findings))
        except RefusedError as refused:
            error = str(refused)
        except Exception as broken:
            log.exception("internal_error", during="reload")
            error = f"{type(broken).__name__}: {broken}"
        verdict = Verdict(why, self.generation, datetime.now(UTC), changes, findings, error)
        if why is not Why.SECRETS:
            self._refused = bool(findings)
        _say(verdict)
        for tell in self._tell if not self._closed else ():
            tell(verdict)
        return verdict

    async def _through(self, read: Callable[[], Reading]) -> Changes:
        before = self.config
        if self._closed:
            raise RefusedError("the daemon is stopping")
        try:
            async with asyncio.timeout(READ_WITHIN):
                reading, changes, same = await apart(lambda: _read(read, before))
        except TimeoutError:
            message = f"it was not read within {READ_WITHIN:g} s: does a module hang while it is imported?"
            raise RefusedError(message) from None
        async with self._applying:
            if self._closed:
                raise RefusedError("the daemon is stopping")
            if not same:
                await self._force.apply(before, reading.config, changes)
                self.generation += 1
            self._reading = reading
        return changes

    async def _hear(self, asked: asyncio.Event) -> None:
        while True:
            await asked.wait()
            asked.clear()
            await self.reload(Why.SIGNAL)

    async def _watch_file(self) -> None:
        """Reload once the file is another one, and looks the same twice: an editor may be writing it.

        One that was refused is read again now and then, and told of once it can be taken.
        """
        last: Stamp | None = self._source.seen
        loop, looked = asyncio.get_running_loop(), 0.0
        while True:
            await asyncio.sleep(FILE_EVERY)
            if not self.config.daemon.reload_on_change:
                continue
            stamp = await on_disk(self._source.stamp)
            settled, last = stamp == last, stamp
            # One that is gone is offered too: the next start would find none, and somebody should know before.
            if settled and stamp != self._source.seen:
                await self.reload(Why.FILE)
                looked = loop.time()
            elif settled and self._refused and loop.time() - looked >= self._again_every:
                if await self._is_worth_it():
                    await self.reload(Why.FILE)
                looked = loop.time()

    async def _is_worth_it(self) -> bool:
        """Return whether a reload would have more to tell than the same findings again."""
        try:
            async with asyncio.timeout(READ_WITHIN):
                await apart(self._source.read)
        except ConfigError:
            return False
        except Exception:
            return True  # whatever it is, the reload says it
        return True

    async def _watch_secrets(self) -> None:
        files = SecretFiles(self._source)
        while True:
            await asyncio.sleep(SECRETS_EVERY)
            look = await on_disk(partial(_look, files, self._source, self.config))
            for kind, name in sorted(look.gone):
                log.warning("secret_missing", secret=f"{kind} {name}", message="the value that it had stays in use")
            if not look.changed:
                continue
            verdict = await self.rotate()
            files.refuse(frozenset() if verdict.applied else look.changed)


def _look(files: SecretFiles, source: Source, config: Config) -> Look:
    known: dict[Key, str] = source.secrets(config)
    return files.look(known)


def _read(read: Callable[[], Reading], before: Config) -> tuple[Reading, Changes, bool]:
    """Return what is read, what it changes in ``before``, and whether that is nothing at all; not for the loop."""
    reading = read()
    config, changes = compare(before, reading.config)
    return replace(reading, config=config), changes, config == before


def _say(verdict: Verdict) -> None:
    """Write the one line of a reload."""
    changes = verdict.changes
    if not verdict.applied:
        message = verdict.error or None
        log.error("config_rejected", why=str(verdict.why), findings=list(verdict.findings), message=message)
    elif verdict.why is Why.SECRETS:
        log.info("secrets_rotated", generation=verdict.generation, changed=list(changes.changed))
    else:
        log.info(
            "config_reloaded",
            why=str(verdict.why),
            generation=verdict.generation,
            added=list(changes.added),
            changed=list(changes.changed),
            removed=list(changes.removed),
            unchanged=changes.unchanged,
            restart_needed=list(changes.restart_needed),
        )
