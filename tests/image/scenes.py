"""What the image must do, scene by scene; each says ``CHECK name PASS|FAIL detail``."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.image import configs
from tests.image.containers import PATIENCE, Container, Place, until
from tests.image.engine import EngineError, said
from tests.image.network import ADDRESS, Network

WARM: Final = 12.0
"""Seconds after which everything has been loaded, and every way of failing has been met."""
WATCHED: Final = 24.0
GROWTH: Final = 3.0
"""MiB that the daemon may grow by while it is watched."""
PROBES: Final = 3
GRACE: Final = 6
"""Seconds of ``shutdown_grace`` in the configuration."""
STATE: Final = "/var/lib/fetchd"


class Report:
    """Says how each check ended, and remembers how many have failed."""

    def __init__(self) -> None:
        self.passed = 0
        self.failed = 0

    def check(self, name: str, passed: bool, detail: object = "") -> None:
        """Say how a check ended."""
        self.passed += passed
        self.failed += not passed
        words = " ".join(str(detail).split())[-300:]
        sys.stdout.write(f"CHECK {name} {'PASS' if passed else 'FAIL'} {words}".rstrip() + "\n")
        sys.stdout.flush()


@dataclass(frozen=True, slots=True)
class Stage:
    """What the scenes are played with."""

    place: Place
    network: Network
    folder: Path
    report: Report

    def new_folder(self, name: str) -> Path:
        """Return a new folder on this machine."""
        folder = self.folder / name
        folder.mkdir()
        return folder

    def state(self, name: str) -> Path:
        """Return a folder for the state, as volumes of Kubernetes come: root's, writable for the group alone."""
        folder = self.new_folder(name)
        os.chown(folder, 0, configs.USER)
        folder.chmod(0o2775)
        return folder


def refuses_findings(stage: Stage) -> None:
    """A configuration that is wrong, or not there, starts nothing and says why."""
    mounted = configs.written(stage.folder / "wrong", configs.FINDINGS)
    ended = stage.place.once(mounted, arguments=["run"])
    told = re.search(r"config\.toml:\d+: .*interval", said(ended)) is not None
    stage.report.check("findings_exit_78", ended.returncode == 78 and told, said(ended))
    ended = stage.place.once(arguments=["run"])
    told = "/etc/fetchd/config.toml" in said(ended)
    stage.report.check("no_configuration_exit_78", ended.returncode == 78 and told, said(ended))


def keeps_secrets(stage: Stage) -> None:
    """A secret of the environment and one of a file reach the upstream, and nobody who reads along."""
    values = {"env": "words-of-the-environment", "file": "words-of-the-file"}
    files = stage.new_folder("secrets")
    (files / "words").write_text(values["file"])
    options = [
        configs.written(stage.folder / "secret", configs.secret(stage.network)),
        f"--volume={files}:/run/secrets/fetchd:ro",
        f"--env=WORDS={values['env']}",
        "--volume=secret:/var/lib/fetchd",
    ]
    ended = stage.place.once(*options, arguments=["once", "secret"])
    told = said(ended) + said(stage.place.once(*options, arguments=["explain", "secret"]))
    stage.report.check("named_volume_is_writable", ended.returncode == 0, said(ended))
    seen = stage.place.once("--entrypoint=cat", *options, arguments=[f"{STATE}/out/seen.json"]).stdout
    stage.report.check("secrets_are_sent", all(value in seen for value in values.values()), len(seen))
    stage.report.check("secrets_are_not_shown", not any(value in told for value in values.values()), told[-80:])


def takes_another_configuration(stage: Stage) -> None:
    """A changed ConfigMap, a verb and a signal each bring another one into force; findings do no harm."""
    folder = stage.new_folder("watched")
    configs.swapped(folder, "..one", configs.watched(stage.network, "one"))
    with Container(stage.place, "watched", configs.mount(folder)) as container:
        ready = container.wait_for("daemon_ready")
        configs.swapped(folder, "..two", configs.watched(stage.network, "two"))
        taken = container.wait_for("config_reloaded", why="file", added=["two"], removed=["one"])
        stage.report.check("changed_config_map_is_taken", ready and taken, "" if taken else container.text())
        configs.swapped(folder, "..three", configs.FINDINGS)
        refused = container.wait_for("config_rejected", why="file")
        verb = container.exec("fetchd", "reload")
        kept = container.check_health() == 0 and '"two"' in container.exec("fetchd", "status", "--json").stdout
        told = verb.returncode == 78 and "interval" in said(verb)
        stage.report.check("findings_do_no_harm", refused and told and kept, f"exit {verb.returncode}: {said(verb)}")
        configs.swapped(folder, "..four", configs.watched(stage.network, "four"))
        container.hang_up()
        heard = container.wait_for("config_reloaded", why="signal")
        taken = '"four"' in container.exec("fetchd", "status", "--json").stdout
        verb = container.exec("fetchd", "reload")
        stage.report.check("hangup_reaches_the_daemon", heard and taken and verb.returncode == 0, said(verb))


