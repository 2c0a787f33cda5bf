"""Whatever ends the daemon, it comes back, and what it had fetched is delivered."""

from __future__ import annotations

import os
import signal
import subprocess
from typing import Final

from tests.systemd.guest.stage import Stage
from tests.systemd.guest.unit import Unit, config, expect, job, run, to_command, to_file, to_function, until

SMALL: Final = "[Service]\nMemoryHigh=infinity\nMemoryMax=160M\n"
IMPATIENT: Final = "[Service]\nWatchdogSec=3\n"
EATER: Final = "import os; taken = [os.urandom(1 << 20) for _ in range(1024)]"
SECOND: Final = 'interval = "1s"\ndeadline = "900ms"'
UNHURRIED: Final = 'interval = "2s"\ndeadline = "1900ms"'
SLOW: Final = 12
KILLED: Final = 3
HANG_ONCE: Final = (
    "mkdir $FETCHD_JOB.begun && exec sleep 300; cat > $FETCHD_JOB.part && mv $FETCHD_JOB.part $FETCHD_JOB.done"
)
HANGS: Final = 'interval = "1h"\ndeadline = "5m"\ntimeout = "5m"'


def stall_is_replaced(stage: Stage) -> str:
    """A loop that a function holds up ends the process with its stacks; the next one says where it stood."""
    unit = stage.unit
    pid = _begin(stage, "block", config(_jobs("block"), stall_timeout='"2s"'))
    unit.again(pid)
    stack = unit.wait_event("loop_stalled", state="replaced")["stack"]
    expect("shop.py" in stack, stack)
    _nothing_lost(stage, "block")
    return f"NRestarts {unit.show('NRestarts')}, {_where(stack)}"


def watchdog_replaces(stage: Stage) -> str:
    """Where its own timer does not end it, the service manager does."""
    unit = stage.unit
    pid = _begin(stage, "block", config(_jobs("block"), stall_timeout='"1h"'), IMPATIENT)
    said = unit.wait_said("Watchdog timeout")
    unit.again(pid)
    unit.wait_said("Failed with result 'watchdog'")
    _nothing_lost(stage, "block")
    return f"NRestarts {unit.show('NRestarts')}, {said}"


def memory_kills_daemon(stage: Stage) -> str:
    """A daemon that takes more than MemoryMax= is killed, comes back, and owes what it owed."""
    unit = stage.unit
    if not unit_has_memory(unit):
        return "SKIP there is no memory controller"
    pid = _begin(stage, "hog", config(_jobs("hog")), SMALL)
    unit.again(pid)
    said = unit.wait_said("code=killed, status=9/KILL")
    _nothing_lost(stage, "hog")
    return f"NRestarts {unit.show('NRestarts')}, {said}"


def memory_kills_command(stage: Stage) -> str:
    """A command that takes it all is killed alone; the daemon and its other jobs go on."""
    unit = stage.unit
    if not unit_has_memory(unit):
        return "SKIP there is no memory controller"
    jobs = job("greedy", to_command("python3", "-c", EATER), more='interval = "1h"\ndeadline = "20s"')
    unit.begin(config(jobs + job("beside", to_file("beside"))), SMALL)
    unit.start()
    pid = unit.pid
    run("fetchd", "trigger", "greedy", "--state-dir", str(unit.state))
    line = unit.wait_event("run_finished", job="greedy")
    expect("SIGKILL" in line["message"], line)
    before = len(unit.numbers("beside"))
    until(lambda: len(unit.numbers("beside")) > before + 1, "the other job goes on")
    expect(unit.pid == pid and unit.running, "it is another process")
    return f"{line['outcome']}: {line['message']}; the daemon goes on"


