"""Starts, reloads, and what is kept from one to the next. Each check returns a few words on what it saw."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from tests.systemd.guest.stage import Stage
from tests.systemd.guest.unit import FAST, STEPS_SINCE, Unit, config, expect, job, run, to_file, until, version

GATE: Final = Path("/srv/gate")
GATED: Final = config(job("gated", '{ kind = "function", call = "gate:save" }'))
SIMPLE: Final = "[Service]\nType=simple\n"
TELLS: Final = "[Unit]\nOnFailure=told.service\n"
TOLD: Final = "[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/bin/true\n"
OTHER: Final = 4242
LONG: Final = 'interval = "1h"'


def ready_means_armed(stage: Stage) -> str:
    """While its functions are imported it is about to start; it is started once jobs are scheduled."""
    unit = stage.unit
    GATE.unlink(missing_ok=True)
    unit.begin(GATED)
    unit.start_only()
    until(_importing(unit), "it imports")
    states = []
    end = time.monotonic() + 2.0
    while time.monotonic() < end:
        states.append(unit.show("ActiveState"))
        time.sleep(0.1)
    expect(set(states) == {"activating"}, states)
    expect(not stage.upstream.asked["gated"], "it had fetched before it was ready")
    GATE.touch()
    until(lambda: unit.running, "active")
    ready = unit.wait_event("daemon_ready")
    return f"activating for 2 s with the gate shut, then active with {ready['jobs']} job; {unit.show('StatusText')}"


def ready_negative_control(stage: Stage) -> str:
    """With Type=simple the same start is over at once: the check above can tell the difference."""
    unit = stage.unit
    GATE.unlink(missing_ok=True)
    unit.begin(GATED, SIMPLE)
    unit.start()
    until(_importing(unit), "it imports")
    expect(unit.running, unit.show("ActiveState"))
    expect(not unit.events("daemon_ready"), "the gate was open")
    return "with Type=simple it is active with the gate shut"


def stopped_before_ready(stage: Stage) -> str:
    """Whoever stops a daemon that still starts has not seen it fail; without SuccessExitStatus= they would have."""
    unit = stage.unit
    GATE.unlink(missing_ok=True)
    for drop_in in ("[Service]\nSuccessExitStatus=\n", ""):
        unit.begin(GATED, drop_in)
        unit.start_only()
        until(_importing(unit), "it imports")
        took = unit.stop()
        if drop_in:
            unit.wait_said("Failed with result 'exit-code'")
    unit.stopped_well()
    return f"no failure, after {took:.1f} s; without SuccessExitStatus= there is one"


def _importing(unit: Unit) -> Callable[[], bool]:
    """Return whether its functions are being imported; the import waits for the gate."""
    return (unit.state / "importing").exists


def reload_applies(stage: Stage) -> str:
    """A reload is over when what was written is in force, in the same process."""
    unit = stage.unit
    first = job("first", to_file("first"))
    unit.begin(config(first))
    unit.start()
    pid = unit.pid
    unit.write(config(first + job("second", to_file("second"))))
    done = unit.reload()
    expect(done.returncode == 0, done.stderr + unit.tail())
    line = unit.wait_event("config_reloaded", why="verb")
    expect(line["added"] == ["second"] and unit.pid == pid and unit.running, line)
    until(lambda: unit.numbers("second"), "the new job delivers")
    return f"same pid, added {line['added']}, generation {line['generation']}"


def reload_refuses(stage: Stage) -> str:
    """A bad configuration fails the reload and nothing else: it goes on by the old one, and the next reload works."""
    unit = stage.unit
    good = config(job("first", to_file("first")))
    unit.begin(good)
    unit.start()
    pid = unit.pid
    unit.write(good.replace("interval", "intervall"))
    done = unit.reload()
    expect(done.returncode != 0, "the reload did not fail")
    finding = unit.wait_said('did you mean "interval"')
    expect("config.toml:" in finding, finding)
    expect(unit.running and unit.pid == pid, unit.tail())
    before = len(unit.numbers("first"))
    until(lambda: len(unit.numbers("first")) > before + 1, "it goes on by the old one")
    shown = run("systemctl", "status", "--no-pager", "-l", unit.name).stdout
    expect("did you mean" in shown, shown)
    bad = run("journalctl", "-u", unit.name, "-p", "err", "-o", "cat", "--no-pager").stdout
    expect('"event":"config_rejected"' in bad and '"level":"info"' not in bad, bad)
    unit.write(good)
    expect(unit.reload().returncode == 0, unit.tail())
    said = [line for line in unit.said() if "did you mean" in line and not line.startswith("{")]
    return f"status {done.returncode}; {said[0] if said else finding[:200]}; goes on as {pid}"


def hangup_reloads(stage: Stage) -> str:
    """SIGHUP asks for the same, without waiting."""
    unit = stage.unit
    unit.begin(config(job("first", to_file("first"))))
    unit.start()
    pid = unit.pid
    run("systemctl", "kill", "--signal=HUP", "--kill-who=main", unit.name)
    unit.wait_event("config_reloaded", why="signal")
    until(lambda: unit.running, "active again")
    expect(unit.pid == pid, "it is another process")
    return "config_reloaded, same pid"


def findings_fail(stage: Stage) -> str:
    """With findings it is not started again and again: it has failed, the findings are said, somebody is told."""
    unit = stage.unit
    Path("/run/systemd/system/told.service").write_text(TOLD)
    unit.begin(config(job("first", to_file("first"))).replace("interval", "intervall"), TELLS)
    expect(run("systemctl", "start", unit.name).returncode != 0, "the start did not fail")
    until(lambda: unit.show("ActiveState") == "failed", f"failed, not {unit.show('ActiveState')}")
    finding = unit.wait_said('did you mean "interval"')
    bad = run("journalctl", "-u", unit.name, "-p", "err", "-o", "cat", "--no-pager").stdout
    expect(finding in bad, bad)
    until(lambda: run("systemctl", "is-active", "-q", "told.service").returncode == 0, "OnFailure= was called")
    expect(unit.show("NRestarts") == "0" and unit.show("ExecMainStatus") == "78", unit.tail())
    unit.write(config(job("first", to_file("first"))))
    unit.start()
    return f"failed, status 78, no restarts, OnFailure= called; {finding}"


def findings_kept_trying(stage: Stage) -> str:
    """With examples/keep-trying.conf it comes back by itself once the findings are gone."""
    unit = stage.unit
    text = Path("/opt/check/examples/keep-trying.conf").read_text()
    good = config(job("first", to_file("first")))
    unit.begin(good.replace("interval", "intervall"), text, FAST)
    run("systemctl", "start", unit.name)
    until(lambda: int(unit.show("NRestarts")) > 1, "it is tried again")
    unit.write(good)
    until(lambda: unit.running, "it is back")
    return f"back after {unit.show('NRestarts')} tries"


def back_off_grows(stage: Stage) -> str:
    """With examples/back-off.conf the waits grow; where systemd does not know it, they stay as they are."""
    unit = stage.unit
    unit.begin(config(job("first", to_file("first"))), Path("/opt/check/examples/back-off.conf").read_text())
    unit.start()
    waits = []
    for _ in range(3):
        pid = unit.pid
        os.kill(pid, signal.SIGKILL)
        unit.again(pid)
        waits.append(unit.show("RestartUSecNext") or unit.show("RestartUSec"))
    grows = len(set(waits)) == len(waits)
    expect(grows == (version() >= STEPS_SINCE), waits)
    return f"then {', '.join(waits)}"


def state_survives(stage: Stage) -> str:
    """What is kept outlives the user that it belonged to."""
    unit = stage.unit
    unit.begin(config(job("first", to_file("first"))))
    unit.start()
    expect(unit.state.is_symlink() and "private" in os.readlink(unit.state), os.listdir(unit.state.parent))
    owner = _owner(unit)
    until(lambda: len(unit.numbers("first")) > 1, "results")
    unit.stop()
    kept = unit.numbers("first")
    expect(kept == list(range(kept[0], kept[0] + len(kept))), kept)
    for path in (unit.state.resolve(), *unit.state.rglob("*")):  # not an id that systemd would give out, and adopt
        os.chown(path, OTHER, OTHER)
    unit.start()
    until(lambda: len(unit.numbers("first")) > len(kept) + 1, "results after the restart")
    expect(unit.numbers("first")[: len(kept)] == kept, unit.numbers("first"))
    expect(_owner(unit) not in (0, OTHER) and owner != 0, f"it runs as {owner}, {_owner(unit)}")
    mode = unit.state.stat().st_mode & 0o777
    expect(mode == 0o700, oct(mode))
    return f"{len(kept)} results before, {len(unit.numbers('first'))} after, users {owner} and {_owner(unit)}"


def root_asks(stage: Stage) -> str:
    """Root finds it without being told where its state is, and leaves nothing there that is root's."""
    unit = stage.unit
    unit.begin(config(job("first", to_file("first")) + job("rare", to_file("rare"), more=LONG)))
    unit.start()
    until(lambda: unit.numbers("first"), "results")
    root = {**os.environ, "HOME": "/root"}
    status = run("fetchd", "status", env=root)
    expect(status.returncode == 0 and "first" in status.stdout, status.stdout + status.stderr)
    done = run("fetchd", "trigger", "rare", env=root)
    expect(done.returncode == 0 and unit.numbers("rare"), done.stdout + done.stderr)
    history = run("fetchd", "history", "first", env=root)
    expect(history.returncode == 0 and "succeeded" in history.stdout, history.stderr)
    roots = [str(path) for path in unit.state.rglob("*") if path.stat().st_uid == 0 and _owner(unit) == _on_disk(unit)]
    expect(not roots, roots)
    nobody = run("setpriv", "--reuid=65534", "--clear-groups", "fetchd", "status")
    expect(
        nobody.returncode == 69 and "as root" in nobody.stderr, f"anybody may ask: {nobody.returncode} {nobody.stdout}"
    )
    return f"status, trigger, history; nobody else: {nobody.stderr.strip()}"


def _owner(unit: Unit) -> int:
    return Path(f"/proc/{unit.pid}").stat().st_uid


def _on_disk(unit: Unit) -> int:
    """Return whose the state is on disk; systemd 257 gives it to the daemon only where the daemon sees it."""
    return (unit.state / "lock").stat().st_uid
