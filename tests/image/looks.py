"""What the image is made of, looked at before anything of it runs for long."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, Final

from tests.image.building import LABELS, build
from tests.image.engine import Engine, said
from tests.image.scenes import Report

TITLE: Final = "org.opencontainers.image"
ASK: Final = """
import importlib.metadata, importlib.util, json, pathlib, sys
import fetchd.app, fetchd.cli.control, fetchd.cli.daemon, fetchd.cli.standing
def state(path):
    # Bytes 4 to 8 of a compiled file: 1 for one that is named by a hash and never compared with its source.
    compiled = pathlib.Path(importlib.util.cache_from_source(path))
    return compiled.read_bytes()[4] if compiled.is_file() else "missing"
packages = "/opt/fetchd/lib/python%d.%d/site-packages" % sys.version_info[:2]
environment = pathlib.Path("/opt/fetchd").rglob("*")
sources = [getattr(module, "__file__", None) or "" for module in list(sys.modules.values())]
print(json.dumps({
    "stale": sorted(path for path in sources if path.endswith(".py") and state(path) != 1),
    "installed": sorted(found.name for found in importlib.metadata.distributions(path=[packages])),
    "writable": sorted(str(path) for path in environment if path.stat().st_mode & 0o022),
}))
"""


def look_at(engine: Engine, name: str, base: str, context: Path, report: Report) -> None:
    """Check what the image says of itself, what is in it, and how large it is."""
    image = engine.inspect("image", name)
    configuration: dict[str, Any] = image["Config"]
    report.check("user_is_a_number", configuration["User"] == "10001:10001", configuration["User"])
    labels = {key: configuration["Labels"].get(f"{TITLE}.{key}") for key in LABELS}
    report.check("labels_are_those_given", labels == LABELS, labels)
    report.check("has_a_health_check", "status" in (image.get("Healthcheck") or {}).get("Test", []))
    ours = (image["Size"] - engine.inspect("image", base)["Size"]) / 1e6
    report.check("size", True, f"{image['Size'] / 1e6:.0f} MB, {ours:.0f} of them ours")
    command = ["podman", "run", "--rm", "--read-only", "--network=none", "--entrypoint=python", name, "-c", ASK]
    answer = engine.call(*command, check=False)
    if answer.returncode:
        report.check("modules_load", False, said(answer))
        return
    seen = json.loads(answer.stdout)
    report.check("modules_are_compiled", not seen["stale"], seen["stale"])
    tools = set(seen["installed"]) & {"pip", "setuptools", "hatchling", "editables"}
    unlocked = set(map(_normal, seen["installed"])) - _locked(context) - {"fetchd"}
    report.check("only_what_is_locked_is_in_it", not tools and not unlocked, sorted(tools | unlocked))
    report.check("nobody_can_change_it", not seen["writable"], seen["writable"])


def build_again(engine: Engine, name: str, base: str, context: Path, report: Report) -> None:
    """Check that a second build comes to the same layers, byte for byte."""
    again = f"{name}-again"
    build(engine, context, base, again)
    first, second = (engine.inspect("image", each)["RootFS"]["Layers"] for each in (name, again))
    report.check("builds_are_the_same", first == second, f"{len(first)} layers")


def _locked(context: Path) -> set[str]:
    return set(re.findall(r"^([a-z0-9-]+)==", (context / "requirements/runtime.txt").read_text(), re.MULTILINE))


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
