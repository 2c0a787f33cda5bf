"""A soak: the daemon among upstreams that misbehave in every known way, reloaded and killed all the while.

It prints what it found as lines ``CHECK name PASS|FAIL detail`` and ends with 1 if any of them failed. Two thirds of
the time are one life of the daemon, whose memory is followed; in the rest it is killed at random instants.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import linear_regression, median
from typing import Any, ClassVar, Final

from benchmarks.measure import START, mebibytes, memory_of
from fetchd.demo.processes import daemon
from fetchd.store import letters
from fetchd.units import parse_duration
from tests.upstream import UpstreamProcess

HOSTILE: Final = (
    *("hang", "hangbody", "drip/0.1", "driphdr/0.1", "1xx/0.1", "1xx/0", "infchunk", "hdrbomb/20", "floodhdr"),
    *("redir", "slowredir/0.2", "redirbig/300", "redirdrip/0.1", "bomb/gzip/100", "bomb/deflate/100", "big/10"),
    *("bomb/gzip+gzip/100", "short", "extra", "twocl", "hugecl", "rst", "close", "truncgzip", "badgzip", "cookie"),
    *("charset/punycode", "status/404", "status/503", "noread"),
)
PORTS: Final = (
    *("https://127.0.0.1:{silent}/", "http://127.0.0.1:{syn_hang}/", "https://127.0.0.1:{tls_unknown}/ok"),
    *("https://127.0.0.1:{http}/ok", "http://127.0.0.1:1/"),
)
"""What is wrong below HTTP."""

GAIN: Final = 3 * 2**20
"""Bytes of memory by which the last quarter may be above the second: the allocator's own unrest."""
GAIN_OF_DESCRIPTORS: Final = 16
SHARE: Final = 0.5
"""Of its slots, each job must have kept so many, on a machine that does other things too."""
RELOAD_EVERY: Final = 2.0
BAD_EVERY: Final = 4
"""Of so many configurations offered, one has findings."""
PATIENCE: Final = 30.0
DICE: Final = 20260301

Line = dict[str, Any]


@dataclass(slots=True)
class Heard:
    """What the daemon's lives have logged together, read as it grows."""

    path: Path
    events: Counter[str] = field(default_factory=Counter)
    runs: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    delivered: set[str] = field(default_factory=set)
    strange: list[str] = field(default_factory=list)
    _offset: int = 0

    def listen(self) -> None:
        """Read on; a line that is half written is left for the next time."""
        with self.path.open("rb") as log:
            log.seek(self._offset)
            for line in log:
                if not line.endswith(b"\n"):
                    break
                self._offset += len(line)
                self._take(line)

    def wait_for(self, event: str, count: int) -> bool:
        """Return whether there are ``count`` such lines within PATIENCE."""
        end = time.monotonic() + PATIENCE
        while self.events[event] < count:
            if time.monotonic() > end:
                return False
            time.sleep(0.05)
            self.listen()
        return True

    def _take(self, raw: bytes) -> None:
        try:
            said: Line = json.loads(raw)
        except ValueError:
            # Whoever is killed may leave half a line, which the next life's first line then ends.
            if b'"event"' not in raw:
                self.strange.append(raw.decode(errors="replace")[:200])
            return
        event, reason = said["event"], said.get("reason")
        self.events[event] += 1
        if said["level"] == "critical" or reason in {"unexpected", "stuck"}:
            self.strange.append(raw.decode(errors="replace")[:200])
        if event == "run_finished":
            self.runs[said["job"]] += 1
            self.reasons[reason or "none"] += 1
            if said["job"] == "kept" and said["outcome"] == "succeeded":
                self.delivered.add(said["run"])


