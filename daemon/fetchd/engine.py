"""Everything that Runs and deliveries need, opened in order and closed in reverse: for the daemon, and for one Run."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from fetchd.body import MemoryBudget
from fetchd.clock import SystemClock
from fetchd.config import Config, limits_of
from fetchd.extract.reader import Reader
from fetchd.fetch import holds
from fetchd.fetch.auth.vault import PREFIX, Vault
from fetchd.fetch.client import ClientOptions, open_transport
from fetchd.fetch.fetcher import Fetcher
from fetchd.fetch.holds import Holds
from fetchd.fetch.hosts import Hosts
from fetchd.fetch.proxies import Proxies
from fetchd.fetch.resolver import Names
from fetchd.fetch.spool import Spool
from fetchd.folders import make_folder, scratch_folder, spool_folder
from fetchd.harvest import Harvest
from fetchd.job import Job
from fetchd.outbox import Outbox
from fetchd.roster import Roster, Runs
from fetchd.runner import Runner
from fetchd.sinks import Outgoing, Resources, Send
from fetchd.sinks.kinds import open_sink
from fetchd.store import Store
from fetchd.targets import Sinks, Target
from fetchd.watch import Watcher
from fetchd.worker import Workers


@dataclass(frozen=True, slots=True)
class Engine:
    """What runs jobs.

    ``runs`` begins a Run by the definition in force in ``roster``; ``renew`` has certificates read anew; ``forget``
    lets go of definitions that are not in force.
    """

    runs: Runs
    runner: Runner
    outbox: Outbox
    roster: Roster
    fetcher: Fetcher
    hosts: Hosts
    budget: MemoryBudget
    resources: Resources
    renew: Callable[[], Coroutine[Any, Any, None]]
    forget: Callable[[Mapping[str, Job]], None]


@asynccontextmanager
async def open_engine(
    config: Config,
    store: Store,
    *,
    watcher: Watcher | None = None,
    sinks: Sinks | None = None,
    told: Callable[[str], None] | None = None,
    notes: Store | None = None,
) -> AsyncIterator[Engine]:
    """Open folders, connections, workers and sinks; with ``sinks``, these in the place of the jobs' own.

    ``told`` learns each secret that is got while running, such as a token; ``notes``, if it is not ``store``, keeps
    those that must outlive the process.

    Raises:
        StateError: a folder cannot be made.
        StoreError: what is kept cannot be read.
    """
    daemon, clock = config.daemon, SystemClock()
    names = Names(tuple(config.dns.nameservers), config.dns.timeout, config.dns.attempts)
    held = Holds(clock, await store.notes(holds.PREFIX), partial(store.note, needed=False))
    hosts = Hosts(limits_of(config.hosts), clock, holds=held)
    proxies = Proxies.of({name: value.reveal() for name, value in config.proxies.items()})
    async with AsyncExitStack() as stack:
        # Without a lock on the state directory nothing in it is ours to use, or to tidy.
        folder = spool_folder(daemon.state_dir) if sinks is None else stack.enter_context(scratch_folder())
        budget = MemoryBudget(daemon.memory_budget)
        spool = Spool(folder, daemon.spool_above, budget)
        options = ClientOptions(names, daemon.ca_file, hosts, proxies)
        transport = await stack.enter_async_context(open_transport(options))
        workers = Workers(daemon.max_workers)
        stack.push_async_callback(workers.aclose)
        notes = notes or store
        fetcher = Fetcher(transport, spool, workers, hosts, vault=Vault(told, await notes.notes(PREFIX), notes.note))
        out = daemon.state_dir / "out"
        resources = Resources(out, _sending(fetcher), workers)
        roster = Roster(_opening(resources))
        stack.push_async_callback(roster.aclose)
        if sinks is None:
            make_folder(out)
            for job in config.jobs.values():
                roster.put(roster.open(job))
        outbox = Outbox(store, roster if sinks is None else sinks, clock, watcher=watcher)
        await outbox.load()
        harvest = Harvest(fetcher, Reader(workers, spool), spool, clock)
        runner = Runner(harvest, outbox, store, clock, max_concurrent=daemon.max_concurrent_runs, watcher=watcher)

        def forget(jobs: Mapping[str, Job]) -> None:
            runner.forget(jobs)
            fetcher.forget(jobs)

        runs = Runs(roster, runner.run)
        yield Engine(runs, runner, outbox, roster, fetcher, hosts, budget, resources, transport.renew, forget)


def _sending(fetcher: Fetcher) -> Send:
    async def send(outgoing: Outgoing) -> int:
        return await fetcher.send(outgoing.method, outgoing.url, outgoing.headers, outgoing.body, outgoing.timeouts)

    return send


def _opening(resources: Resources) -> Callable[[Job], dict[str, Target]]:
    def opened(job: Job) -> dict[str, Target]:
        return {
            name: Target(
                open_sink(options, resources),
                options.deadline or job.deadline,
                options.max_attempts,
                options.max_age,
            )
            for name, options in zip(job.sink_names(), job.sinks, strict=True)
        }

    return opened