def dies_of_too_little_memory(stage: Stage) -> None:
    """With a limit that nothing would fit in it is killed: the limit is a real one."""
    mounted = configs.written(stage.folder / "small", configs.hostile(stage.network))
    ended = stage.place.once(mounted, "--memory=24m", "--memory-swap=24m", arguments=["run"])
    stage.report.check("memory_limit_is_real", ended.returncode == 137, f"exit {ended.returncode} with 24 MiB")


def reaps_orphans_only_with_an_init(stage: Stage) -> None:
    """Without the image's process 1 the same commands leave zombies: so the check for them can tell."""
    mounted = configs.written(stage.folder / "bare", configs.hostile(stage.network))
    options = [mounted, f"--volume={stage.state('bare-state')}:{STATE}", "--entrypoint=/opt/fetchd/bin/fetchd"]
    with Container(stage.place, "bare", *options) as bare:
        found = until(lambda: bool(bare.inside().zombies(1.0)))
        stage.report.check("zombies_without_init_are_seen", found, bare.inside().zombies(0.1) or bare.text())


def bears_everything(stage: Stage) -> None:
    """One container through its whole life, under an upstream that does all it can, and its successor."""
    configuration = stage.folder / "hostile"
    mounted = configs.written(configuration, configs.hostile(stage.network))
    options = [mounted, f"--volume={stage.state('state')}:{STATE}"]
    with Container(stage.place, "hostile", *options) as container:
        if not container.wait_for("daemon_ready"):
            stage.report.check("starts", False, container.text())
            return
        begun = time.monotonic()
        stage.report.check("starts", True, f"as user {container.exec('id', '-u').stdout.strip()}")
        _is_healthy(stage, container)
        _writes_only_state(stage, container)
        _answers_probes(stage, container)
        _stays_small(stage, container, begun)
        _leaves_no_zombies(stage, container)
        _says_when_stuck(stage, container, configuration / "enough")
        _says_when_it_stands_still(stage, container)
        _drains(stage, container)
    _remembers(stage, options)


def _is_healthy(stage: Stage, container: Container) -> None:
    code = container.check_health()
    stage.report.check("healthy", (code, container.health) == (0, "healthy"), f"exit {code}, {container.health}")


def _writes_only_state(stage: Stage, container: Container) -> None:
    """As root, whose folders they are: another user could not write there, whatever the container allows."""
    folders = f"/ /etc /opt/fetchd /usr /var/log /run /tmp {STATE}"
    tried = f"for folder in {folders}; do touch $folder/x 2> /dev/null && echo $folder; done"
    written = container.exec("sh", "-c", tried, user="0").stdout.split()
    stage.report.check("only_state_can_be_written", written == ["/tmp", STATE], written)
    status = Path(f"/proc/{container.inside().daemon}/status").read_text()
    held = re.search(r"^CapBnd:\s*0+$", status, re.MULTILINE) and re.search(r"^NoNewPrivs:\s*1$", status, re.MULTILINE)
    stage.report.check("has_no_privilege", bool(held) and re.search(r"^Uid:\s*10001", status, re.MULTILINE) is not None)


def _answers_probes(stage: Stage, container: Container) -> None:
    """An orchestrator asks the container's address, in the name of that or of a service."""
    codes = [stage.network.get(f"{ADDRESS}:9475", path, "fetchd.jobs.svc") for path in ("/healthz", "/readyz")]
    stage.report.check("probes_are_answered", codes == [200, 200], codes)
    warned = bool(container.lines("page_exposed"))
    stage.report.check("exposure_is_said", warned)


