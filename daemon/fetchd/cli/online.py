"""``fetchd check --online``: what connections and sinks have to say about a configuration without findings."""

from __future__ import annotations

from collections import Counter
from contextlib import aclosing
from datetime import UTC, datetime

from fetchd.cli.progress import Line
from fetchd.cli.shared import EXIT_CONFIG
from fetchd.config import Config
from fetchd.log import printable
from fetchd.online import look
from fetchd.secret import Redactor
from fetchd.shorten import count_of


async def online(config: Config, redact: Redactor, line: Line) -> int:
    """Say a line for each server, and for each sink with something in its way; return the exit status."""
    levels: Counter[str] = Counter()

    def tell(done: int, of: int) -> None:
        line.show(f"{done} of {count_of(of, 'server')} connected to")

    async with aclosing(look(config, datetime.now(UTC), tell)) as verdicts:
        async for verdict in verdicts:
            levels[verdict.level] += 1
            line.say(printable(redact(str(verdict))), err=verdict.level != "ok")
    failed = levels["failed"]
    wrong = f"{count_of(failed, 'thing')} wrong" if failed else "nothing wrong"
    line.say(f"{config.path}: {count_of(levels['ok'] + levels['warning'], 'server')} connected to, {wrong}")
    return EXIT_CONFIG if failed else 0
