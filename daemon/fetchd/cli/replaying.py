"""``fetchd dead replay --wait``: dead letters tried again, and looked after until none of them is owed."""

from __future__ import annotations

import itertools
import time
from collections import deque
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import click

from fetchd import past
from fetchd.cli.progress import drawn_line
from fetchd.cli.shared import EXIT_FAILED, say_missing
from fetchd.control.client import ask

EVERY: Final = 0.25
LOOKS: Final = 20
"""Looks at what is owed between two at whether the daemon still runs: without one nothing would ever change."""


def replay(state_dir: Path, ids: tuple[str, ...]) -> int:
    """Try the dead letters of ``ids`` again, or all, and show what becomes of them; return the exit status.

    Ctrl-C leaves them to the daemon.

    Raises:
        UnavailableError: no daemon runs that would try them.
        StoreError: what is kept cannot be read.
    """
    _running(state_dir)
    failed = say_missing(past.missing(state_dir, ids))
    ids = past.dead_ids(state_dir, ids)
    if not ids:
        click.echo("no dead letters")
        return failed
    with drawn_line() as line:
        line.say(past.dead_replay(state_dir, ids, datetime.now(UTC)))
        counts = past.replayed(state_dir, ids)
        try:
            for look in itertools.count(1):
                if not counts.owed:
                    break
                line.show(str(counts))
                time.sleep(EVERY)
                counts = past.replayed(state_dir, ids)
                if look % LOOKS == 0:
                    _running(state_dir)
        finally:
            line.say(str(counts))
    return EXIT_FAILED if counts.dead else failed


def _running(state_dir: Path) -> None:
    deque(ask(state_dir, {"verb": "status"}), maxlen=0)