def _stays_small(stage: Stage, container: Container, begun: float) -> None:
    inside = container.inside()
    until(lambda: time.monotonic() > begun + WARM, WARM)
    first, highest, answers = inside.status("VmRSS"), 0.0, list[int]()
    end = time.monotonic() + WATCHED
    while time.monotonic() < end:
        # As many health checks at a time as an orchestrator may have of its own, and somebody who looks.
        probes = [_asked(stage, container, "status", "--quiet") for _ in range(PROBES)]
        highest = max(highest, inside.status("VmRSS"))
        answers += [probe.wait(PATIENCE) for probe in probes]
        time.sleep(1.0)
    stage.report.check("probes_at_a_time_are_answered", not any(answers), f"{len(answers)}, {PROBES} at a time")
    grown = inside.status("VmRSS") - first
    figures = (
        f"{first:.1f} MiB, then {grown:+.1f}, at the most {highest:.1f}; all of it at the most {inside.peak():.0f}"
    )
    stage.report.check("memory_is_flat", grown <= GROWTH, figures)
    killed = inside.killed_for_memory()
    stage.report.check("nothing_killed_for_memory", killed == 0 and container.state["Running"] is True, killed)
    runs = container.lines("run_finished")
    failed = {line["job"] for line in runs if line["outcome"] not in {"succeeded", "unchanged"}}
    stage.report.check("every_way_ends", failed == configs.FAILING, sorted(failed ^ configs.FAILING) or len(runs))
    for job, interval in (("tagged", 3), ("large", 3), ("worked", 5)):
        done = sum(line["job"] == job and line["outcome"] in {"succeeded", "unchanged"} for line in runs)
        stage.report.check(f"{job}_goes_on", done >= WATCHED / interval, done)


def _leaves_no_zombies(stage: Stage, container: Container) -> None:
    zombies = container.inside().zombies(1.5)
    made = 2 * len(container.lines("run_finished", job="orphans", outcome="succeeded"))
    stage.report.check("orphans_are_reaped", made > 20 and not zombies, f"{made} made, zombies: {zombies}")


def _says_when_stuck(stage: Stage, container: Container, enough: Path) -> None:
    """A run that ignores its cancellation makes the container unhealthy; its end makes it healthy again."""
    with _asked(stage, container, "trigger", "deaf"):
        sick = until(lambda: container.check_health() != 0 and container.health == "unhealthy", 2 * PATIENCE)
        shown = said(container.exec("fetchd", "status", "--quiet"))
        stage.report.check("stuck_is_unhealthy", sick and "deaf" in shown, shown)
        enough.touch()
        well = until(lambda: container.check_health() == 0)
    stage.report.check("then_healthy_again", well and container.health == "healthy", container.health)


def _says_when_it_stands_still(stage: Stage, container: Container) -> None:
    container.kill(signal.SIGSTOP)
    try:
        code = container.check_health()
    finally:
        container.kill(signal.SIGCONT)
    shown = container.last_health_check()
    stage.report.check("stopped_is_unhealthy", code != 0 and "does not answer" in shown, f"exit {code}: {shown}")


def _drains(stage: Stage, container: Container) -> None:
    """What is under way may end within the grace; what does not end is cut off; the exit status is 0."""
    with _asked(stage, container, "trigger", "slow"), _asked(stage, container, "trigger", "endless"):
        running = until(lambda: {"slow", "endless"} <= _running(container))
        code, took = container.stop(2 * GRACE)
    figures = f"exit {code} after {took:.1f} s"
    stage.report.check("drains_with_exit_0", running and code == 0 and took < GRACE + 5, figures)
    ended = bool(container.lines("run_finished", job="slow", outcome="succeeded"))
    cut = bool(container.lines("run_finished", job="endless", outcome="cancelled"))
    told = bool(container.lines("daemon_stopped", exit_status=0))
    stage.report.check("runs_under_way_are_ended", ended and cut and told, f"{ended} {cut} {told}")


def _remembers(stage: Stage, options: list[str]) -> None:
    """Another container with the same volume goes on where the first one was stopped."""
    history = stage.place.once(*options, arguments=["history", "slow"])
    stage.report.check("history_survives", history.returncode == 0 and "succeeded" in history.stdout, said(history))
    again = stage.place.once(*options, arguments=["once", "tagged"])
    stage.report.check("validators_survive", again.returncode == 0 and "unchanged" in said(again), said(again))


def _running(container: Container) -> set[str]:
    """Return the jobs whose run is under way."""
    told = container.exec("fetchd", "status", "--json").stdout
    try:
        rows = json.loads(told)["jobs"]
    except (ValueError, KeyError):
        return set()
    return {row["job"] for row in rows if row.get("running")}


def _asked(stage: Stage, container: Container, *words: str) -> subprocess.Popen[bytes]:
    """Have the daemon do something that may take its time; the context waits for the end of that."""
    return stage.place.engine.begin("podman", "exec", container.name, "fetchd", *words)


SCENES: Final = (
    refuses_findings,
    keeps_secrets,
    takes_another_configuration,
    dies_of_too_little_memory,
    reaps_orphans_only_with_an_init,
    bears_everything,
)


def played(stage: Stage, scenes: Iterable[Callable[[Stage], None]]) -> None:
    """Play the scenes; one that cannot be played to its end fails, and the next one begins."""
    for scene in scenes:
        try:
            scene(stage)
        except (EngineError, OSError, subprocess.SubprocessError) as error:
            stage.report.check(scene.__name__, False, error)
