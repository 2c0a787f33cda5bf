"""The verb that asks whether messages arrive. It works beside a running daemon."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from fetchd.cli.shared import EXIT_FAILED, config_option, errors_as_status, load, logging, sparing

if TYPE_CHECKING:
    from fetchd.config import Config
    from fetchd.notifiers.message import NotifierOptions
    from fetchd.secret import Redactor


@click.group()
def notify() -> None:
    """Messages to people."""


@notify.command("test")
@click.argument("names", nargs=-1, metavar="[NAME]...")
@config_option
@errors_as_status
def notify_test(names: tuple[str, ...], given: Path | None) -> int:
    """Send a message that says it is a test through the notifiers called NAME, or through all.

    Exit status: 0 each has taken it, 1 one has not, 78 there is none of that name.
    """
    import asyncio

    from fetchd.log import printable
    from fetchd.secret import Redactor

    config = load(given, functions=False)
    wanted = _wanted(config, names)
    redact = Redactor(config.secret_texts())
    with logging(config, redact, level="error"):
        errors = asyncio.run(_tried(config, wanted, redact))
    for name, error in errors.items():
        text = f"{name}: not taken: {error}" if error else f"{name}: taken"
        click.echo(printable(redact(text)), err=bool(error))
    return EXIT_FAILED if any(errors.values()) else 0


async def _tried(config: Config, wanted: dict[str, NotifierOptions], redact: Redactor) -> dict[str, str]:
    """Send the message; return why it was not taken, empty if it was, by the notifier's name."""
    import socket
    from contextlib import AsyncExitStack
    from dataclasses import replace
    from datetime import UTC, datetime

    with sparing():
        from fetchd.alerts.posts import open_boxes, try_notifiers
        from fetchd.engine import open_engine
        from fetchd.folders import scratch_folder
        from fetchd.store.memory import MemoryStore

    async with AsyncExitStack() as stack:
        # With sinks of its own, though none, the engine touches nothing of a daemon that may be running.
        engine = await stack.enter_async_context(open_engine(config, MemoryStore(), sinks={}, told=redact.note))
        resources = engine.resources
        if not resources.out.is_dir():
            # A daemon will make it, as its own user; until then a command starts elsewhere.
            resources = replace(resources, out=stack.enter_context(scratch_folder()))
        return await try_notifiers(open_boxes(wanted, resources), socket.gethostname(), datetime.now(UTC))


def _wanted(config: Config, names: tuple[str, ...]) -> dict[str, NotifierOptions]:
    """Return the notifiers of these names, or all.

    Raises:
        ConfigError: there is none, or none of one of the names.
    """
    import difflib

    from fetchd.errors import ConfigError, Finding

    def finding(name: str) -> Finding:
        near = difflib.get_close_matches(name, config.notifiers, n=1)
        known = f"there are {', '.join(config.notifiers)}" if config.notifiers else f"add a table [notifiers.{name}]"
        hint = f'did you mean "{near[0]}"?' if near else known
        return Finding(str(config.path), None, f"notifiers.{name}", f"there is no such notifier; {hint}")

    missing = [finding(name) for name in names if name not in config.notifiers]
    if missing or not config.notifiers:
        none = Finding(str(config.path), None, "notifiers", "there are none: add a table such as [notifiers.ops]")
        raise ConfigError(missing or [none])
    return {name: config.notifiers[name] for name in names or config.notifiers}
