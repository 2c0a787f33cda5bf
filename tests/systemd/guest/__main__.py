"""Goes through the checks in order, and says a line of each: ``CHECK name PASS|FAIL|SKIP detail``."""

from __future__ import annotations

import platform
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Final

from tests.systemd.guest import documents, fence, life, loss
from tests.systemd.guest.stage import Stage
from tests.systemd.guest.unit import WrongError, run

Check = Callable[[Stage], str | dict[str, str]]

CHECKS: Final[tuple[Check, ...]] = (
    fence.units_are_in_order,
    life.ready_means_armed,
    life.ready_negative_control,
    life.stopped_before_ready,
    life.reload_applies,
    life.reload_refuses,
    life.hangup_reloads,
    life.findings_fail,
    life.findings_kept_trying,
    life.back_off_grows,
    life.state_survives,
    life.root_asks,
    loss.stall_is_replaced,
    loss.watchdog_replaces,
    loss.memory_kills_daemon,
    loss.memory_kills_command,
    loss.kill_is_survived,
    loss.stop_drains,
    fence.sandbox_refuses,
    fence.credentials_are_its_own,
    fence.command_works,
    fence.extraction_works,
    fence.shop_command_works,
    fence.compiling_command_works,
    fence.few_addresses_are_reached,
    fence.instances_are_apart,
    documents.documents_can_be_followed,
)


def main() -> None:
    """Go through all checks, or through those whose names begin with one of the words that were given."""
    manager = run("systemctl", "--version").stdout.split("\n")[0]
    _say(f"INFO {manager}, kernel {platform.release()}, Python {platform.python_version()}")
    words = tuple(Path("/opt/check/words").read_text().split())
    stage = Stage()
    counts = {"PASS": 0, "FAIL": 0, "SKIP": 0}
    for check in CHECKS:
        if words and not check.__name__.startswith(words):
            continue
        began = time.monotonic()
        for name, verdict, detail in _verdicts(check, stage):
            counts[verdict] += 1
            _say(f"CHECK {name} {verdict} {' '.join(detail.split())}")
        _say(f"TOOK {check.__name__} {time.monotonic() - began:.1f} s")
    _say(f"END {counts['PASS']} passed, {counts['FAIL']} failed, {counts['SKIP']} skipped")


def _verdicts(check: Check, stage: Stage) -> list[tuple[str, str, str]]:
    try:
        said = check(stage)
    except WrongError as error:
        _say("\n".join(stage.unit.said()[-30:]))
        return [(check.__name__, "FAIL", str(error))]
    except Exception:
        return [(check.__name__, "FAIL", traceback.format_exc())]
    if isinstance(said, dict):
        return [(f"{check.__name__}.{name}", *_split(verdict)) for name, verdict in said.items()]
    return [(check.__name__, *_split(said))]


def _split(said: str) -> tuple[str, str]:
    """Return the verdict and the rest of what a check says; without a verdict of its own it has passed."""
    word, _, rest = said.partition(" ")
    return (word, rest) if word in ("PASS", "FAIL", "SKIP") else ("PASS", said)


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
