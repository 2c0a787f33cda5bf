"""All that goes out to people while the daemon runs: alerts to notifiers, and pings."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from fetchd.alerts.posts import Posts, open_boxes
from fetchd.alerts.telling import Alerts, OverdueSince, Teller
from fetchd.clock import Clock
from fetchd.config import Config
from fetchd.pings import Pings
from fetchd.secret import Redactor
from fetchd.sinks import Outgoing, Resources
from fetchd.store import Store
from fetchd.watch import Watcher


class Notices:
    """Alerts and pings, from before there are connections, for they watch, until after the last Run."""

    def __init__(self, store: Store, clock: Clock, overdue_since: OverdueSince, redact: Redactor) -> None:
        self._resources: Resources | None = None
        self.posts = Posts(store, clock)
        self.alerts = Alerts(store, clock, overdue_since, self.posts, Teller(socket.gethostname(), redact))
        self.pings = Pings(self._send, clock, redact)

    @property
    def watchers(self) -> tuple[Watcher, ...]:
        """Return who is to be told what happens."""
        return self.alerts, self.pings

    async def open(self, config: Config, resources: Resources, *, stalled: bool) -> str:
        """Learn what people know already; once there are connections, and before the first Run.

        ``stalled``, and what is returned, are as in `Alerts.load`.
        """
        self._resources = resources
        before = await self.alerts.load(config, open_boxes(config.notifiers, resources), stalled=stalled)
        self._ping(config)
        return before

    def replace(self, config: Config) -> None:
        """Go by this configuration from now on."""
        assert self._resources is not None
        self.alerts.replace(config, open_boxes(config.notifiers, self._resources))
        self._ping(config)

    def runs(self, problems: Callable[[], Sequence[str] | None]) -> list[Coroutine[Any, Any, None]]:
        """Return what goes on for as long as the daemon runs; ``problems`` as in `Pings.beat`."""
        return [self.alerts.run(), self.posts.run(), self.pings.beat(problems)]

    async def drain(self, seconds: float) -> None:
        """Let out what is on its way, for at most ``seconds``; messages that are left are kept."""
        await asyncio.gather(self.alerts.close(seconds), self.pings.drain(seconds))

    def _ping(self, config: Config) -> None:
        self.pings.replace(config.jobs, config.daemon.ping, config.daemon.ping_every)

    async def _send(self, outgoing: Outgoing) -> int:
        assert self._resources is not None
        return await self._resources.send(outgoing)
