"""One Run from the command line: with its deliveries, or with a look at what they would be."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from contextlib import nullcontext
from typing import Final

from fetchd.app import run_once
from fetchd.config import Config
from fetchd.errors import ConfigError, Finding
from fetchd.instance import hold
from fetchd.job import Job
from fetchd.log import printable
from fetchd.run import Delivery, Report
from fetchd.secret import Redactor
from fetchd.targets import Sinks, Target

SHOWN: Final = 2000
_SEARCHED: Final = 16 * SHOWN

Show = Callable[[str], None]
Clean = Callable[[str], str]


async def once(config: Config, name: str, *, dry_run: bool, show: Show) -> int:
    """Run the job called ``name`` and show how it ended, without secrets; return the exit status.

    A dry run delivers nothing, and so needs no state of its own: it may be tried beside a running daemon.

    Raises:
        ConfigError: there is no such job.
        InstanceError: a daemon holds the state directory, so this might be a second Run of the job.
    """
    job = _job(config, name)
    redact = Redactor(config.secret_texts())

    def clean(text: str) -> str:
        return printable(redact(text), keep="\n\t")

    def say(text: str) -> None:
        show(clean(text))

    with nullcontext() if dry_run else hold(config.daemon.state_dir):
        report = await run_once(config, job, _previews(job, say, clean) if dry_run else None)
    _tell(report, say)
    return 0 if report.outcome.good else 1


def _job(config: Config, name: str) -> Job:
    if name in config.jobs:
        return config.jobs[name]
    near = difflib.get_close_matches(name, config.jobs, n=1)
    hint = f'did you mean "{near[0]}"?' if near else f"the jobs are {', '.join(list(config.jobs)[:20])}"
    raise ConfigError([Finding(str(config.path), None, f"jobs.{name}", f"there is no such job; {hint}")])


def _tell(report: Report, show: Show) -> None:
    parts = [f"{report.run.job}: {report.outcome}"]
    if report.reason:
        parts.append(f"({report.reason})")
    if report.message:
        parts.append(f"- {report.message}")
    show(" ".join(parts))
    status = f"status {report.status}, " if report.status else ""
    attempts = f"{report.attempts} attempt" + ("" if report.attempts == 1 else "s")
    show(f"  {status}{report.bytes} bytes, {attempts}, {report.duration:.3f} s")
    if report.timings:
        show("  " + ", ".join(f"{phase} {seconds * 1000:.1f} ms" for phase, seconds in report.timings.items()))


def _previews(job: Job, show: Show, clean: Clean) -> Sinks:
    """Return a sink that shows what the real ones would get; the result itself once."""
    names = job.sink_names()
    return {job.name: {"preview": Target(_Preview(names, show, clean), job.deadline)}}


class _Preview:
    """Shows a delivery instead of making it."""

    def __init__(self, names: tuple[str, ...], show: Show, clean: Clean) -> None:
        self._names = names
        self._show = show
        self._clean = clean

    async def deliver(self, delivery: Delivery) -> None:
        """Show the result, and where it would go."""
        fetched = delivery.fetched
        content = await fetched.body.read()
        # Cut after it is cleaned: a secret that lies on the cut would otherwise show its half.
        self._show(self._clean(content[:_SEARCHED].decode("utf-8", "replace"))[:SHOWN])
        if len(content) > SHOWN:
            self._show(f"... {len(content) - SHOWN} more bytes")
        self._show(f"\n{fetched.content_type or 'no content type'}; would go to: {', '.join(self._names) or 'no sink'}")

    async def aclose(self) -> None:
        """Nothing is held."""