@dataclass(frozen=True, slots=True)
class Sample:
    """What a process holds at one instant; ``second`` counts from the first sample."""

    second: float
    rss: int
    descriptors: int
    threads: int


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that must be so."""

    name: str
    good: bool
    detail: str

    def __str__(self) -> str:
        return f"CHECK {self.name} {'PASS' if self.good else 'FAIL'} {self.detail}"


class Soak:
    """One daemon's configuration, state and log, and its lives one after another."""

    BAD: ClassVar[str] = '[jobs.bad]\nurl = "ftp://127.0.0.1/"\n'
    """What makes a configuration one with findings."""

    def __init__(self, folder: Path, upstream: UpstreamProcess, copies: int) -> None:
        self.file = folder / "fetchd.toml"
        self.state = folder / "state"
        self.heard = Heard(folder / "log")
        self.heard.path.touch()
        self.offered: Counter[str] = Counter()
        self.samples: list[Sample] = []
        self.lives = 0
        self._upstream = upstream
        self._copies = copies
        self._dice = random.Random(DICE)  # the same instants each time, as far as the machine allows

    def config(self, number: int = 0, *, quiet: bool = False) -> str:
        """Return the configuration's ``number``-th form; a ``quiet`` one only delivers what is owed."""
        policy = 'deadline = "700ms"\ntimeout = "400ms"\nmax_body = "64KiB"\nretries = 0\n'
        head = f'[daemon]\nstate_dir = "state"\nlisten = "127.0.0.1:0"\n[log]\nformat = "json"\n[defaults]\n{policy}'
        sinks = '[{ kind = "file", path = "kept.jsonl", mode = "append" }, { kind = "sqlite", path = "kept.db" }]'
        every = "1h" if quiet else "200ms"
        kept = (
            f'interval = "{every}"\n[jobs.kept]\nurl = "{self._upstream.url()}"\ndeadline = "200ms"\nsinks = {sinks}\n'
        )
        if quiet:
            return head + kept
        # One job changes with each form, one comes and goes.
        jobs = {name: (url, "1s") for name, url in zip(self.names(), self.urls() * self._copies, strict=True)}
        # Who asks to be left alone is, by all jobs of that host: it has a name of its own.
        jobs["asked-to-wait"] = (self._upstream.url("retryafter/86400/429", host="localhost"), "1s")
        jobs["changing"] = (self._upstream.url(), f"{1000 + number % 7}ms")
        if number % 2:
            jobs["passing"] = (self._upstream.url("hang"), "1s")
        tables = (f'[jobs.{name}]\nurl = "{url}"\ninterval = "{every}"\n' for name, (url, every) in jobs.items())
        return head + kept + "".join(tables)

    def names(self) -> list[str]:
        """Return the jobs that are always there, beside the kept one."""
        return [f"job-{number}" for number in range(len(HOSTILE + PORTS) * self._copies)]

    def urls(self) -> list[str]:
        """Return all that there is to fetch badly."""
        return [self._upstream.url(mode) for mode in HOSTILE] + [url.format(**self._upstream.ports) for url in PORTS]

    def steady(self, seconds: float) -> float:
        """Live one life under load and reloads, stop it in order, and return how long it was watched."""
        self.file.write_text(self.config())
        with self._life() as process:
            start = time.monotonic()
            reload_at = start + RELOAD_EVERY
            for number in itertools.count(1):
                while time.monotonic() < reload_at:
                    self._sample(process.pid, time.monotonic() - start)
                    time.sleep(min(0.5, max(0.0, reload_at - time.monotonic())))
                if time.monotonic() - start > seconds or process.poll() is not None:
                    break
                self._offer(process, number)
                reload_at = max(time.monotonic(), reload_at + RELOAD_EVERY)
            length = time.monotonic() - start
        self.heard.listen()
        return length

    def killed(self, seconds: float) -> int:
        """Kill the daemon at random instants, also before it is ready; return how often."""
        self.file.write_text(self.config())
        end = time.monotonic() + seconds
        for number in itertools.count():
            if time.monotonic() > end:
                return number
            with self._life(ready=bool(number % 4)) as process:
                time.sleep(self._dice.uniform(0.0, 2.0))  # the instant is the point
                process.kill()
                process.wait()
        raise AssertionError

    def settled(self) -> tuple[int, int, int | None]:
        """Let it deliver what is owed; return what is owed and dead then, and how the last life ended."""
        self.file.write_text(self.config(quiet=True))
        end = time.monotonic() + PATIENCE
        with self._life() as process:
            while letters.memory(self.state, "kept").owed and time.monotonic() < end:
                time.sleep(0.2)
            process.terminate()
            code = process.wait(PATIENCE)
        self.heard.listen()
        memory = letters.memory(self.state, "kept")
        return memory.owed, memory.dead, code

    def _life(self, *, ready: bool = True) -> _Life:
        self.lives += 1
        return _Life(self.file, self.heard, ready=ready)

    def _offer(self, process: subprocess.Popen[bytes], number: int) -> None:
        """Have the daemon read another configuration, and wait for its verdict."""
        bad = number % BAD_EVERY == 0
        self.file.write_text(self.config(number) + (self.BAD if bad else ""))
        event = "config_rejected" if bad else "config_reloaded"
        self.offered[event] += 1
        os.kill(process.pid, signal.SIGHUP)
        self.heard.wait_for(event, self.offered[event])

    def _sample(self, pid: int, second: float) -> None:
        self.heard.listen()
        try:
            folder = Path(f"/proc/{pid}")
            descriptors, threads = len(list((folder / "fd").iterdir())), len(list((folder / "task").iterdir()))
        except FileNotFoundError:
            return
        self.samples.append(Sample(second, memory_of([pid]).rss, descriptors, threads))


class _Life:
    """A life of the daemon: entered when it is ready, or at once."""

    def __init__(self, file: Path, heard: Heard, *, ready: bool) -> None:
        self._heard = heard
        self._ready = ready
        self._log = heard.path.open("ab")
        self._daemon = daemon(file, self._log)

    def __enter__(self) -> subprocess.Popen[bytes]:
        self._heard.listen()
        before = self._heard.events["daemon_ready"]
        process = self._daemon.__enter__()
        end = time.monotonic() + START
        while self._ready and self._heard.events["daemon_ready"] == before:
            if process.poll() is not None or time.monotonic() > end:
                self.__exit__(None, None, None)
                raise SystemExit(f"the daemon did not start: {self._heard.path.read_text()[-2000:]}")
            time.sleep(0.05)
            self._heard.listen()
        return process

    def __exit__(self, *raised: Any) -> None:
        self._daemon.__exit__(*raised)
        self._log.close()