def kill_is_survived(stage: Stage) -> str:
    """After SIGKILL in the middle of deliveries, each is made by the next process."""
    unit = stage.unit
    names = [f"kill{number}" for number in range(KILLED)]
    unit.begin(config("".join(job(name, to_command("sh", "-c", HANG_ONCE), more=HANGS) for name in names)))
    unit.start()
    pid = unit.pid
    where = ("--state-dir", str(unit.state))
    asking = [subprocess.Popen(["fetchd", "trigger", name, *where], stderr=subprocess.DEVNULL) for name in names]
    until(lambda: all(unit.out(f"{name}.begun").exists() for name in names), "the deliveries have begun")
    os.kill(pid, signal.SIGKILL)
    unit.again(pid)
    for ask in asking:
        ask.wait(10)
    until(lambda: all(unit.out(f"{name}.done").exists() for name in names), f"all are made; {unit.tail()}")
    found = [unit.out(f"{name}.done").read_text() for name in names]
    expect(all('"n": 1' in text for text in found), found)
    return f"{KILLED} deliveries under way, all made by the next process; NRestarts {unit.show('NRestarts')}"


def stop_drains(stage: Stage) -> str:
    """Under load, with one upstream that hangs, a stop lets the others end, cuts the one off, and is in time."""
    unit, upstream = stage.unit, stage.upstream
    names = [f"slow{number}" for number in range(SLOW)]
    slow = "".join(job(name, to_file(name), path=f"slow/{name}?s=1.5", more=UNHURRIED) for name in names)
    command = job("piped", to_command("sh", "-c", "sleep 1; cat >> piped.jsonl; echo >> piped.jsonl"), more=UNHURRIED)
    hang = job("hang", to_file("hang"), path="hang/hang", more=HANGS)
    unit.begin(config(slow + command + hang, shutdown_grace='"4s"'))
    upstream.asked.clear()
    upstream.answered.clear()
    unit.start()
    asking = subprocess.Popen(["fetchd", "trigger", "hang", "--state-dir", str(unit.state)], stderr=subprocess.DEVNULL)
    until(lambda: upstream.under_way("hang") and upstream.answered["slow0"] and upstream.answered["piped"], "load")
    until(lambda: sum(map(upstream.under_way, names)) > SLOW // 2, "most of the slow ones are under way")
    took = unit.stop()
    asking.wait(10)
    unit.stopped_well()
    expect(unit.wait_event("daemon_stopped")["exit_status"] == 0, "daemon_stopped")
    expect(4 <= took < 4 + 3, f"it took {took:.1f} s")
    for name in (*names, "piped"):
        expect(sorted(unit.numbers(name)) == list(range(1, upstream.asked[name] + 1)), f"{name}: {unit.numbers(name)}")
    cut = unit.events("run_finished", job="hang")
    expect(cut and cut[-1]["outcome"] == "cancelled", cut)
    results = sum(len(unit.numbers(name)) for name in names)
    return f"{took:.1f} s; {SLOW} slow jobs brought all {results} results that were asked for; the one that hung is cut"


def unit_has_memory(unit: Unit) -> bool:
    """Return whether the container's control groups bound memory."""
    unit.start()
    return unit.show("MemoryCurrent").isdigit()


def _jobs(call: str) -> str:
    return job(call, to_function(call), more=SECOND) + job("beside", to_file("beside"))


def _begin(stage: Stage, call: str, text: str, *drop_ins: str) -> int:
    unit = stage.unit
    unit.begin(text, *drop_ins)
    stage.upstream.asked.clear()
    unit.start()
    pid = unit.pid
    until(unit.out(f"{call}.begun").exists, "the function has begun")
    return pid


def _nothing_lost(stage: Stage, call: str) -> None:
    """The result whose delivery ended the daemon is the first, and was kept; so were those of the job beside it."""
    unit = stage.unit
    until(lambda: unit.numbers(call), "the result that was owed is delivered")
    expect(unit.numbers(call)[0] == 1, unit.numbers(call))
    seen = len(unit.numbers("beside"))
    until(lambda: len(unit.numbers("beside")) > seen + 1, "the other job goes on")
    gone = _missing(unit.numbers("beside"))
    expect(len(gone) <= 1, f"more is missing than the one that was under way: {gone}")


def _missing(numbers: list[int]) -> list[int]:
    return sorted(set(range(1, max(numbers) + 1)) - set(numbers))


def _where(stack: str) -> str:
    return next(line.strip() for line in stack.splitlines() if "shop.py" in line)
