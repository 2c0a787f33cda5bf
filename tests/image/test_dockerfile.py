"""What can be said of the image without building it; ``make test-image`` builds and runs it."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path
from typing import Final

import pytest

from fetchd.cli import main
from fetchd.control.client import PATIENCE
from tests.image.dockerfile import Stage, stages_of

ROOT: Final = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def stages() -> list[Stage]:
    """The stages of the Dockerfile."""
    return stages_of(ROOT / "Dockerfile")[1]


@pytest.fixture(scope="module")
def final(stages: list[Stage]) -> Stage:
    """The stage that becomes the image."""
    return stages[-1]


def test_the_linter_finds_nothing() -> None:
    """hadolint knows more traps of Dockerfiles than these tests."""
    program = shutil.which("hadolint", path=str(Path(sys.executable).parent))
    assert program, "hadolint is not there: make setup"
    found = subprocess.run([program, "--no-color", ROOT / "Dockerfile"], capture_output=True, text=True, check=False)
    assert (found.returncode, found.stdout) == (0, "")


def test_the_base_has_a_version_and_can_be_named_by_digest() -> None:
    """A base without a version is another one each month; one by digest is the same for ever."""
    arguments, stages = stages_of(ROOT / "Dockerfile")
    assert re.fullmatch(r"python:3\.\d+-slim-[a-z]+", arguments["BASE"])
    named = {stage.name for stage in stages}
    assert {stage.base for stage in stages} <= {"${BASE}"} | named


def test_nothing_is_installed_that_is_not_locked(stages: list[Stage]) -> None:
    """What pip fetches is compared with its hash; what it installs comes from there."""
    steps = [step for stage in stages for run in stage.all("RUN") for step in run.split("&&") if "pip" in step]
    calls = [step for step in steps if re.search(r"\bpip\b.* (install|download|wheel) ", step)]
    assert len(calls) >= 3
    for call in calls:
        assert "--require-hashes" in call or "--no-index" in call, call
    packages = [
        step for stage in stages for run in stage.all("RUN") for step in run.split("&&") if "apt-get inst" in step
    ]
    for step in packages:
        named = [word for word in step.split()[2:] if not word.startswith("-")]
        assert all("=" in word for word in named), step


def test_the_image_is_made_of_the_finished_environment_alone(final: Stage) -> None:
    """No source, no lock, no tool and no cache of the build comes along."""
    assert all(copy.startswith("--from=build ") for copy in final.all("COPY"))
    assert not final.all("ADD")


def test_what_is_copied_is_not_ignored(stages: list[Stage]) -> None:
    """The build sees nothing but what .dockerignore lets through, and that all of it."""
    kept = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    wanted = {word for stage in stages for copy in stage.all("COPY") for word in copy.split()[:-1] if "--" not in copy}
    assert wanted == set(kept)
    assert all((ROOT / name).exists() for name in kept)
    assert not any(
        fnmatch(name, secret)
        for name in kept
        for secret in (".git*", "*.toml.*", "secrets*", "config", "config/*", "*config.toml")
    )


def test_the_user_is_a_number_that_is_not_root(final: Stage) -> None:
    """An orchestrator that must not run root cannot read names."""
    assert final.all("USER") == ["10001:10001"]


def test_signals_and_orphans_are_taken_care_of(final: Stage) -> None:
    """Process 1 is an init that knows its trade, and no shell stands between it and the daemon."""
    assert final.words("ENTRYPOINT") == ["/usr/bin/tini", "-s", "--", "fetchd"]
    assert final.words("CMD") == ["run"]
    assert final.all("STOPSIGNAL") == ["SIGTERM"]


def test_the_health_check_outlasts_the_daemons_silence(final: Stage) -> None:
    """Cut off before ``status`` gives up, it could not say why."""
    check = final.all("HEALTHCHECK")[-1]
    options = dict(re.findall(r"--([a-z-]+)=(\d+)s", check))
    assert int(options["timeout"]) > PATIENCE
    assert int(options["interval"]) >= int(options["timeout"])
    assert re.search(r'CMD \["fetchd", "status", "--quiet"\]', check)
    assert "status" in main.commands


def test_only_the_state_is_to_be_written(final: Stage) -> None:
    """The same folder is the volume, the state, and the place that the daemon starts in."""
    folder = "/var/lib/fetchd"
    assert final.all("VOLUME") == [folder]
    assert final.all("WORKDIR") == [folder]
    assert f"STATE_DIRECTORY={folder}" in " ".join(final.all("ENV"))


def test_compiled_files_do_not_depend_on_dates(stages: list[Stage]) -> None:
    """Dates of an image's files are rewritten; compiled files that name them would be stale for ever."""
    calls = [step for stage in stages for run in stage.all("RUN") for step in run.split("&&") if "compileall" in step]
    assert len(calls) == 2
    for call in calls:
        assert "PYTHONHASHSEED=0" in call
        assert "--invalidation-mode unchecked-hash" in call


def test_labels_say_what_it_is_and_where_from(final: Stage) -> None:
    """Version, revision and source are only known to whoever builds it."""
    labels = " ".join(final.all("LABEL"))
    for name in ("VERSION", "REVISION", "SOURCE"):
        assert f"{name}=unknown" in final.all("ARG")
        assert f'org.opencontainers.image.{name.lower()}="${{{name}}}"' in labels