def level(samples: Sequence[Sample]) -> Iterator[Check]:
    """Yield whether the last quarter is on the level of the second, after which all is warm."""
    quarter = len(samples) // 4
    early, late = samples[quarter : 2 * quarter], samples[3 * quarter :]
    if not early:
        yield Check("memory", False, f"{len(samples)} samples are too few")
        return
    figures: tuple[tuple[str, Callable[[Sample], int], int, Callable[[float], str]], ...] = (
        ("memory", lambda sample: sample.rss, GAIN, mebibytes),
        ("descriptors", lambda sample: sample.descriptors, GAIN_OF_DESCRIPTORS, "{:.0f}".format),
        ("threads", lambda sample: sample.threads, 1, "{:.0f}".format),
    )
    for name, figure, most, shown in figures:
        first, last = median(map(figure, early)), median(map(figure, late))
        yield Check(name, last - first <= most, f"{shown(first)}, then {shown(last)}")


def slope(samples: Sequence[Sample], runs: int) -> str:
    """Return how memory goes with the runs, from a quarter of the time on."""
    warm = samples[len(samples) // 4 :]
    gain = linear_regression([s.second for s in warm], [s.rss for s in warm]).slope
    return f"{gain * warm[-1].second / max(1, runs) * 1000 / 1024:+.1f} KiB for 1,000 runs"


def kept_slots(heard: Heard, seconds: float, names: Sequence[str]) -> Check:
    """Return whether the jobs with ``names``, each second, and the kept one have run, whatever their upstreams do."""
    due = {**dict.fromkeys(names, seconds), "kept": seconds * 5}
    shares = {name: heard.runs[name] / count for name, count in due.items()}
    poor = [f"{name} {share:.0%}" for name, share in shares.items() if share < SHARE]
    fewest = f"{len(due)} jobs, each with {min(shares.values()):.0%} of its slots at least"
    return Check("slots", not poor, "; ".join([fewest, *poor[:5]]))


def exact(soak: Soak) -> Iterator[Check]:
    """Yield whether the two sinks that promise so hold each result once, and the store is whole."""
    out = soak.state / "out"
    with sqlite3.connect(out / "kept.db") as rows, sqlite3.connect(soak.state / "state.db") as store:
        held = {
            "file": [json.loads(line)["run"] for line in (out / "kept.jsonl").read_text().splitlines()],
            "sqlite": [run for (run,) in rows.execute("SELECT run FROM fetchd")],
        }
        (verdict,) = store.execute("PRAGMA integrity_check").fetchone()
    rows.close()
    store.close()
    for sink, runs in held.items():
        missing, twice = soak.heard.delivered - set(runs), len(runs) - len(set(runs))
        yield Check(f"exact-{sink}", not missing and not twice, f"{len(runs)}; {len(missing)} missing, {twice} twice")
    yield Check("store", verdict == "ok", verdict)


def checks(soak: Soak, seconds: float) -> Iterator[Check]:
    """Do it all, and yield what was found."""
    watched = soak.steady(seconds * 2 / 3)
    runs = soak.heard.runs.total()
    yield from level(soak.samples)
    if len(soak.samples) > 4:
        yield Check("slope", True, f"{slope(soak.samples, runs)}; {runs:,} runs in {watched:.0f} s")
    yield kept_slots(soak.heard, watched, soak.names())
    said = {event: soak.heard.events[event] for event in soak.offered}
    yield Check("reloads", said == soak.offered, f"{dict(said)} of {dict(soak.offered)}")
    kills = soak.killed(seconds / 3)
    owed, dead, code = soak.settled()
    yield Check("kills", kills > 0, f"{kills} kills, {soak.lives} lives, {soak.heard.runs.total():,} runs")
    yield Check("stop", code == 0, f"exit status {code}")
    yield Check("owed", owed == dead == 0, f"{owed} owed, {dead} dead letters")
    yield from exact(soak)
    yield Check("strange", not soak.heard.strange, "; ".join(soak.heard.strange[:3]) or "nothing")


def main(arguments: Sequence[str] | None = None) -> int:
    """Soak, print, and return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak", description=__doc__)
    parser.add_argument("--for", dest="length", default="5m", type=parse_duration, metavar="DURATION", help="5m")
    parser.add_argument("--copies", type=int, default=2, metavar="N", help="jobs for each misbehaviour (2)")
    given = parser.parse_args(arguments)
    failed = 0
    with tempfile.TemporaryDirectory(prefix="soak-") as folder, UpstreamProcess() as upstream:
        soak = Soak(Path(folder), upstream, given.copies)
        for check in checks(soak, given.length):
            print(check, flush=True)
            failed += not check.good
        print(f"reasons: {', '.join(f'{reason} {count:,}' for reason, count in soak.heard.reasons.most_common())}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
