"""What the page on containers says is done, line by line, with podman in docker's place."""

from __future__ import annotations

import shlex
from typing import Final

from tests.docs.book import DOCS, blocks
from tests.docs.shell import lines
from tests.image import configs
from tests.image.building import CERTIFICATES, trusted
from tests.image.containers import until
from tests.image.engine import said
from tests.image.scenes import Stage

PAGE: Final = DOCS / "how-to/containers.md"
HERE: Final = "tests/image/page.py"


def follows_the_page(stage: Stage) -> None:
    """A reader with a folder ``config`` comes from the first line to the last."""
    folder = stage.new_folder("page")
    configs.written(folder / "config", configs.watched(stage.network, "one"))
    (block,) = (block for block in blocks(PAGE) if block.what == HERE and block.language == "sh")
    for line in lines(block.text):
        words = shlex.split(line.replace("$PWD", str(folder)))
        if words[:2] == ["docker", "build"]:
            continue  # that is what all scenes begin with
        stage.report.check(f"page_says_{words[1]}", *_done(stage, words[1:]))
    stage.place.engine.call("podman", "rm", "--force", "--time=1", "fetchd", check=False)


def can_be_built_upon(stage: Stage) -> None:
    """The page's Dockerfile for what commands need, on top of this image."""
    folder = stage.new_folder("upon")
    (block,) = (block for block in blocks(PAGE) if block.language == "dockerfile")
    (folder / "Dockerfile").write_text(block.text)
    mounted = f"--volume={trusted()}:{CERTIFICATES}:ro"
    how = ("--isolation=chroot", "--network=host", "--format=docker", "--layers=false", mounted, "--tag=upon")
    built = stage.place.engine.call("buildah", "build", *how, str(folder), timeout=120, check=False)
    stage.report.check("can_be_built_upon", built.returncode == 0, said(built))
    user = stage.place.engine.inspect("image", "upon")["Config"]["User"]
    stage.report.check("built_upon_it_is_not_root", user == "10001:10001", user)


def _done(stage: Stage, words: list[str]) -> tuple[bool, str]:
    if words[0] == "run":
        words[1:1] = [f"--network={stage.place.network}", f"--cgroup-parent={stage.place.engine.cgroup}"]
    ended = stage.place.engine.call("podman", *words, check=False)
    if words[0] == "exec" and ended.returncode:  # who types needs longer than the daemon for its start
        until(lambda: stage.place.engine.call("podman", *words, check=False).returncode == 0)
        ended = stage.place.engine.call("podman", *words, check=False)
    return ended.returncode == 0, said(ended)
